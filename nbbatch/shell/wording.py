"""What the library says to people who write Python, said to those who type commands: ``run.resume()`` is ``nbbatch resume STORE ID``."""

from __future__ import annotations

import re

_COMMANDS = {
    "resume": "resume", "retry": "retry", "pause": "pause", "cancel": "cancel", "skip": "skip", "errors": "errors", "chunks": "chunks",
    "result": "show", "steps": "show", "outputs": "outputs",
}  # fmt: skip
"""Methods of a run, and the commands that do it."""
_OPTIONS = ("overwrite", "new", "key", "params", "limit", "older_than", "keep_last", "workers")
"""Arguments that are options of a command too."""

_CALLED = rf"\.({'|'.join(_COMMANDS)})\((?:job)?\)"
_RUN = re.compile(rf"\brun{_CALLED}")
_INSTANCE = re.compile(rf"\bbatch\.instance\((\d+)(?:, job)?\){_CALLED}")
_NAMED = re.compile(r"(?<![\w.])(resume|retry|pause|cancel|skip|purge)\(\)")
_LISTED = re.compile(r"\b(?:batch|look)\.instances\(\)")
_LOOKED = re.compile(r"\bnb\.look\((?:'[^']*'|\"[^\"]*\"|path)\)")
_OPTION = re.compile(rf"(?<![\w/.-])({'|'.join(_OPTIONS)})=(?:True\b)?(?=[\s,;.:)]|$)")


def in_commands(text: str) -> str:
    """A text of the library with commands and options in place of calls and arguments.

    >>> in_commands("instance 3 is PAUSED; run.resume() lets it go on"), in_commands("x.duckdb exists; overwrite=True replaces it")
    ('instance 3 is PAUSED; nbbatch resume STORE ID lets it go on', 'x.duckdb exists; --overwrite replaces it')
    >>> in_commands("batch.instance(3, job).retry() runs what failed there again"), in_commands("/data/key=3/a.duckdb")
    ('nbbatch retry STORE 3 runs what failed there again', '/data/key=3/a.duckdb')
    """
    text = _INSTANCE.sub(lambda found: f"nbbatch {_COMMANDS[found[2]]} STORE {found[1]}", text)
    text = _RUN.sub(lambda found: f"nbbatch {_COMMANDS[found[1]]} STORE ID", text)
    text = _NAMED.sub(r"nbbatch \1", text)
    text = _LOOKED.sub("nbbatch ls STORE", _LISTED.sub("nbbatch ls STORE", text))
    return _OPTION.sub(lambda found: f"--{found[1].replace('_', '-')}", text)
