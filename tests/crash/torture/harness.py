"""Draws the lives of a seed, kills them, and counts what they found.

    harness ──fork──▶ life ──pipe──▶ "open", "act rerun", "closing", "found …"
       └────SIGKILL────▲   so many milliseconds after one of these, or when the store's log has been written so often

The harness itself imports nbbatch and opens nothing, so that a life is a fork of it: milliseconds instead of a second.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.crash.torture.chains import draw
from tests.crash.torture.life import HARD, Action, World, live
from tests.crash.torture.rules import Rules

ACTIONS = {
    "pause": 2, "resume": 3, "pause_resume": 1, "cancel": 2, "retry": 3, "rerun": 5, "skip": 1.5, "skip_first": 0.1,
    "retry_group": 1.5, "purge": 1, "purge_other": 0.5, "mend": 2, "sub": 2,
}  # fmt: skip
"""What a user may do, and how often it is drawn."""


class Kill(NamedTuple):
    """When a life is killed."""

    word: str
    """What it says before, "commit" when the store's log is written, or "" for never."""
    count: int
    """At the how many-th time."""
    wait: float
    """Seconds after that."""


@dataclass
class Tally:
    """What happened, over all seeds."""

    seeds: int = 0
    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    actions: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0
    """Actions that came at a wrong moment, with an error that says so."""
    found: dict[int, list[tuple[str, str]]] = field(default_factory=dict[int, list[tuple[str, str]]])

    def summary(self) -> str:
        """All of it in a line."""
        kinds = Counter(kind for found in self.found.values() for kind in {kind for kind, _ in found})
        others = ", ".join(
            f"{count} {kind}" for kind, count in kinds.items() if kind not in ("lost", "doubled", "illegal")
        )
        return (
            f"{self.seeds} seeds, {self.lives} lives, {self.kills.total()} kills, {self.actions.total()} actions "
            f"({self.refused} refused): "
            f"seeds with {kinds['lost']} lost, {kinds['doubled']} doubled, {kinds['illegal']} illegal"
            f"{', ' if others else ''}{others}; failed seeds: {sorted(self.found) or 'none'}"
        )


def torture(
    seed: int,
    tally: Tally,
    *,
    without: Collection[str] = (),
    ignore: Collection[str] = (),
    kind: str = "",
    keep: bool = False,
) -> bool:
    """All lives of one seed. Prints a line; returns whether nothing was found."""
    dice = random.Random(f"lives {seed}")
    drawn = dice.choices(("threads", "inline", "processes"), (6, 3, 1))[0]
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{seed}-"))
    rules = Rules(seed, str(folder / "mended"), dice.choice((0.0, 0.002, 0.008)))
    Path(rules.mended).write_text("0")
    world = World(folder, draw(seed, without), rules, kind or drawn)
    began, killed, found = time.monotonic(), 0, list[tuple[str, str]]()
    lives = dice.randint(2, 8)
    for number in range(lives + 1):
        last = number == lives
        actions = _actions(dice, without, last=last)
        died, told = _life(world, actions, Kill("", 0, 0) if last else _kill(dice, world, actions), tally, last=last)
        killed += died
        found.extend(each for each in told if each[0] not in ignore)
    tally.seeds += 1
    if found:
        tally.found[seed] = found
    print(f"seed {seed}: {world.kind}, {lives + 1} lives, {killed} kills, {time.monotonic() - began:.1f} s: "
          f"{'right' if not found else ''}", flush=True)  # fmt: skip
    for each, texts in _by_kind(found).items():
        print("\n".join(f"    {each}: {text}" for text in texts[:3]), f"({len(texts)})", flush=True)
    if keep and found:
        print(f"    kept in {folder}")
    else:
        shutil.rmtree(folder)
    return not found


