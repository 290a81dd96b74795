"""The public `Job`: a job definition with its preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nbbatch.definition import JobDefinition

if TYPE_CHECKING:
    from nbbatch.heal.plan import ReusePlan
    from nbbatch.heal.preview import Preview

P = TypeVar("P")
R_co = TypeVar("R_co", covariant=True)


class Job(JobDefinition[P, R_co], Generic[P, R_co]):
    __doc__ = JobDefinition.__doc__

    def preview(self, params: P | dict[str, Any] | None = None, *, limit: int | None = 5) -> Preview:
        """Run the chain on the first few items of each step, in this thread, without a store. Nothing is stored.

        The steps do run: files that they write and requests that they send are written and sent.

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

    def plan(self, batch: Any, params: P | dict[str, Any] | None = None, *, reuse: Any = None) -> ReusePlan:
        """Return what `Batch.submit` would reuse: for each step the chunks that would take outputs, and why others would run.

        Nothing runs and nothing is stored; the batch waits meanwhile. What comes of a chunk that would run is not known before, so
        steps behind it may get more chunks. `JobHandle.plan` says what a retry would do.

        Args:
            batch: The `Batch` that it would be submitted to.
            params: As for ``batch.submit``.
            reuse: As for ``batch.submit``.

        Returns:
            A `nbbatch.heal.plan.ReusePlan`: ``reused``, ``runs`` and its ``lines``; as text a line per step.

        Raises:
            ParameterError: The parameters are invalid.
            TypeError: ``reuse`` is no flag or run.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> print(job.plan(batch, 5))
            read: 0 reused, 1 to run (1 never asked)
            and what comes of those that run
        """
        from nbbatch.engine import foresight, submit
        from nbbatch.heal import plan
        from nbbatch.worker.context import StoredParams

        access = batch._access
        engine, wish = access.engine(), submit.wish(reuse, batch)
        self.renew()
        valid = self.check(params)
        given = StoredParams.of(self.params, valid), self.params.identity(valid)
        return plan.plan_reuse(access.store, self, engine.call(foresight.foresee, engine, self, *given, wish))
