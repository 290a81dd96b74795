"""`look`: read and control a store that another process, or nobody, has open."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, overload

from nbbatch import batch as batches
from nbbatch.base import ranges
from nbbatch.base.errors import StateError, StoreError
from nbbatch.base.names import Answering
from nbbatch.base.rows import Ended, InstanceRow
from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.base.times import Moment, portable
from nbbatch.definition import JobDefinition
from nbbatch.engine import commands
from nbbatch.engine.dispatcher import Engine
from nbbatch.future import Timeout
from nbbatch.instance import Access, checked_id, saw, seen
from nbbatch.overview import Overview, job_name
from nbbatch.run import JobHandle
from nbbatch.serving import wire
from nbbatch.serving.looked_engine import LookedEngine
from nbbatch.serving.looking import Held, Looked
from nbbatch.store import backup, copying, frames
from nbbatch.values.outside import told, whole

if TYPE_CHECKING:
    import polars as pl

POLL_SECONDS = 0.2


@overload
def look(path: str | os.PathLike[str] = "nbbatch.duckdb", *, values: str | None = None) -> Look: ...
@overload
def look(path: Iterable[str | os.PathLike[str]], *, values: str | None = None) -> Looks: ...
def look(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = "nbbatch.duckdb", *, values: str | None = None
) -> Look | Looks:
    """Read a store without opening it, whether another process, another notebook or nobody has it open.

    While a process of this user has the store open, that process answers (using at most 5 % of a core while it works). Otherwise
    a copy of the file is read, and copied again when the file has changed. A look prevents nobody from opening the store.

    Args:
        path: The store; or a folder or several paths, for one table over all of them; or the ``batch.address`` of a process on
            another machine.
        values: Where the files of big values are (see `open`), if that is a URL, or a folder that is elsewhere now.

    Returns:
        A `Look`. For several paths and for a folder, `Looks` (type checkers cannot tell a folder from a file).

    Raises:
        StoreUnreadable: There is no store, or it is damaged.
        StoreError: Nobody answers at the address.

    Example:
        >>> with nb.look("shop.duckdb") as look:
        ...     look.instances().filter(id=1)["job"].item()
        'shop'
    """
    if values is not None:
        told(values)
    if isinstance(path, str | os.PathLike):
        name = os.fspath(path)
        if name.startswith("nbbatch://"):
            return Look("", address=name)
        place = _real(name)
        return Looks(sorted(map(_real, place.glob("*.duckdb")))) if place.is_dir() else Look(str(place))
    return Looks(map(_real, path))


def _real(path: str | os.PathLike[str]) -> Path:
    """Where a store's file is: beside it, not beside a link to it, are its log and the way to its owner."""
    return Path(os.path.realpath(Path(path).expanduser()))


