"""Spans written for other programs: OTLP's JSON and the Collector's ClickHouse names."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from fillpath.analytics.cli import main
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_json import write_otlp_json
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.event_sampler import CriticalWhen, EventSampler
from fillpath.instrumentation.semconv import Bar, EventType, Fill, Tick

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, Market


def record_numbers(data: Path) -> None:
    """Record a market, and events with every sort of number."""
    with Tracing("market", data=data, portfolio="fund", writer="inline") as tracing:
        market = Market(tracing, strategy=HOSTILE)
        market.trade(others=3)
        tracer = tracing.tracer
        for attributes in (
            {Bar.OPEN: 1.5, Bar.CLOSE: "101.250", Bar.VOLUME: 12},
            {Bar.CLOSE: math.nan, "nested": {"list": [1, None, True, "é"]}, "big": 1 << 70},
            {"trading.features.rsi": 0.1 + 0.2, "yes": True, "no": False, "count": -3},
        ):
            tracer.close(tracer.open(EventType.BAR, attributes=attributes, event_time=1))
        tracer.close(tracer.open(EventType.TICK, attributes={Tick.BID: "1.10", Tick.ASK: "1.2"}))
        failing = tracer.open("MINE", correlation_id="trade-7")
        tracer.close(failing, error=ValueError("wrong"))
        market.finish()
        tracer.open(EventType.BAR)  # does not end


def record_sdk(data: Path) -> None:
    """Write spans of an OpenTelemetry SDK that use all that it offers."""
    exporter = ParquetSpanExporter(data, run_id="sdk")
    provider = TracerProvider(resource=SdkResource.create({"service.name": "svc", "k": "v"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("lib", "1.2")
    with tracer.start_as_current_span("outer", kind=SpanKind.CLIENT) as outer:
        outer.set_attributes({"a": 1, "b": [1.5, 2.5], "c": True, "d": "text"})
        outer.add_event("happened", {"x": 1}, timestamp=1_700_000_000_000_000_001)
        context = outer.get_span_context()
        with tracer.start_as_current_span(
            "inner", links=[Link(context, {"why": "because"})]
        ) as inner:
            inner.set_status(Status(StatusCode.ERROR, "bad"))
        outer.set_status(Status(StatusCode.OK))
    provider.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("export")
    record_numbers(data)
    record_sdk(data)
    return data


def exported(folder: Path, run_id: str, **choice: Any) -> dict[str, Any]:
    out = io.StringIO()
    store = EventStore(folder)
    count = write_otlp_json(
        SpanSelection(store, run_id, **choice).batches(), out, {run_id: "backtest"}
    )
    document: dict[str, Any] = json.loads(out.getvalue())
    assert count == len(spans_in(document))
    return document


def spans_in(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        span
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def parsed(document: dict[str, Any]) -> ExportTraceServiceRequest:
    """Read a document as OTLP does: as Protocol Buffers' JSON, but with ids in hex."""
    message: ExportTraceServiceRequest = json_format.ParseDict(
        with_base64_ids(document), ExportTraceServiceRequest()
    )
    return message


def with_base64_ids(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode()
            if key in {"traceId", "spanId", "parentSpanId"}
            else with_base64_ids(value)
            for key, value in part.items()
        }
    return [with_base64_ids(item) for item in part] if isinstance(part, list) else part


