"""Spans of any kind go through the lake and come out as they were."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_file import OtlpFile
from fillpath.exporters.otlp_json import write_otlp_json
from fillpath.exporters.schema import TEXT_COLUMNS
from fillpath.exporters.span_import import SpanImport
from fillpath.exporters.span_rows import SpanRows
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.semconv import Event, Resource, Sampling

sys.path.append(str(Path(__file__).parent))

from otlp_comparison import Spans, differences, of_requests
from recorded_market import HOSTILE, record_market

ADDED = {
    "attributes": {Event.TYPE, Resource.PORTFOLIO, Sampling.REASON, Sampling.PROBABILITY},
    "resource": {Resource.RUN_ID, Resource.PORTFOLIO},
}
"""What the lake adds to a span that does not say it: run, portfolio, kind, why it was kept."""

NAMES = {*TEXT_COLUMNS, "trading.fill.currency"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.one_of(
    st.sampled_from(
        [
            "http.method",
            "trading.bar.open",
            "trading.bar.close",
            "trading.fill.price",
            "trading.order.side",
            "trading.order.quantity",
            "trading.strategy.id",
            "trading.instrument.symbol",
            "trading.event.type",
            "trading.event.sequence",
            "trading.event.time_unix_nano",
            "trading.portfolio.namespace",
            "trading.fill.currency",
        ]
    ),
    texts,
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
simple = st.one_of(
    texts,
    st.sampled_from(["101.250", "0.5", "BUY", "1e5", "-0", "+1", "007", "NaN", "9" * 17 + ".5"]),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    doubles,
    st.none(),
)
nested = st.recursive(
    simple,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
times = st.integers(0, 1 << 62)
ids = st.binary(min_size=8, max_size=8).filter(any)
trace_ids = st.binary(min_size=16, max_size=16).filter(any)


def any_value(value: Any) -> AnyValue:
    made = AnyValue()
    if isinstance(value, str):
        made.string_value = value
    elif isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, list):
        made.array_value.SetInParent()
        made.array_value.values.extend(any_value(item) for item in value)
    elif isinstance(value, dict):
        made.kvlist_value.SetInParent()
        made.kvlist_value.values.extend(pairs(value))
    return made


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def as_the_lake_has_them(attributes: dict[str, Any]) -> dict[str, Any]:
    """A name that is an integer is text in its column, and so it comes out."""
    return {
        key: str(value) if key in NAMES and type(value) is int else value
        for key, value in attributes.items()
    }


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    """Draw a request as any application may send it; ids differ."""
    request = ExportTraceServiceRequest()
    seen: set[tuple[bytes, bytes]] = set()
    attributes = st.dictionaries(keys, nested, max_size=9).map(as_the_lake_has_them)
    for _ in range(draw(st.integers(1, 3))):
        resource = request.resource_spans.add()
        named = draw(st.dictionaries(st.sampled_from(
            ["service.name", "service.namespace", "service.instance.id", "host.name",
             "trading.run.mode", "trading.portfolio.namespace", "telemetry.sdk.version"]
        ) | texts, nested, max_size=6))  # fmt: skip
        if draw(st.booleans()):
            named["trading.run.id"] = draw(st.sampled_from(["run-7", "run 8", 5]))
            if draw(st.booleans()):  # as fillpath's own
                named["service.namespace"] = "fillpath"
                named["service.instance.id"] = named["trading.run.id"]
        resource.resource.attributes.extend(pairs(named))
        resource.schema_url = draw(st.sampled_from(["", "https://x/1"]))
        for _ in range(draw(st.integers(1, 2))):
            scope = resource.scope_spans.add()
            scope.scope.name = draw(st.sampled_from(["", "fillpath", "shop"]))
            scope.scope.version = draw(st.sampled_from(["", "1.2"]))
            scope.scope.attributes.extend(pairs(draw(st.dictionaries(texts, simple, max_size=2))))
            scope.schema_url = draw(st.sampled_from(["https://opentelemetry.io/schemas/1.37.0"]))
            for _ in range(draw(st.integers(0, 3))):
                identity = draw(trace_ids), draw(ids)
                if identity in seen:
                    continue
                seen.add(identity)
                span = scope.spans.add(trace_id=identity[0], span_id=identity[1])
                span.parent_span_id = draw(st.one_of(st.just(b""), ids))
                span.name = draw(st.sampled_from(["GET", "publish FILL", "process BAR"]) | texts)
                span.kind = draw(st.integers(0, 5))
                span.start_time_unix_nano = draw(times)
                span.end_time_unix_nano = draw(times)
                span.trace_state = draw(st.sampled_from(["", "vendor=x,other=y"]))
                span.attributes.extend(pairs(draw(attributes)))
                for _ in range(draw(st.integers(0, 2))):
                    event = span.events.add(time_unix_nano=draw(times), name=draw(texts))
                    event.attributes.extend(pairs(draw(attributes)))
                for _ in range(draw(st.integers(0, 2))):
                    link = span.links.add(trace_id=draw(trace_ids), span_id=draw(ids))
                    link.trace_state = draw(st.sampled_from(["", "a=b"]))
                    link.attributes.extend(pairs(draw(attributes)))
                span.status.code = draw(st.integers(0, 2))
                if span.status.code == 2:
                    span.status.message = draw(texts)
                span.dropped_links_count = draw(st.sampled_from([0, 3]))
    return request


def json_value(value: AnyValue) -> dict[str, Any]:
    kind = value.WhichOneof("value")
    if kind is None:
        return {}
    content = getattr(value, kind)
    if kind == "int_value":
        return {"intValue": str(content)}
    if kind == "array_value":
        return {"arrayValue": {"values": [json_value(item) for item in content.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": json_pairs(content.values)}}
    return {f"{kind.removesuffix('_value')}Value": content}


def json_pairs(attributes: Any) -> list[dict[str, Any]]:
    return [{"key": pair.key, "value": json_value(pair.value)} for pair in attributes]


def as_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """Write a request as OTLP's JSON, as the specification has it."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": json_pairs(resource.resource.attributes)},
                "schemaUrl": resource.schema_url,
                "scopeSpans": [
                    {
                        "scope": {
                            "name": scope.scope.name,
                            "version": scope.scope.version,
                            "attributes": json_pairs(scope.scope.attributes),
                        },
                        "schemaUrl": scope.schema_url,
                        "spans": [
                            {
                                "traceId": span.trace_id.hex(),
                                "spanId": span.span_id.hex(),
                                "parentSpanId": span.parent_span_id.hex(),
                                "traceState": span.trace_state,
                                "name": span.name,
                                "kind": span.kind,
                                "startTimeUnixNano": str(span.start_time_unix_nano),
                                "endTimeUnixNano": str(span.end_time_unix_nano),
                                "attributes": json_pairs(span.attributes),
                                "droppedLinksCount": span.dropped_links_count,
                                "events": [
                                    {
                                        "timeUnixNano": str(event.time_unix_nano),
                                        "name": event.name,
                                        "attributes": json_pairs(event.attributes),
                                    }
                                    for event in span.events
                                ],
                                "links": [
                                    {
                                        "traceId": link.trace_id.hex(),
                                        "spanId": link.span_id.hex(),
                                        "traceState": link.trace_state,
                                        "attributes": json_pairs(link.attributes),
                                    }
                                    for link in span.links
                                ],
                                "status": {
                                    "code": span.status.code,
                                    "message": span.status.message,
                                },
                            }
                            for span in scope.spans
                        ],
                    }
                    for scope in resource.scope_spans
                ],
            }
            for resource in request.resource_spans
        ]
    }


