"""The command as a whole: its parts, its help, and what it exits with."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nbbatch.base.interrupts import behind
from nbbatch.shell import exit_codes, launching, listing, printing, seeing, steering, watching, wording
from nbbatch.shell.exit_codes import Exit

_EPILOG = f"""\b
Exit codes:
{exit_codes.table()}

\b
Completion: eval "$(_NBBATCH_COMPLETE=bash_source nbbatch)"; zsh_source and fish_source for those."""


@click.group(name="nbbatch", epilog=_EPILOG)
@click.version_option(package_name="nbbatch", prog_name="nbbatch")
def nbbatch() -> None:
    """See, run and steer the jobs of nbbatch stores, whoever holds them.

    STORE is the path of a store's file, ID the number of an instance, or key=NAME of one that was submitted with a key.
    """


for _command in (
    listing.ls, seeing.show, seeing.chunks, seeing.errors, seeing.outputs, watching.watch, launching.run, steering.pause, steering.resume,
    steering.cancel, steering.retry, steering.skip, steering.purge, steering.backup, steering.export,
):  # fmt: skip
    nbbatch.add_command(_command)


def run(words: Sequence[str] | None = None) -> int:
    """Do what the words say, those of the process by default; returns the exit code."""
    try:
        with printing.notices():
            return int(nbbatch.main(words, prog_name="nbbatch", standalone_mode=False) or Exit.DONE)
    except click.Abort:
        return Exit.PUT_BACK
    except Exception as error:
        if behind(error) is not None:
            return Exit.PUT_BACK
        code = exit_codes.of_error(error)
        if code is None:
            raise
        printing.refusal(error)
        return code
    finally:
        wording.forget()
