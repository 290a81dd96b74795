"""The public `Job`: a job definition with its preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nbbatch.definition import JobDefinition

if TYPE_CHECKING:
    from nbbatch.heal.preview import Preview

P = TypeVar("P")
R_co = TypeVar("R_co", covariant=True)


class Job(JobDefinition[P, R_co], Generic[P, R_co]):
    __doc__ = JobDefinition.__doc__

    def preview(self, params: P | dict[str, Any] | None = None, *, limit: int | None = 5) -> Preview:
        """Run the chain on the first few items of each step, in this thread, without a store. Nothing is kept.

        The first step runs to its end, because only it knows how many items there are. The reduction runs on the outputs of the
        preview. A step that is a job previews that job.

        Args:
            params: As for ``batch.submit``.
            limit: Maximum number of items per step; None: all.

        Returns:
            A `nbbatch.heal.preview.Preview`: inputs, outputs, seconds and errors of each step (``preview["name"].frame()``), and
            an estimate of the full run's size (``chunks``) and time (``seconds`` on one worker).

        Raises:
            ParameterError: The parameters are invalid.
            ValueError: ``limit`` is not a number of items.

        Example:
            >>> job.preview(5, limit=4)["price"].frame().filter(pl.col("error").is_not_null())["error"].item()
            "ValueError: could not convert string to float: '2,50'"
        """
        from nbbatch.heal.preview import preview

        return preview(self, params, limit)
