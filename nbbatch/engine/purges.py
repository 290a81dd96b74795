"""Which instances a purge means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nbbatch.base import ranges
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.base.times import Moment, moment
from nbbatch.engine.commands import statuses


class Meant(NamedTuple):
    """What instances have in common that are to go."""

    before_us: int
    """They ended before this."""
    statuses: set[InstanceStatus]
    job: str | None
    keep_last: int | None

    @property
    def asked(self) -> tuple[int, list[int], str | None, int | None]:
        """What the query ``ended_before`` is asked."""
        return self.before_us, [each.code for each in self.statuses], self.job, self.keep_last


def meant(
    older_than: Moment | None, keep_last: int | None, status: str | Iterable[str] | None, job: str | None, now_us: int
) -> Meant:
    """What the arguments of a purge mean.

    Raises:
        ValueError: A state is not that of an ended instance, a time or number is invalid, or nothing says which are to go.
    """
    states = statuses(status, INSTANCE_ENDED)
    if not states <= INSTANCE_ENDED:
        raise ValueError(f"purge() removes instances that have ended, not {status!r}")
    kept = None if keep_last is None else ranges.whole(keep_last, "keep_last=", least=0)
    before = moment(0 if older_than is None and kept is not None else older_than, now_us, "older_than=")
    if before is None:
        raise ValueError(
            "purge() needs older_than=, such as '30 days', or keep_last=; older_than=0 purges all that have ended"
        )
    return Meant(before + 1, states, job, kept)
