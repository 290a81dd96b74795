"""What stands in for the engine of a store that is looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nbbatch.base.clock import SystemClock
from nbbatch.base.errors import StateError
from nbbatch.base.states import InstanceStatus
from nbbatch.engine.now import Running
from nbbatch.serving.looking import Looked


class LookedEngine:
    """Stands in for the engine of a store that is looked at: what is live there, and the time. It does nothing."""

    def __init__(self, store: Looked) -> None:
        self.store = store
        self.clock = SystemClock()
        self.live = _Live(store)
        self.now = _Now()
        self.secrets: dict[int, dict[str, str]] = {}

    def call(self, *_: Any) -> Any:
        """Orders go to the owner; all else is refused."""
        raise StateError(
            f"this only looks at {self.store.path}: pause, resume, cancel, retry and skip go to the process that holds it, "
            f"all else is done there, or here after nb.open({self.store.path!r})"
        )

    def hung(self) -> str | None:
        """Told with each instance."""
        return None

    def hindrance(self, live: Any) -> str | None:
        """Why chunks of an instance wait."""
        return live.hung or live.why


class _Now:
    """What runs, as the owner told it with the instance."""

    def running(self, live: Any) -> list[Running]:
        return live.running

    def workers(self, live: Any) -> int:
        return live.workers


class _Live:
    """The instances that an engine works on, asked for one by one."""

    def __init__(self, store: Looked) -> None:
        self._store = store

    def get(self, instance: int) -> Any:
        """One of them; None: no engine works on it."""
        said = self._store.live(instance)
        if said is None:
            return None
        status, share, counts = InstanceStatus(said["status"]), float(said["progress"]), map(tuple, said["counts"])

        def eta(_: int) -> float | None:
            return said["eta"]

        return SimpleNamespace(
            id=instance, status=status, paused=status is InstanceStatus.PAUSED, share=share, stored_counts=tuple(counts),
            started_us=said["started_us"], rate=lambda: said["rate"], eta=eta, step_etas=lambda: said["etas"], why=said["why"], hung=said["hung"],
            running=[Running(*each) for each in said["running"]], workers=said["workers"], failing=said["failing"], life=said["life"], reused=said["reused"],
            job=None, params=None,
        )  # fmt: skip

    def __contains__(self, instance: int) -> bool:
        return self._store.live(instance) is not None

    def __bool__(self) -> bool:
        return self._store.owner is not None