class Look(Overview):
    """A store, read from outside; made by `look`. It has the frames, pictures and panels of a batch. A context manager.

    Attributes:
        path: The store's file.

    Example:
        >>> with nb.look("shop.duckdb") as look:
        ...     look.instance(1).result()
        7.5
    """

    _WHAT = "a look"
    _INDEX = "look.instance(id) gives the handle of an instance, look.instances() a frame of all"
    _MEANT: ClassVar[Mapping[str, str]] = {
        "submit run resume": "a look starts nothing: nb.open(path) does, where nobody else holds the store",
        "get find load handle": "look.instance(id) gives the handle of an instance",
        "pause cancel retry skip": "look.instance(id) gives a handle, which has it",
    }

    def __init__(self, path: str, address: str | None = None) -> None:
        self._looked = Looked(path, _held, wire.parsed(address) if address else None)
        self.path = self._looked.path
        # what a look has of an engine: what is live, and the time
        self._access = Access(self._looked, cast("Engine", LookedEngine(self._looked)), self)

    @property
    def via(self) -> str:
        """How it is read: from the "owner" (the process that has it open), a "copy" of the file, or a "batch" of this process.

        Example:
            >>> with nb.look(batch.backup("copy.duckdb", overwrite=True)) as look:
            ...     look.via
            'copy'
        """
        return self._looked.via

    @property
    def owner(self) -> int | None:
        """Id of the process that has the store open and answers; None if there is none.

        Example:
            >>> with nb.look(batch.backup("copy.duckdb", overwrite=True)) as look:
            ...     look.owner is None  # nobody has it open
            True
        """
        return self._looked.owner

    @property
    def age(self) -> float:
        """Seconds since the state that is shown; 0 if an owner answers.

        Example:
            >>> with nb.look("shop.duckdb") as look:
            ...     look.age >= 0  # seconds
            True
        """
        return self._looked.age

    def instance(self, instance: int, job: JobDefinition[Any, Any] | None = None) -> LookedRun:
        """Return the handle of an instance. Its ``pause()``, ``resume()``, ``cancel()``, ``retry()`` and ``skip()`` ask the owner.

        With its ``job``, values are read by its types; without, they are JSON values, with frames and arrays as such.

        Args:
            instance: Its id.
            job: Its job, as this process has it. The owner is not told of it.

        Raises:
            NotFoundError: There is no such instance.
            StateError: The instance belongs to another job.
            TypeError: ``instance`` is not an id, or ``job`` is not a job.
            StoreClosed: The look is closed.

        Example:
            >>> with nb.look("shop.duckdb") as look:
            ...     look.instance(1).steps()["completed"].to_list()
            [1, 3, 1]
        """
        row = self._looked.stored_instance(checked_id("an instance", instance))
        if job is not None:
            commands.check_name(job, row)
            job.renew()
            saw(job)
        return LookedRun(self._access, row.id, cast("Any", seen(row)))

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a complete copy of the store, as ``batch.backup`` does, while its owner works on.

        Args:
            path: Where to write it.
            overwrite: Replace an existing file.

        Raises:
            FileExistsError: The file exists already.
            StoreError: The copy cannot be written, or the store is on another machine.

        Example:
            >>> with nb.look("shop.duckdb") as look:
            ...     look.backup("another.duckdb", overwrite=True).name
            'another.duckdb'
        """
        if own := batches.holder_of(self.path):
            return own.backup(path, overwrite=overwrite)
        source = copying.Source(self.path)
        try:
            return backup.write(source, Path(path), batches.holder_of, whole, overwrite=overwrite)
        finally:
            source.close()

    def purge(
        self, *, older_than: Moment | None = None, keep_last: int | None = None, status: str | Iterable[str] | None = None,
        job: str | None = None,
    ) -> int:  # fmt: skip
        """Ask the owner to delete ended instances permanently, as ``batch.purge`` does; returns how many.

        Their space in the file is reused, and returned to the disk once the owner closes the store.

        Args:
            older_than: Only instances that ended before this time, as for ``batch.purge``; text without a zone is local time here.
            keep_last: Keep this many instances of each job, those that ended last.
            status: Only instances that ended in this state, or in one of these states; default: any.
            job: Only instances of the job of this name.

        Raises:
            StateError: Nobody has the store open.
            ValueError: As for ``batch.purge``.
            TypeError: ``job`` is not a name.
            StoreError: The owner cannot write, or is gone; or the look is closed (StoreClosed).

        Example:
            >>> nb.look("shop.duckdb").purge(older_than="30 days")  # doctest: +SKIP
        """
        now = self._access.engine().clock.now()
        states = status if status is None or isinstance(status, str) else [str(each) for each in status]
        kept = None if keep_last is None else ranges.whole(keep_last, "keep_last=", least=0)
        return int(
            self._looked.order(
                "purge", older_than=portable(older_than, now, "older_than="), keep_last=kept, status=states, job=job_name(job)
            )
        )  # fmt: skip

    def close(self) -> None:
        """Stop reading; the store is not changed. A second call does nothing.

        Example:
            >>> look = nb.look("shop.duckdb")
            >>> look.close()
        """
        self._access.close()
        self._looked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._access.usable:
            return f"<Look at {self.path}, closed>"
        from nbbatch.pictures import static

        try:
            counts = static.counted(self._looked.fetch("count_by_status"), "instance")
            owner = self._looked.owner
        except StoreError as error:
            return f"<Look at {self.path}: {error}>"
        how = f"held by process {owner}" if owner else f"as of {self.age:.1f} s ago, nobody that answers holds it"
        return f"<Look at {self.path}: {counts}; {how}>"


def _held(path: str) -> Held | None:
    """The store, where this process holds it itself."""
    own = batches.holder_of(path)
    if own is None or not own.usable:
        return None
    return Held(own._store, own._order)  # pyright: ignore[reportPrivateUsage]


class LookedRun(JobHandle[Any]):
    """An instance of a store that is read from outside."""

    def _ask(self, order: str, **more: Any) -> Any:
        self._engine()
        return cast("Looked", self._store).order(order, self.id, **more)

    def pause(self) -> LookedRun:
        """Ask the owner to stop claiming chunks of the instance.

        Raises:
            StateError: The instance has ended, or nobody has the store open.
            StoreClosed: The look is closed.
        """
        self._ask("pause")
        return self

    def resume(self, job: Any = None) -> LookedRun:
        """Ask the owner to continue, with the job that it knows.

        Args:
            job: Must be None.

        Raises:
            StateError: The instance has ended, the owner does not know its job, nobody has the store open, or a job is given.
            StoreClosed: The look is closed.
        """
        self._own_job(job)
        self._ask("resume")
        return self

    def cancel(self) -> bool:
        """Ask the owner to cancel the instance; returns whether it had not ended.

        Raises:
            StateError: Nobody has the store open.
            StoreClosed: The look is closed.
        """
        return bool(self._ask("cancel"))

    def retry(self, job: Any = None, *, params: Any = None, quiet: bool = False) -> LookedRun:  # noqa: ARG002
        """Ask the owner to run failed chunks again, with the job that it knows.

        Args:
            job: Must be None.
            params: Must be None.
            quiet: Has no effect; nothing is printed.

        Raises:
            StateError: Nothing failed, the owner does not know the job, nobody has the store open, or a job is given.
            StoreClosed: The look is closed.
        """
        self._own_job(job, params)
        self._ask("retry")
        return self

    def _own_job(self, *given: Any) -> None:
        if any(each is not None for each in given):
            raise StateError(
                f"the process that holds {self._store.path} runs its own code: nothing can be handed over to it. "
                "Retry there with the job, or here after nb.open()"
            )

    def _skip_some(self, chunks: list[int], reason: str) -> LookedRun:
        for chunk in chunks:
            self._ask("skip", chunk=chunk, reason=reason)
        return self

    def _wait(self, timeout: Timeout, progress: bool = False) -> Ended:  # noqa: ARG002
        """Look again until it has ended."""
        seconds = self._patience(timeout)
        until = None if seconds is None else time.monotonic() + seconds
        while (row := self._row).status not in INSTANCE_ENDED:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"instance {self.id} has not ended after {seconds:g} s; {self._prospect()}")
            time.sleep(POLL_SECONDS)
        return Ended(row.status, row.report)

    @property
    def _row(self) -> InstanceRow:
        return self._standing


class Looks(Answering):
    """Several stores, read from outside; made by `look`. ``looks[path]`` is the `Look` at one of them."""

    _WHAT = "looks"
    _MEANT: ClassVar[Mapping[str, str]] = {"instance": "looks[path].instance(id) is an instance of one store"}

    def __init__(self, paths: Iterable[Path]) -> None:
        self.refused: dict[str, str] = {}
        """Why a store cannot be seen, by path."""
        self._looks: dict[str, Look] = {}
        for path in dict.fromkeys(paths):
            try:
                self._looks[str(path)] = Look(str(path))
            except StoreError as error:
                self.refused[str(path)] = str(error)

    def instances(
        self, *, job: str | None = None, status: str | None = None, since: Moment | None = None, limit: int | None = frames.ROWS
    ) -> pl.DataFrame:  # fmt: skip
        """One row per instance of all stores, newest first, with the columns of ``batch.instances()`` after ``store`` (the path).

        Args:
            job: Only instances of the job of this name.
            status: Only instances in this state.
            since: As for ``batch.instances()``.
            limit: Maximum number of rows per store; None: all.

        Raises:
            ValueError: The state is unknown, or a time or number is invalid.
            TypeError: ``job`` is not a name.
            StoreClosed: A look is closed.
        """
        import polars as pl

        every = [
            look.instances(job=job, status=status, since=since, limit=limit).select(
                pl.lit(path).alias("store"), pl.all()
            )
            for path, look in self._looks.items()
        ]
        if not every:  # the columns are there all the same
            with batches.open(":memory:", serve=False) as none:
                every = [none.instances().select(pl.lit("").alias("store"), pl.all())]
        return pl.concat(every).sort("created", descending=True, maintain_order=True)

    def __getitem__(self, path: str | os.PathLike[str]) -> Look:
        name = os.fspath(path)
        return self._looks[name if name in self._looks else str(_real(name))]

    def __iter__(self) -> Any:
        return iter(self._looks.values())

    def __len__(self) -> int:
        return len(self._looks)

    def close(self) -> None:
        """Stop reading all of them."""
        for each in self._looks.values():
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = [repr(look) for look in self._looks.values()] + [
            f"<{path}: {why}>" for path, why in self.refused.items()
        ]
        return "\n".join(lines) or "<no stores>"
