"""What the library says to people who write Python, said to those who type commands: ``run.resume()`` is ``nbbatch resume STORE ID``."""

from __future__ import annotations

import re
import shlex

_COMMANDS = {
    "resume": "resume", "retry": "retry", "pause": "pause", "cancel": "cancel", "skip": "skip", "errors": "errors", "chunks": "chunks",
    "result": "show", "steps": "show", "outputs": "outputs",
}  # fmt: skip
"""Methods of a run, and the commands that do it."""
_OPTIONS = ("overwrite", "new", "key", "params", "limit", "older_than", "keep_last", "workers")
"""Arguments that are options of a command too."""

_CALLED = rf"\.({'|'.join(_COMMANDS)})\((?:job)?\)"
_RUN = re.compile(rf"\brun{_CALLED}")
_RESUMED = re.compile(r"\bbatch\.resume\(job\)")
_NUMBER = re.compile(r"\binstance (\d+)")
_INSTANCE = re.compile(rf"\bbatch\.instance\((\d+)(?:, job)?\){_CALLED}")
_NAMED = re.compile(r"(?<![\w.])(resume|retry|pause|cancel|skip|purge)\(\)")
_LISTED = re.compile(r"\b(?:batch|look)\.instances\(\)")
_LOOKED = re.compile(r"\bnb\.look\((?:'[^']*'|\"[^\"]*\"|path)\)")
_OPTION = re.compile(rf"(?<![\w/.-])({'|'.join(_OPTIONS)})=(?:True\b)?(?=[\s,;.:)]|$)")


_RUNS_HERE = ("resume", "retry")
"""Commands that name the job where nobody holds the store."""
_named: dict[str, str] = {}
"""What the command that is carried out was given: STORE, ID and JOB, so that hints can be pasted."""


def name(**given: object) -> None:
    """Remember what a command is about: ``STORE``, ``ID`` and ``JOB``; None is nothing."""
    _named.update({word: str(value) for word, value in given.items() if value is not None})


def forget() -> None:
    """Another command begins."""
    _named.clear()


def typed(command: str, instance: object = None, *more: object) -> str:
    """A command as it can be pasted, as far as it is known what it is about.

    >>> typed("errors", 3), typed("retry")
    ('nbbatch errors STORE 3', 'nbbatch retry STORE ID')
    """
    words = [
        command,
        _named.get("STORE", "STORE"),
        *([] if command == "ls" else [instance or _named.get("ID", "ID")]),
        *more,
    ]
    job = ["--job", _named["JOB"]] if command in _RUNS_HERE and "JOB" in _named else []
    return shlex.join(["nbbatch", *map(str, words), *job])


def in_commands(text: str) -> str:
    """A text of the library with commands and options in place of calls and arguments.

    >>> in_commands("instance 3 is PAUSED; run.resume() lets it go on"), in_commands("x.duckdb exists; overwrite=True replaces it")
    ('instance 3 is PAUSED; nbbatch resume STORE 3 lets it go on', 'x.duckdb exists; --overwrite replaces it')
    >>> in_commands("batch.instance(3, job).retry() runs what failed there again"), in_commands("/data/key=3/a.duckdb")
    ('nbbatch retry STORE 3 runs what failed there again', '/data/key=3/a.duckdb')
    """

    def of_run(found: re.Match[str]) -> str:
        before = _NUMBER.findall(text, 0, found.start())
        return typed(_COMMANDS[found[1]], before[-1] if before else None)

    text = _INSTANCE.sub(lambda found: typed(_COMMANDS[found[2]], found[1]), text)
    text = _RUN.sub(of_run, text)
    text = _RESUMED.sub(lambda _: typed("resume"), text)
    text = _NAMED.sub(r"nbbatch \1", text)
    for listing in (_LISTED, _LOOKED):
        text = listing.sub(lambda _: typed("ls"), text)
    return _OPTION.sub(lambda found: f"--{found[1].replace('_', '-')}", text)