def as_text(value: AnyValue) -> str:
    """Write a value as the Collector's ClickHouse exporter does."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind in {"array_value", "kvlist_value"}:
        return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return "" if kind is None else str(getattr(value, kind))


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def same_texts(left: dict[str, str], right: dict[str, str]) -> bool:
    """Compare attributes; a number may be written in two ways."""
    return left.keys() == right.keys() and all(
        left[key] == right[key] or same_number(left[key], right[key]) for key in left
    )


def same_number(left: str, right: str) -> bool:
    try:
        first, second = float(left), float(right)
    except ValueError:
        return False
    return first == second or (math.isnan(first) and math.isnan(second))


@pytest.mark.parametrize("run_id", ["market", "sdk"])
def test_otlp_json_says_what_the_clickhouse_view_says(folder: Path, run_id: str) -> None:
    with EventStore(folder).connect([run_id]) as connection:
        cursor = connection.execute('SELECT *, epoch_ns("Timestamp") AS start FROM otel_traces')
        names = [column[0] for column in cursor.description or ()]
        rows = {
            row[names.index("SpanId")]: dict(zip(names, row, strict=True))
            for row in cursor.fetchall()
        }
    request = parsed(exported(folder, run_id))
    seen = 0
    for resource in request.resource_spans:
        origin = {item.key: as_text(item.value) for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                row = rows[span.span_id.hex()]
                attributes = {item.key: as_text(item.value) for item in span.attributes}
                assert same_texts(attributes, row["SpanAttributes"]), span.name
                assert {**row["ResourceAttributes"], "trading.run.mode": "backtest"} == {
                    **origin, "trading.run.mode": "backtest"
                }  # fmt: skip
                assert len(attributes) == len(span.attributes)
                assert row["TraceId"] == span.trace_id.hex()
                assert row["ParentSpanId"] == span.parent_span_id.hex()
                assert row["SpanName"] == span.name
                assert row["SpanKind"].upper() == span.SpanKind.Name(span.kind)[10:]
                assert row["start"] == span.start_time_unix_nano
                assert row["Duration"] == span.end_time_unix_nano - span.start_time_unix_nano
                assert (
                    row["StatusCode"].upper() == span.status.StatusCode.Name(span.status.code)[12:]
                )
                assert row["StatusMessage"] == span.status.message
                assert (row["ScopeName"], row["ScopeVersion"]) == (
                    scope.scope.name, scope.scope.version
                )  # fmt: skip
                assert row["Links.SpanId"] == [link.span_id.hex() for link in span.links]
                assert row["Links.TraceId"] == [link.trace_id.hex() for link in span.links]
                assert row["Links.Attributes"] == [
                    {item.key: as_text(item.value) for item in link.attributes}
                    for link in span.links
                ]
                assert row["Events.Name"] == [event.name for event in span.events]
                assert row["Events.Attributes"] == [
                    {item.key: as_text(item.value) for item in event.attributes}
                    for event in span.events
                ]
                seen += 1
    assert seen == len(rows) > 1


def test_numbers_keep_their_kind_and_their_digits(folder: Path) -> None:
    spans = spans_in(exported(folder, "market"))
    values = {
        (span["name"], item["key"], json.dumps(item["value"], sort_keys=True))
        for span in spans
        for item in span["attributes"]
    }
    for expected in (
        ("publish BAR", Bar.OPEN, '{"doubleValue": 1.5}'),
        ("publish BAR", Bar.CLOSE, '{"stringValue": "101.250"}'),
        ("publish BAR", Bar.VOLUME, '{"intValue": "12"}'),
        ("publish BAR", "trading.features.rsi", '{"doubleValue": 0.30000000000000004}'),
        ("publish BAR", "yes", '{"boolValue": true}'),
        ("publish BAR", "count", '{"intValue": "-3"}'),
        ("publish TICK", Tick.BID, '{"stringValue": "1.10"}'),
        ("publish FILL", Fill.PRICE, '{"stringValue": "100.5"}'),
    ):
        assert expected in values, sorted(values)
    failed = next(span for span in spans if span["name"] == "publish MINE")
    assert failed["status"] == {"message": "wrong", "code": 2}


def test_a_span_that_did_not_end_lasts_no_time(folder: Path) -> None:
    spans = spans_in(exported(folder, "market"))
    unfinished = [
        span
        for span in spans
        if {"key": "trading.event.unfinished", "value": {"boolValue": True}} in span["attributes"]
    ]
    assert len(unfinished) == 1
    assert unfinished[0]["startTimeUnixNano"] == unfinished[0]["endTimeUnixNano"]


def test_a_sample_holds_what_the_policy_keeps_and_all_that_led_to_it(folder: Path) -> None:
    everything = spans_in(exported(folder, "market"))
    parents = {span["spanId"]: span.get("parentSpanId") for span in everything}
    kind_of = {span["spanId"]: span["name"].split()[-1] for span in everything}
    for policy in (
        EventSampler(frozenset({EventType.FILL}), rate=0.0, context=0),
        EventSampler(frozenset(), 0.0, (CriticalWhen(Tick.BID),), context=0),
        EventSampler(rate=0.5),
        EventSampler(frozenset(), 1.0, context=0),
    ):
        kept = {span["spanId"] for span in spans_in(exported(folder, "market", policy=policy))}
        assert {parents[span_id] for span_id in kept} - {None} <= kept
        names = {kind_of[span_id] for span_id in kept}
        if policy.rate == 0.0 and policy.critical_kinds:
            # What failed is critical; and the newest price of an instrument is kept.
            above = {kind for kind in names if kind not in {"FILL", "MINE", "TICK"}}
            assert above == {"BAR", "SIGNAL", "ORDER", "COMMAND"}
            assert names >= {"MINE", "TICK"}
        if policy.critical_when:
            assert "TICK" in names
        if policy.rate == 1.0:
            assert all(kind_of[one] == "BAR" for one in parents.keys() - kept)


def run_cli(folder: Path, *words: str) -> int:
    return main(["export", *words, "--data", str(folder)])


def test_the_command_writes_a_file_and_prints_its_path(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(folder, "market") == 0
    assert capsys.readouterr().out == "market.otlp.json\n"
    assert len(spans_in(json.loads(Path("market.otlp.json").read_text("utf-8")))) > 20
    assert run_cli(folder, "mark", "-o", "chain.json", "--trace", "F-1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    chain = spans_in(json.loads(Path("chain.json").read_text("utf-8")))
    assert told["spans"] == len(chain)
    assert told["run_id"] == "market"
    assert len({span["traceId"] for span in chain}) == 1
    assert run_cli(folder, "market", "-o", "few.json", "--sampled") == 0
    assert len(spans_in(json.loads(Path("few.json").read_text("utf-8")))) > 5
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "chain.json", "few.json", "market.otlp.json"
    ]  # fmt: skip


def test_parquet_has_the_names_and_types_of_the_collectors_table(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "traces.parquet"
    assert run_cli(folder, "market", "--format", "parquet", "-o", str(path)) == 0
    schema = pq.read_schema(path)
    told = {name: re.sub(r" \('\w+'\)", "", str(schema.field(name).type)) for name in schema.names}
    assert told == {
        "Timestamp": "timestamp[ns]",
        "TraceId": "string",
        "SpanId": "string",
        "ParentSpanId": "string",
        "TraceState": "string",
        "SpanName": "string",
        "SpanKind": "string",
        "ServiceName": "string",
        "ResourceAttributes": "map<string, string>",
        "ScopeName": "string",
        "ScopeVersion": "string",
        "SpanAttributes": "map<string, string>",
        "Duration": "uint64",
        "StatusCode": "string",
        "StatusMessage": "string",
        "Events.Timestamp": "list<element: timestamp[ns]>",
        "Events.Name": "list<element: string>",
        "Events.Attributes": "list<element: map<string, string>>",
        "Links.TraceId": "list<element: string>",
        "Links.SpanId": "list<element: string>",
        "Links.TraceState": "list<element: string>",
        "Links.Attributes": "list<element: map<string, string>>",
    }
    frame = pl.read_parquet(path, columns=["TraceId", "SpanName", "Duration"])
    fills = frame.filter(pl.col("SpanName") == "publish FILL")
    assert len(fills) == 2
    one = tmp_path / "one.parquet"
    assert run_cli(folder, "market", "--format", "parquet", "--trace", "F-1", "-o", str(one)) == 0
    assert pl.read_parquet(one, columns=["TraceId"])["TraceId"].n_unique() == 1
    few = tmp_path / "few.parquet"
    assert run_cli(folder, "market", "--format", "parquet", "--sampled", "-o", str(few)) == 0
    assert 5 < pq.read_metadata(few).num_rows <= len(frame)


def test_stdout_takes_the_document_alone(folder: Path, capfdbinary: Any) -> None:
    assert run_cli(folder, "sdk", "-o", "-") == 0
    assert len(spans_in(json.loads(capfdbinary.readouterr().out))) == 2


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(folder, "market", "-o", str(tmp_path / "none" / "x.json")) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert run_cli(folder, "nowhere") == 5
    assert run_cli(folder, "market", "--trace", "F-99", "-o", str(tmp_path / "x.json")) == 5
    assert list(tmp_path.iterdir()) == []


def spans_by_id(request: ExportTraceServiceRequest) -> dict[bytes, Span]:
    return {
        span.span_id: span
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def test_the_json_says_what_the_encoder_of_otlp_says(folder: Path) -> None:
    """Two ways from a row to OTLP, written apart, give the same spans."""
    for run_id in ("market", "sdk"):
        told = spans_by_id(parsed(exported(folder, run_id)))
        with EventStore(folder).connect([run_id]) as connection:
            rows = connection.sql("SELECT * FROM raw_spans").to_arrow_table()
        encoded = ExportTraceServiceRequest()
        for request in OtlpEncoder().encode(rows.cast(SPAN_SCHEMA).to_batches()):
            encoded.MergeFromString(request)
        spans = spans_by_id(encoded)
        assert told.keys() == spans.keys()
        for span_id, span in spans.items():
            other = told[span_id]
            for one in (span, other):
                one.attributes.sort(key=lambda attribute: attribute.key)
                # Where the span did not end, one says nothing and the other its beginning.
                one.end_time_unix_nano = max(one.end_time_unix_nano, one.start_time_unix_nano)
                one.flags = 0  # the JSON leaves out that the parent is not remote
                for link in one.links:
                    link.flags = 0
            assert repr(span) == repr(other)  # by their text, since NaN equals nothing