class Collected(SpanImport):
    """Takes spans to where a test can look at their rows, and writes no lake."""

    def __init__(self) -> None:
        super().__init__(EventStore("/nonexistent"), run_id="own-run")
        self.table = SpanRows().take()

    def commit(self) -> None:
        tables = []
        for run in self._runs.values():
            self._order(run)
            tables.append(run.rows.take())
        self.table = pa.concat_tables([self.table, *tables])


def through_the_lake(data: bytes) -> Spans:
    source = OtlpFile(io.BytesIO(data))
    collected = Collected()
    for resource in source:
        collected.take(resource)
    collected.commit()
    assert (source.damages, collected.failures) == ([], [])
    return of_requests(OtlpEncoder().encode(collected.table.to_batches()))


def without_added(wanted: Spans, found: Spans) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, span in found.items():
        left = dict(span)
        for part, names in ADDED.items():
            said = wanted[key][part]
            left[part] = {k: v for k, v in span[part].items() if k in said or k not in names}
        yield key, left


def check(request: ExportTraceServiceRequest, data: bytes) -> None:
    wanted = of_requests([request])
    found = through_the_lake(data)
    assert wanted.keys() == found.keys()
    assert differences(wanted, dict(without_added(wanted, found))) == []


@settings(deadline=None, max_examples=40)
@given(requests())
def test_whatever_an_application_sends_comes_out_of_the_lake_as_it_was(
    request: ExportTraceServiceRequest,
) -> None:
    check(request, json.dumps(as_json(request)).encode())
    if data := request.SerializeToString():
        check(request, data)


