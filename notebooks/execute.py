"""Execute notebooks and store what they show: ``python notebooks/execute.py NOTEBOOK...``; look at the difference afterwards."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    from run_demo import execute  # beside this file: there only when it runs as a script
    from strip import strip_file

    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    for each in parser.parse_args().notebooks:
        execute(each.resolve(), each.resolve())
        print(each, "stripped" if strip_file(each) else "unchanged")


if __name__ == "__main__":
    main()
