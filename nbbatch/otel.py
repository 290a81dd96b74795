"""OpenTelemetry: a span and metrics for each attempt. Needs ``pip install 'nbbatch[otel]'``.

    nbbatch.otel.observe(batch)      ──▶ spans ``nbbatch.attempt``, counter ``nbbatch.attempts``, histogram ``nbbatch.attempt.duration``

A batch that is not observed has no overhead: this module is not imported, and the engine makes one check per micro-batch.
Spans are created after the commit, with the attempt's start and end times, so they do not slow the steps either.
"""

from __future__ import annotations

from typing import Any

from nbbatch.base.display import needing, warn
from nbbatch.base.items import Items
from nbbatch.base.rows import Failure, Item, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.batch import Batch
from nbbatch.engine.state import LiveInstance, LiveStep

with needing("otel"):
    from opentelemetry import metrics, trace
    from opentelemetry.trace import StatusCode


def observe(
    batch: Batch,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Report every attempt of a batch from now on. A second call replaces the first.

    Warns if no provider is set, because then nothing is reported: install opentelemetry-sdk and set one up.

    Attributes of spans: nbbatch.job, nbbatch.instance, nbbatch.step, nbbatch.chunk, nbbatch.attempt, nbbatch.status; of metrics:
    nbbatch.job, nbbatch.step, nbbatch.status.

    Args:
        batch: The batch to observe.
        tracer_provider: Receives spans; default: the global provider.
        meter_provider: Receives metrics; default: the global provider.

    Example:
        >>> from nbbatch import otel
        >>> otel.observe(batch)  # doctest: +SKIP
    """
    nowhere = [kind for kind, given, found in (
        ("spans", tracer_provider, trace.get_tracer_provider()), ("metrics", meter_provider, metrics.get_meter_provider()),
    ) if given is None and _is_placeholder(found)]  # fmt: skip
    if nowhere:
        warn(
            f"no OpenTelemetry provider is set for {' and '.join(nowhere)}: nothing is reported until one is. Install "
            "opentelemetry-sdk and call trace.set_tracer_provider() and metrics.set_meter_provider(), or pass providers here"
        )
    engine = batch._engine  # pyright: ignore[reportPrivateUsage]
    engine.observer.function = _Reporter(tracer_provider, meter_provider)


def _is_placeholder(provider: object) -> bool:
    """Whether a provider is the API's own, which reports to nobody."""
    return (
        type(provider).__module__.startswith("opentelemetry.") and "opentelemetry.sdk" not in type(provider).__module__
    )


class _Reporter:
    def __init__(self, tracers: trace.TracerProvider | None, meters: metrics.MeterProvider | None) -> None:
        self._tracer = trace.get_tracer("nbbatch", tracer_provider=tracers)
        meter = metrics.get_meter("nbbatch", meter_provider=meters)
        self._attempts = meter.create_counter("nbbatch.attempts", description="Attempts that ended")
        self._seconds = meter.create_histogram("nbbatch.attempt.duration", unit="s", description="Time of an attempt")

    def __call__(self, live: LiveInstance, step: LiveStep, items: Items, results: Results) -> None:
        shared = {"nbbatch.job": live.job.name, "nbbatch.step": step.node.step.name}
        plain = [item for place, item in enumerate(items) if place not in results.odd]
        for item, began, ended in zip(plain, results.started_us, results.ended_us, strict=True):
            self._tell(live, item, shared, ChunkStatus.COMPLETED, began, ended, None)
        for place, out in results.odd.items():
            self._tell(live, items[place], shared, out.status, out.started_us, out.ended_us, out.failure)

    def _tell(
        self, live: LiveInstance, item: Item, shared: dict[str, Any], status: ChunkStatus, began: int, ended: int,
        failure: Failure | None,
    ) -> None:  # fmt: skip
        known = {**shared, "nbbatch.status": str(status)}
        ids = {"nbbatch.instance": live.id, "nbbatch.chunk": item.chunk, "nbbatch.attempt": item.attempt}
        span = self._tracer.start_span("nbbatch.attempt", attributes={**known, **ids}, start_time=began * 1000)
        if failure is not None:
            raised = {"exception.type": failure.type, "exception.message": failure.message}
            span.add_event("exception", {**raised, "exception.stacktrace": failure.traceback}, ended * 1000)
            span.set_status(StatusCode.ERROR, failure.message)
        span.end(ended * 1000)
        self._attempts.add(1, known)
        self._seconds.record((ended - began) / 1e6, known)
