"""The public `Job`: a job definition, and what a person does with it before it runs."""

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
        """Run the chain on the first few items of each step, in this thread, without a store; nothing is kept.

        The first step runs whole, as only it knows how much there is; a reduction runs on what the preview gave it; a
        step that is a job previews that job in turn.

        Args:
            params: As for ``batch.submit``.
            limit: Items of each step at most; None: all.

        Returns:
            A `nbbatch.heal.preview.Preview`: per step inputs, outputs, seconds and errors (``preview["name"].frame()``),
            and a guess of the full run's size (``chunks``) and time (``seconds`` on one worker).

        Raises:
            ParameterError: The parameters are invalid.
            ValueError: ``limit`` is no number of items.
        """
        from nbbatch.heal.preview import preview

        return preview(self, params, limit)