def test_what_json_and_columns_have_no_place_for_is_written_out() -> None:
    """Bytes are hex among the attributes, and named; NaN is a number in a column, else a word."""
    numbers = {f"n{number}": math.nan for number in range(6)}
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = b"\1" * 16, b"\2" * 8
    span.attributes.extend(pairs(numbers))
    span.attributes.add(key="raw").value.bytes_value = b"\xab\xcd"
    as_document = as_json(request)
    (of_span,) = as_document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    of_span["attributes"][0]["value"] = {"doubleValue": "NaN"}
    of_span["attributes"][-1]["value"] = {"bytesValue": "q80="}
    for data in (request.SerializeToString(), json.dumps(as_document).encode()):
        (found,) = through_the_lake(data).values()
        attributes = found["attributes"]
        assert attributes["raw"] == ("string_value", "abcd")
        assert attributes[Event.REPLACED] == ("array_value", [("string_value", "raw")])
        kinds = [attributes[name][0] for name in numbers]
        assert kinds == ["double_value"] * 5 + ["string_value"]


def rows_of(data: Path, run_id: str) -> list[dict[str, Any]]:
    batches = list(SpanSelection(EventStore(data), run_id).batches())
    table = pa.Table.from_batches(batches).sort_by("sequence")
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in ("attributes", "resource_attributes"):
            row[name] = json.loads(row[name]) if row[name] else row[name]
    return rows


def exported(data: Path, run_id: str) -> bytes:
    store = EventStore(data)
    modes = {record.run_id: record.mode for record in store.run_records()}
    out = io.StringIO()
    write_otlp_json(SpanSelection(store, run_id).batches(), out, modes)
    return out.getvalue().encode()


def import_into(data: Path, content: bytes, **options: Any) -> SpanImport:
    source = OtlpFile(io.BytesIO(content))
    spans = SpanImport(EventStore(data), **options)
    for resource in source:
        spans.take(resource)
    spans.finish()
    assert (source.damages, spans.failures) == ([], [])
    return spans


def record_everything(data: Path, run_id: str) -> None:
    """Record what the lake has a column or a part for: engine events and spans of the API."""
    with Tracing(run_id, data=data, writer="inline", portfolio="fund/desk") as tracing:
        provider = tracing.tracer_provider
        tracer = provider.get_tracer("my.strategy", "1.2")
        far = SpanContext(5 << 90, 77, is_remote=True)
        with tracer.start_as_current_span(
            "decide", links=[Link(far, {"why": "retry"})], attributes={HOSTILE: HOSTILE, "n": 1}
        ) as span:
            span.add_event("thought", {"hard": True}, timestamp=5)
            span.set_status(Status(StatusCode.OK))
            with tracer.start_as_current_span("publish SIGNAL") as signal:
                signal.set_attribute("trading.signal.strength", 0.25)
                signal.set_status(Status(StatusCode.ERROR, "timed out"))
        events = tracing.tracer
        bar = events.emitter("BAR", symbol="AAPL", fields=["trading.bar.close"])
        cause = bar(1_704_186_000_000_000_000, None, 190.5)
        named = events.open(
            "SIGNAL", correlation_id="trade-7", attributes={"trading.risk.limit": Decimal("0.10")}
        )
        inner = events.open(
            "ORDER", parent=named, attributes={"trading.order.price": Decimal("1.50")}
        )
        events.close(inner)
        events.close(named)
        events.open("ORDER", parent=cause)  # never ends


@pytest.mark.smoke
def test_an_export_comes_back_as_the_rows_that_went_out(tmp_path: Path) -> None:
    record_everything(tmp_path / "one", "run-1")
    wanted = rows_of(tmp_path / "one", "run-1")
    assert len(wanted) == 6
    spans = import_into(tmp_path / "two", exported(tmp_path / "one", "run-1"))
    assert [(one.run_id, one.taken) for one in spans.outcomes] == [("run-1", 6)]
    found = rows_of(tmp_path / "two", "run-1")
    for before, after in zip(wanted, found, strict=True):
        assert after == before
    (record,) = EventStore(tmp_path / "two").run_records()
    (old,) = EventStore(tmp_path / "one").run_records()
    assert (record.source, record.status, record.mode) == ("import", "Ended", old.mode)
    assert (record.service_name, record.kept) == (old.service_name, old.kept)


def test_a_market_that_gives_its_prices_as_text_is_the_same_to_a_backend(tmp_path: Path) -> None:
    """The lake keeps such prices as decimals then; OTLP cannot tell text from a decimal."""
    record_market(tmp_path / "one", "run-1", trades=3)
    import_into(tmp_path / "two", exported(tmp_path / "one", "run-1"))
    (wanted, found) = (
        of_requests(
            OtlpEncoder().encode(SpanSelection(EventStore(tmp_path / name), "run-1").batches())
        )
        for name in ("one", "two")
    )
    assert differences(wanted, found) == []
    query = "SELECT sum(quantity * price), count(*) FROM fills"
    assert list(EventStore(tmp_path / "one").query(query).rows) == list(
        EventStore(tmp_path / "two").query(query).rows
    )
