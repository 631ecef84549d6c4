"""Spans of any OpenTelemetry application reach the lake as they were."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from fillpath.exporters import parquet_span_exporter
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.otel_spans import Sequences
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.semconv import Event, EventType, Fill, Sampling
from fillpath.instrumentation.semconv import Resource as ResourceKeys
from fillpath.instrumentation.settings import DataFolder


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


@pytest.fixture
def exporter(data: DataFolder) -> Iterator[ParquetSpanExporter]:
    made = ParquetSpanExporter(data)
    yield made
    made.shutdown()


def _provider(exporter: SpanExporter, **resource: str) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "shop", **resource}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _rows(data: DataFolder, view: str = "spans") -> list[dict[str, Any]]:
    table = EventStore(data).query(f"SELECT * FROM {view} ORDER BY sequence")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    for row in rows:
        row["attributes"] = json.loads(row["attributes"] or "{}")
    return rows


def test_spans_are_in_the_lake_as_they_were(
    data: DataFolder, exporter: ParquetSpanExporter
) -> None:
    provider = _provider(exporter, **{"host.name": "vm-7", "deployment.environment": "test"})
    tracer = provider.get_tracer("shop.checkout", "1.2")
    remote = SpanContext(
        (7 << 64) + 9,
        11,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("vendor", "x")]),
    )
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    link = Link(SpanContext(3, 4, is_remote=True), {"why": "retry"})
    with tracer.start_as_current_span(
        "checkout", parent, SpanKind.SERVER, {"n": 1, "f": math.nan, "list": ["a", "b"]}, [link]
    ) as outer:
        outer.add_event("paid", {"amount": 5}, timestamp=123)
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as inner:
            inner.set_status(Status(StatusCode.ERROR, "timed out"))
    provider.force_flush()
    exporter.force_flush()

    first, second = _rows(data)
    assert (first["name"], first["span_kind"], first["event_type"]) == (
        "checkout",
        "SERVER",
        "SPAN",
    )
    assert first["trace_id"] == f"{(7 << 64) + 9:032x}" == first["correlation_id"]
    assert first["parent_span_id"] == f"{11:016x}"
    assert first["span_id"] == f"{outer.get_span_context().span_id:016x}"
    assert second["parent_span_id"] == first["span_id"]
    assert first["sequence"] < second["sequence"]
    assert first["start_time"] <= second["start_time"] <= second["end_time"] <= first["end_time"]
    assert json.loads(first["links"]) == [{"trace_id": f"{3:032x}", "span_id": f"{4:016x}"}]
    assert first["attributes"] == {
        "n": 1,
        "f": "NaN",
        "list": ["a", "b"],
        "otel.events": [{"name": "paid", "time_unix_nano": 123, "attributes": {"amount": 5}}],
        "otel.link_attributes": [{"why": "retry"}],
        "otel.scope.version": "1.2",
    }
    assert second["attributes"]["otel.status_code"] == "ERROR"
    assert second["portfolio"] == "default"

    raw, failed = _rows(data, "raw_spans")
    assert (raw["service_name"], raw["host_name"]) == ("shop", "vm-7")
    assert (raw["scope_name"], raw["trace_state"]) == ("shop.checkout", "vendor=x")
    assert json.loads(raw["resource_attributes"]) == {"deployment.environment": "test"}
    assert (raw["status_code"], failed["status_code"]) == (None, "ERROR")
    assert failed["status_message"] == "timed out"


def test_trading_attributes_become_columns(data: DataFolder, exporter: ParquetSpanExporter) -> None:
    provider = _provider(exporter, **{ResourceKeys.PORTFOLIO: "fund/desk"})
    tracer = provider.get_tracer("x")
    tracer.start_span(
        "publish FILL",
        kind=SpanKind.PRODUCER,
        attributes={
            Fill.PRICE: "101.250",
            Fill.QUANTITY: 3,
            Fill.CURRENCY: "USD",
            Event.TIME: 1_700_000_000_000_000_001,
            Event.SEQUENCE: 17,
            Event.CORRELATION_ID: "chain 7",
            Sampling.REASON: "critical",
            Sampling.PROBABILITY: 1.0,
        },
    ).end()
    tracer.start_span("x", attributes={Event.TYPE: "MY_KIND", ResourceKeys.PORTFOLIO: "own"}).end()
    provider.shutdown()
    fill, own = _rows(data)
    assert (fill["event_type"], fill["portfolio"]) == (EventType.FILL, "fund/desk")
    assert (fill["price"], fill["quantity"], fill["currency"]) == (Decimal("101.25"), 3, "USD")
    assert (fill["event_time"], fill["sequence"]) == (1_700_000_000_000_000_001, 17)
    assert fill["correlation_id"] == "chain 7"
    assert fill["attributes"] == {}
    assert (own["event_type"], own["portfolio"], own["attributes"]) == ("MY_KIND", "own", {})
    assert _rows(data, "raw_spans")[0]["sampling_reason"] == "critical"


def test_the_exporter_keeps_the_record_of_its_run(
    data: DataFolder, exporter: ParquetSpanExporter
) -> None:
    provider = _provider(exporter)
    tracer = provider.get_tracer("x")
    for name in ("publish BAR", "process BAR", "publish BAR", "GET"):
        tracer.start_span(name).end()
    provider.force_flush()
    (running,) = EventStore(data).run_records()
    assert running.status == "Running"
    assert running.run_id.startswith("otel-")
    provider.shutdown()
    (run,) = EventStore(data).run_records()
    assert (run.status, run.source, run.mode, run.service_name) == ("Ended", "otel", "live", "shop")
    assert (run.published, run.kept, run.sampled_out, run.dropped) == (3, 3, 0, 0)
    assert [(row["event_type"], row["kept"]) for row in run.completeness] == [
        ("BAR", 2),
        ("SPAN", 1),
    ]
    assert run.started_at == min(row["start_time"] for row in _rows(data))
    assert exporter.export([]) is SpanExportResult.FAILURE
    assert len(_rows(data)) == 4


def test_the_resource_can_name_the_run(data: DataFolder, exporter: ParquetSpanExporter) -> None:
    for run_id in ("run-7", "../run 8"):
        provider = _provider(
            exporter, **{ResourceKeys.RUN_ID: run_id, ResourceKeys.RUN_MODE: "backtest"}
        )
        provider.get_tracer("x").start_span("publish BAR").end()
        provider.force_flush()
    exporter.shutdown()
    runs = {run.run_id: run for run in EventStore(data).run_records()}
    assert len(runs) == 2
    assert runs["run-7"].mode == "backtest"
    other = next(row for row in _rows(data, "raw_spans") if row["run_id"] != "run-7")
    assert other["run_id"].startswith("otel-")
    assert json.loads(other["resource_attributes"]) == {ResourceKeys.RUN_ID: "../run 8"}
    with pytest.raises(UsageError):
        ParquetSpanExporter(data, run_id="../run 8")


def test_a_run_that_was_recorded_keeps_its_record(data: DataFolder) -> None:
    store = EventStore(data)
    store.record_run(RunRecord("run-7", "Ended", published=5, kept=5))
    provider = _provider(ParquetSpanExporter(data, run_id="run-7"))
    provider.get_tracer("x").start_span("GET").end()
    provider.shutdown()
    (run,) = store.run_records()
    assert (run.published, run.source) == (5, "spool")
    assert len(_rows(data)) == 1


@settings(deadline=None)
@given(st.data())
def test_a_parents_number_is_smaller_in_whatever_order_spans_end(draw: st.DataObject) -> None:
    """Spans begin in order, at times that may stand still; each ends after all it caused."""
    count = draw.draw(st.integers(1, 25))
    parents = [draw.draw(st.integers(0, n)) or None for n in range(count)]  # ids from 1
    steps = draw.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    starts = [10_000 + 5 * sum(steps[: n + 1]) for n in range(count)]
    children_first = draw.draw(st.permutations(range(count)))
    waiting = {n + 1: {m + 1 for m in range(count) if parents[m] == n + 1} for n in range(count)}
    numbers: dict[int, int] = {}
    sequences = Sequences()
    while len(numbers) < count:
        for n in children_first:
            if n + 1 not in numbers and not waiting[n + 1] - numbers.keys():
                numbers[n + 1] = sequences.number(n + 1, parents[n], starts[n])
    for child, parent in enumerate(parents, start=1):
        assert parent is None or numbers[parent] < numbers[child]
    assert len(set(numbers.values())) == count


def test_spans_wait_at_most_a_second(data: DataFolder, exporter: ParquetSpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("x")
    tracer.start_span("one").end()
    assert len(_rows(data)) == 1
    tracer.start_span("two").end()
    assert len(_rows(data)) == 1
    deadline = time.monotonic() + 20
    while len(_rows(data)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(_rows(data)) == 2
    tracer.start_span("three").end()
    assert exporter.force_flush()
    assert len(_rows(data)) == 3


def test_a_lake_that_cannot_be_written_is_no_concern_of_the_host(
    data: DataFolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(parquet_span_exporter, "MOST_WAITING", 2)
    data.lake.mkdir(parents=True)
    (data.lake / "holiday.jpg").write_bytes(b"")
    exporter = ParquetSpanExporter(data, portfolio="p")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("x")
    for number in range(4):
        tracer.start_span("publish BAR", attributes={"n": number}).end()
    assert not exporter.force_flush()
    assert caplog.text.count("holds files but no Delta log") == 1
    (data.lake / "holiday.jpg").unlink()
    assert exporter.force_flush()
    provider.shutdown()
    assert [row["attributes"]["n"] for row in _rows(data)] == [0, 1]
    (run,) = EventStore(data).run_records()
    assert run.completeness == [
        {
            "portfolio": "p",
            "event_type": "BAR",
            "published": 4,
            "kept": 2,
            "sampled_out": 0,
            "dropped": {"lake_error": 2},
        }
    ]


def test_a_span_that_cannot_be_carried_does_not_take_others_with_it(
    data: DataFolder, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = ParquetSpanExporter(data)
    provider = _provider(exporter)
    tracer = provider.get_tracer("x")
    tracer.start_span("far", start_time=1 << 80).end()
    tracer.start_span("near \udc80", attributes={"big": 1 << 90, "half": "\ud800"}).end()
    provider.shutdown()
    (row,) = _rows(data)
    assert row["name"] == "near \\udc80"
    assert row["attributes"]["big"] == 1 << 90
    assert row["attributes"]["half"] == "\\ud800"
    (run,) = EventStore(data).run_records()
    assert (run.kept, run.dropped) == (1, 1)
    assert caplog.records[-1].levelno == logging.WARNING


FORKING = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from fillpath.exporters import ParquetSpanExporter
exporter = ParquetSpanExporter(sys.argv[1])
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("x")
exporter._committed_at = float("inf")  # nothing is committed before the end
if sys.argv[2] == "used":
    tracer.start_span("first").end()
    exporter.force_flush()
tracer.start_span("waits").end()
pid = os.fork()
tracer.start_span("child" if pid == 0 else "parent").end()
provider.shutdown()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def _fork(data: DataFolder, how: str) -> tuple[list[str], str]:
    command = [sys.executable, "-P", "-W", "ignore", "-c", FORKING, str(data.path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return sorted(row["name"] for row in _rows(data)), done.stderr


def test_a_forked_child_writes_its_own_spans_only(data: DataFolder) -> None:
    names, errors = _fork(data, "unused")
    assert names == ["child", "parent", "waits"]
    assert errors == ""
    runs = {row["name"]: row["run_id"] for row in _rows(data)}
    assert runs["waits"] == runs["parent"] != runs["child"]


def test_a_child_forked_after_the_lake_was_used_goes_on_without_it(data: DataFolder) -> None:
    names, errors = _fork(data, "used")
    assert names == ["first", "parent", "waits"]
    assert errors.count("\n") == 1
    assert "spawn instead of fork" in errors


def test_a_run_whose_exporter_died_is_closed_by_the_next_reader(data: DataFolder) -> None:
    exporter = ParquetSpanExporter(data)
    provider = _provider(exporter)
    provider.get_tracer("x").start_span("GET").end()
    provider.force_flush()
    store = EventStore(data)
    (run,) = store.run_records()
    assert catch_up(data) == {}
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store.record_run(replace(run, pid=dead.pid))
    assert catch_up(data) == {run.run_id: "Crashed"}
    assert store.run_records()[0].status == "Crashed"
    provider.shutdown()


def test_the_sdk_finds_the_exporter_by_its_entry_point(data: DataFolder) -> None:
    program = """
from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()  # what opentelemetry-distro does
tracer = trace.get_tracer("x")
with tracer.start_as_current_span("publish BAR"):
    tracer.start_span("publish FILL").end()
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={
            **os.environ,
            "FILLPATH_DATA": str(data.path),
            "FILLPATH_PORTFOLIO": "from/env",
            "FILLPATH_SAMPLING_RATE": "0",
            "OTEL_TRACES_SAMPLER": "fillpath",
            "OTEL_TRACES_EXPORTER": "fillpath_parquet",
            "OTEL_SERVICE_NAME": "by-env",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (row,) = _rows(data, "raw_spans")
    assert (row["event_type"], row["portfolio"]) == ("FILL", "from/env")
    assert (row["sampling_reason"], row["service_name"]) == ("critical", "by-env")
    (run,) = EventStore(data).run_records()
    assert (run.status, run.service_name) == ("Ended", "by-env")