def _by_kind(found: list[tuple[str, str]]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for kind, text in dict.fromkeys(found):
        kinds[kind].append(text)
    return kinds


def _actions(dice: random.Random, without: Collection[str], *, last: bool) -> tuple[Action, ...]:
    most = 2 if last else dice.choice((0, 1, 1, 2, 3, 4))
    names = dice.choices(list(ACTIONS), list(ACTIONS.values()), k=most)
    drawn = [
        Action(
            name,
            dice.choice(("before", "during", "during", "late")),
            dice.random() * dice.choice((0.02, 0.2)),
            dice.randrange(10**6),
        )
        for name in names
    ]
    return tuple(each for each in drawn if each.name not in without)


def _kill(dice: random.Random, world: World, actions: tuple[Action, ...]) -> Kill:
    slow = 6 if world.kind == "processes" else 1
    kinds = {"open": 5, "commit": 5, "act": 3 if actions else 0, "closing": 1, "opening": 1, "": 1}
    word = dice.choices(list(kinds), list(kinds.values()))[0]
    count = dice.randint(1, 30) if word == "commit" else dice.randint(1, max(1, len(actions)))
    longest = {"open": 0.4 * slow, "act": 0.02, "closing": 0.03, "opening": 0.06, "commit": 0.0015, "": 0.0}[word]
    return Kill(word, count if word in ("commit", "act") else 1, dice.random() * longest)


def _life(
    world: World, actions: tuple[Action, ...], kill: Kill, tally: Tally, *, last: bool
) -> tuple[bool, list[tuple[str, str]]]:
    """One life; whether it was killed, and what it found."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        _be(world, actions, theirs, last=last)
    os.close(theirs)
    watch = _Watch(world, child, ours, kill)
    try:
        watch.run()
    finally:
        os.close(ours)
    tally.lives += 1
    tally.kills[kill.word] += watch.killed
    tally.actions.update(watch.done)
    tally.refused += watch.refused
    return watch.killed, watch.found


def _be(world: World, actions: tuple[Action, ...], pipe: int, *, last: bool) -> None:
    """In the fork: live and die."""
    code = 1
    try:
        os.setsid()
        said = os.open(world.folder / "said", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(said, 1)
        os.dup2(said, 2)
        live(world, actions, pipe, last=last)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Watch:
    """Reads what a life says, and kills it."""

    def __init__(self, world: World, child: int, pipe: int, kill: Kill) -> None:
        self._log = Path(f"{world.store}.wal")
        self._child, self._pipe, self._kill = child, pipe, kill
        self._text = b""
        self._seen, self._size = 0, self._written()
        self._at: float | None = None
        self.killed = False
        self.done: list[str] = []
        self.refused = 0
        self.found: list[tuple[str, str]] = []
        self._bye = False

    def run(self) -> None:
        until = time.monotonic() + HARD + 10
        while self._read():
            if self._kill.word == "commit":
                self._look()
            if self._at is not None and time.monotonic() >= self._at and not self.killed:
                self.killed = True
                self._end()
            if time.monotonic() > until:
                self.found.append(("hang", f"a life did not end; the last it did was {self.done[-1:]}"))
                self._end()
                break
        _, status = os.waitpid(self._child, 0)
        with suppress(ProcessLookupError):  # workers that outlive it
            os.killpg(self._child, signal.SIGKILL)
        if not self.killed and not self._bye and not self.found:
            self.found.append(("crash", f"a life ended by itself with status {status}"))

    def _end(self) -> None:
        try:
            os.killpg(self._child, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet
            os.kill(self._child, signal.SIGKILL)

    def _read(self) -> bool:
        """Take in what is said, for a moment; False once it says no more."""
        wait = 0.0003 if self._kill.word == "commit" else 0.002 if self._at else 0.05
        ready, _, _ = select.select([self._pipe], [], [], wait)
        if not ready:
            return not self._bye
        data = os.read(self._pipe, 65536)
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._hear(*line.decode().split(" ", 1))
        return bool(data) and not self._bye

    def _hear(self, word: str, rest: str = "") -> None:
        if word == "found":
            self.found.append(tuple(json.loads(rest)))
        elif word == "act":
            self.done.append(rest)
        elif word == "refused":
            self.refused += 1
        self._bye = self._bye or word == "bye"
        if word == self._kill.word:
            self._count()

    def _look(self) -> None:
        """Whether the store's log was written."""
        size = self._written()
        if size != self._size:
            self._size = size
            self._count()

    def _written(self) -> int:
        """Bytes of the store's log."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _count(self) -> None:
        self._seen += 1
        if self._seen == self._kill.count:
            self._at = time.monotonic() + self._kill.wait
