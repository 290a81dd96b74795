"""``python -m benchmarks``: durable runs beside pools that remember nothing and peers that do, as ratios of one run."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks import again, cliffs, cluster, peers
from benchmarks.measure import Figure, save
from benchmarks.workloads import ALL


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", help=f"some of {', '.join(ALL)}, W11 to W14, C, peers, again; default: all"
    )
    parser.add_argument("--full", action="store_true", help="the sizes that take long: millions of chunks, five runs")
    parser.add_argument("--runs", type=int, help="times each side runs; default 3, with --full 5")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures are kept")
    parser.add_argument(
        "--peers", default=sys.executable, help="the Python of the environment that has other libraries"
    )
    arguments = parser.parse_args()
    known = {
        **ALL,
        "W11": cluster.w11,
        "W12": cluster.w12,
        "W13": cluster.w13,
        "W14": cluster.w14,
        "C": cliffs.measure,
        "peers": partial(peers.measure, python=arguments.peers),
        "again": partial(again.measure, python=arguments.peers),
    }
    names = arguments.workloads or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    runs = arguments.runs or (5 if arguments.full else 3)
    print(f"medians of {runs} runs by turns (least to most); a claim stands at the end of its line")
    figures: list[Figure] = []
    for name in names:
        for figure in known[name](runs, arguments.full):
            print(figure, flush=True)
            figures.append(figure)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    save(figures, arguments.json)
    print(f"kept in {arguments.json}")


if __name__ == "__main__":
    main()
