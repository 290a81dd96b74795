"""OpenTelemetry: one span per attempt."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import nbbatch as nb
from nbbatch import otel
from tests.jobs import each, summing
from tests.kit import HandClock, settle


def observed(batch: nb.Batch) -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    otel.observe(batch, tracer_provider=tracers, meter_provider=MeterProvider([reader]))
    return spans, reader


def test_every_attempt_is_a_span_with_its_ids(batch: nb.Batch) -> None:
    spans, _ = observed(batch)
    run = batch.submit(summing(), 3)
    run.result(10)
    settle(batch)

    told = [dict(span.attributes or {}) for span in spans.get_finished_spans()]
    stored = run.attempts().select("step", "chunk", "attempt", "status").rows()
    ids = ("nbbatch.step", "nbbatch.chunk", "nbbatch.attempt", "nbbatch.status")
    assert sorted(tuple(each[name] for name in ids) for each in told) == sorted(stored)
    assert {(each["nbbatch.job"], each["nbbatch.instance"]) for each in told} == {("summing", run.id)}


def test_an_error_is_told_with_its_traceback_and_the_times_are_those_stored(batch: nb.Batch, clock: HandClock) -> None:
    spans, _ = observed(batch)

    def fail(value: int) -> None:
        clock.advance(2)
        raise nb.FailChunk("no") if value else ValueError("odd")

    run = batch.submit(each(fail, max_attempts=1), 1)
    run.wait(10)
    settle(batch)

    span = next(span for span in spans.get_finished_spans() if (span.attributes or {})["nbbatch.step"] == "visit")
    assert span.status.description == "odd"
    assert "raise nb.FailChunk" in str((span.events[0].attributes or {})["exception.stacktrace"])
    assert span.start_time is not None
    assert span.end_time == span.start_time + 2_000_000_000


def test_attempts_are_counted_and_timed(batch: nb.Batch) -> None:
    _, reader = observed(batch)
    batch.submit(summing(), 3).result(10)
    settle(batch)

    data: Any = reader.get_metrics_data()
    found = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {point.attributes["nbbatch.step"]: point.value for point in found["nbbatch.attempts"]} == {
        "numbers": 1, "double": 3, "total": 1,
    }  # fmt: skip
    assert sum(point.count for point in found["nbbatch.attempt.duration"]) == 5


def test_without_it_nothing_is_imported_and_nothing_is_asked(batch: nb.Batch) -> None:
    code = "import sys, nbbatch; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert batch._engine.observer.function is None


def test_who_observes_without_a_provider_is_told(inline: nb.Batch) -> None:
    with pytest.warns(UserWarning, match="no OpenTelemetry provider is set for spans and metrics"):
        otel.observe(inline)
    with pytest.warns(UserWarning, match="for metrics"):
        otel.observe(inline, tracer_provider=TracerProvider())
