"""A request of the columnar encoder is, parsed, what the OpenTelemetry SDK's own encoder makes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceState,
)

from fillpath.exporters import otlp_batch
from fillpath.exporters.number_columns import decimal_text
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_span import varint
from fillpath.exporters.schema import SPAN_SCHEMA, TEXT_ATTRIBUTES
from fillpath.instrumentation.semconv import SCHEMA_URL

PARTS = {
    "otel.events",
    "otel.link_attributes",
    "otel.scope.attributes",
    "otel.scope.schema_url",
    "otel.resource.schema_url",
    "otel.status_code",
    "otel.status_description",
    "otel.scope.version",
    "otel.dropped_counts",
}
NUMBERS = [column.name for column in SPAN_SCHEMA if column.type == pa.float64()]
NUMBERS.remove("sampling_probability")


def sdk_value(value: Any) -> Any:
    """A value of JSON as an SDK takes it: integers beyond 64 bits it does not."""
    if isinstance(value, dict):
        return {key: sdk_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sdk_value(item) for item in value]
    big = isinstance(value, int) and not -(2**63) <= value < 2**63
    return str(value) if big else value


def number(row: dict[str, Any], column: str, kind: str, scale: int) -> Any:
    exact = json.loads(row["exact_numbers"] or "{}").get(column)
    if exact is not None:
        return sdk_value(int(exact)) if kind == "integer" else exact
    if kind == "decimal":
        return f"{Decimal(repr(row[column])):.{scale}f}"
    return {"double": float, "integer": int, "boolean": bool}[kind](row[column])


class SpanOfAnSdk(ReadableSpan):
    """A span that also says what its SDK has cut off."""

    counts: dict[str, int]

    @property
    def dropped_attributes(self) -> int:
        return self.counts.get("attributes", 0)

    @property
    def dropped_events(self) -> int:
        return self.counts.get("events", 0)

    @property
    def dropped_links(self) -> int:
        return self.counts.get("links", 0)


def sdk_span(row: dict[str, Any], runs: dict[str, dict[str, Any]]) -> ReadableSpan:
    """Make the span that a row of the lake stands for, as an application's SDK would have it."""
    others = {key: sdk_value(v) for key, v in json.loads(row["attributes"] or "{}").items()}
    columns: dict[str, Any] = {key: row[column] for column, key in TEXT_ATTRIBUTES}
    if row["event_type"] == "SPAN":
        del columns["trading.event.type"]
    if row["root_sequence"] is not None:
        columns["trading.event.sequence"] = row["sequence"]
    columns["trading.event.time_unix_nano"] = row["event_time"]
    for key, column, kind, scale in json.loads(row["layout"] or "[]"):
        if row[column] is not None:
            columns[key] = number(row, column, kind, scale)
    last = {
        "trading.sampling.reason": row["sampling_reason"],
        "trading.sampling.probability": row["sampling_probability"],
    }
    attributes = {
        **{key: v for key, v in columns.items() if v is not None and key not in others},
        **{key: v for key, v in others.items() if key not in PARTS},
        **{key: v for key, v in last.items() if v is not None and key not in others},
    }
    own = row["root_sequence"] is not None
    resource = {
        "service.name": row["service_name"],
        "service.namespace": "fillpath" if own else None,
        "service.instance.id": row["run_id"] if own else None,
        "host.name": row["host_name"],
        "trading.run.id": row["run_id"],
        **runs.get(row["run_id"], {}),
        "trading.portfolio.namespace": row["portfolio"],
    }
    resource = {key: value for key, value in resource.items() if value is not None}
    resource.update(json.loads(row["resource_attributes"] or "{}"))
    trace_id = int.from_bytes(row["trace_id"], "big")
    parent = row["parent_span_id"]
    status = Status(StatusCode[others.get("otel.status_code", "UNSET")])
    if row["status_code"] == "ERROR" or status.status_code is StatusCode.ERROR:
        text = row["status_message"] or others.get("otel.status_description")
        status = Status(StatusCode.ERROR, text)
    of_links = others.get("otel.link_attributes", [])
    span = SpanOfAnSdk(
        row["name"],
        SpanContext(
            trace_id,
            int.from_bytes(row["span_id"], "big"),
            is_remote=False,
            trace_state=TraceState.from_header([row["trace_state"] or ""]),
        ),
        None
        if parent is None
        else SpanContext(trace_id, int.from_bytes(parent, "big"), is_remote=False),
        Resource(resource, others.get("otel.resource.schema_url")),
        attributes,
        [
            SpanEvent(event["name"], event["attributes"], event["time_unix_nano"])
            for event in others.get("otel.events", [])
        ],
        [
            Link(
                SpanContext(
                    int.from_bytes(link["trace_id"], "big"),
                    int.from_bytes(link["span_id"], "big"),
                    is_remote=False,
                ),
                of_links[n] if n < len(of_links) else None,
            )
            for n, link in enumerate(row["links"] or [])
        ],
        SpanKind[row["span_kind"]],
        None,
        status,
        row["start_time"],
        None if row["duration"] is None else (row["start_time"] or 0) + row["duration"],
        InstrumentationScope(
            row["scope_name"],
            others.get("otel.scope.version", ""),
            others.get("otel.scope.schema_url")
            or (SCHEMA_URL if row["scope_name"] == "fillpath" else None),
            others.get("otel.scope.attributes"),
        )
        if row["scope_name"] is not None
        else None,
    )
    span.counts = others.get("otel.dropped_counts", {})
    return span


def batch_of(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), SPAN_SCHEMA)


def parsed(data: bytes) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(data)
    return request


def check(
    batch: pa.RecordBatch, runs: dict[str, dict[str, Any]] | None = None, **limits: int
) -> list[ExportTraceServiceRequest]:
    """Encode in both ways; what each request holds must be the SDK's message of the same rows."""
    got = [parsed(data) for data in OtlpEncoder(runs, **limits).encode([batch])]
    rows, begin = batch.to_pylist(), 0
    for request in got:
        count = spans_in(request)
        wanted = encode_spans([sdk_span(row, runs or {}) for row in rows[begin : begin + count]])
        assert request == wanted or plain(request) == plain(wanted)  # NaN differs from itself
        begin += count
    assert begin == len(rows)
    return got


def plain(request: ExportTraceServiceRequest) -> bytes:
    return bytes(request.SerializeToString(deterministic=True))


def spans_in(request: ExportTraceServiceRequest) -> int:
    return sum(
        len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
    )


def row(sequence: int, **values: Any) -> dict[str, Any]:
    return {
        "run_id": "run-7",
        "portfolio": "fund/desk",
        "trace_id": (7 << 40 | sequence).to_bytes(16, "big"),
        "span_id": (9 << 40 | sequence).to_bytes(8, "big"),
        "sequence": sequence,
        "root_sequence": sequence,
        "name": "publish BAR",
        "span_kind": "PRODUCER",
        "event_type": "BAR",
        "start_time": 1_790_000_000_000_000_000 + sequence,
        "duration": 1000 + sequence,
        "service_name": "backtest",
        "host_name": "vm",
        "scope_name": "fillpath",
        "sampling_reason": "all",
        "sampling_probability": 1.0,
        **values,
    }


BAR = json.dumps(
    [
        ["trading.bar.open", "open", "decimal", 2],
        ["trading.bar.close", "price", "decimal", 2],
        ["trading.bar.volume", "quantity", "integer", 0],
    ]
)


def market(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Events as an engine publishes them: bars, features, signals, orders and fills."""
    source = random.Random(seed)
    rows = []
    for sequence in range(1, count + 1):
        kind = source.choice(["BAR", "BAR", "FEATURES", "SIGNAL", "ORDER", "FILL"])
        symbol = source.choice(["AAPL", "IBM", "BRK.B"])
        values: dict[str, Any] = {
            "name": f"publish {kind}",
            "event_type": kind,
            "symbol": symbol,
            "event_time": 1_500_000_000_000_000_000 + sequence * 60_000_000_000,
        }
        if kind != "BAR":
            values["parent_span_id"] = (9 << 40 | max(sequence - 1, 1)).to_bytes(8, "big")
            values["strategy"] = source.choice(["Trend-1", "Carry-12"])
        price = round(source.uniform(-2, 1200), 2)
        if kind == "BAR":
            values |= {"layout": BAR, "open": price, "price": price + 0.25}
            values["quantity"] = float(source.randrange(10**7))
        elif kind == "FEATURES":
            layout = [["trading.features.rsi", "value_1", "double", 0]]
            layout += [["trading.features.up", "value_2", "boolean", 0]]
            values |= {"layout": json.dumps(layout), "value_1": source.gauss(0, 1)}
            values["value_2"] = source.choice([0.0, 1.0, None])
        elif kind == "SIGNAL":
            layout = [["trading.signal.strength", "strength", "double", 0]]
            values |= {"layout": json.dumps(layout), "strength": source.random()}
            values["attributes"] = '{"trading.signal.name":"Trend"}'
        else:
            values |= {"client_order_id": f"O-{sequence}", "side": source.choice(["BUY", "SELL"])}
            values["portfolio"] = source.choice(["fund/desk", "fund/other"])
        rows.append(row(sequence, **values))
    return rows


@pytest.mark.smoke
@pytest.mark.parametrize("coded", [False, True])
def test_events_of_a_market_are_what_the_sdk_makes_of_them(coded: bool) -> None:
    batch = batch_of(market(600))
    if coded:
        columns = [
            column.dictionary_encode() if pa.types.is_string(column.type) else column
            for column in batch.columns
        ]
        batch = pa.RecordBatch.from_arrays(columns, batch.schema.names)
    (request,) = check(batch, {"run-7": {"trading.run.mode": "backtest"}})
    assert spans_in(request) == 600
    assert len(request.resource_spans) == 2


def test_a_part_of_a_batch_is_encoded_as_if_it_were_whole() -> None:
    batch = batch_of(market(400))
    check(batch.slice(13, 333))
    columns = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column
        for column in batch.columns
    ]
    check(pa.RecordBatch.from_arrays(columns, batch.schema.names).slice(13, 333))


def test_batches_go_together_and_requests_stay_below_their_limits() -> None:
    rows = market(1000)
    batches = [batch_of(rows[begin : begin + 100]) for begin in range(0, 1000, 100)]
    batches.append(batch_of([]))
    (one,) = OtlpEncoder().encode(batches)
    assert spans_in(parsed(one)) == 1000
    assert [spans_in(request) for request in check(batch_of(rows), max_spans=300)] == [
        300,
        300,
        300,
        100,
    ]
    small = list(OtlpEncoder(max_bytes=10_000).encode(batches))
    assert max(map(len, small)) <= 10_000
    assert len(small) > 20
    check(batch_of(rows), max_bytes=10_000)
    assert list(OtlpEncoder().encode([])) == []
    assert list(OtlpEncoder().encode([batch_of([])])) == []


def test_a_span_larger_than_a_request_may_be_goes_alone() -> None:
    rows = [row(1), row(2, attributes=json.dumps({"x": "y" * 5000})), row(3)]
    requests = check(batch_of(rows), max_bytes=1000)
    assert [spans_in(request) for request in requests] == [1, 1, 1]


def test_every_part_of_a_span_of_another_system_is_carried() -> None:
    others = {
        "otel.events": [
            {"name": "paid", "time_unix_nano": 123, "attributes": {"amount": 5, "of": [1.5, None]}},
            {"name": "", "time_unix_nano": 0, "attributes": {}},
        ],
        "otel.link_attributes": [{"why": "retry"}, {}],
        "otel.scope.attributes": {"team": "a", "floor": 3},
        "otel.scope.schema_url": "https://example.com/scope",
        "otel.resource.schema_url": "https://example.com/resource",
        "otel.status_code": "ERROR",
        "otel.status_description": "timed out",
        "otel.scope.version": "1.2",
        "otel.dropped_counts": {"attributes": 3, "events": 0, "links": 200},
        "nested": {"a": [1, {"b": None}], "": "empty", "t": True, "big": 1 << 90, "f": -0.0},
        "trading.strategy.id": "Own",
    }
    links = [
        {"trace_id": b"\1" * 16, "span_id": b"\2" * 8},
        {"trace_id": b"\3" * 16, "span_id": b"\4" * 8},
    ]
    values = {
        "root_sequence": None,
        "event_type": "SPAN",
        "name": "GET",
        "span_kind": "CLIENT",
        "strategy": "other",
        "parent_span_id": b"\5" * 8,
        "scope_name": "shop",
        "trace_state": "vendor=x,other=y",
        "resource_attributes": '{"deployment.environment":"test","service.namespace":"own"}',
        "attributes": json.dumps(others),
        "links": links,
    }
    ok = json.dumps({"otel.status_code": "OK"})
    rows = [
        row(1, **values),
        *(row(n, **{**values, "links": None}) for n in range(2, 6)),
        *(row(n, attributes=ok, status_message="not said") for n in range(6, 10)),
        *(row(n, status_code="ERROR", status_message="ValueError") for n in range(10, 14)),
        row(14, status_code="ERROR", duration=None),
        row(15, scope_name=None, start_time=None, duration=None, sampling_reason=None),
    ]
    check(batch_of(rows))


def test_numbers_that_a_double_does_not_tell_keep_their_digits() -> None:
    layout = json.dumps(
        [
            ["trading.bar.open", "open", "decimal", 3],
            ["trading.bar.volume", "quantity", "integer", 0],
            ["trading.bar.close", "price", "decimal", 20],
        ]
    )
    exact = json.dumps({"open": "12345678901234567.125", "quantity": str((1 << 63) - 1)})
    beyond = json.dumps({"quantity": str(1 << 63), "price": "0.12345678901234567890"})
    values = {"layout": layout, "open": 1.5, "quantity": 2.0**60, "price": 0.25}
    rows = [row(n, exact_numbers=exact, **values) for n in range(1, 5)]
    rows += [row(n, exact_numbers=beyond, **values) for n in range(5, 9)]
    rows += [row(n, **values) for n in range(9, 13)]
    (request,) = check(batch_of(rows))
    first = request.resource_spans[0].scope_spans[0].spans[0]
    found = {each.key: each.value for each in first.attributes}
    assert found["trading.bar.open"].string_value == "12345678901234567.125"
    assert found["trading.bar.volume"].int_value == (1 << 63) - 1


def test_rows_of_which_each_has_ids_and_notes_of_its_own_are_what_the_sdk_makes_of_them() -> None:
    source = random.Random(3)
    rows = []
    for number, plain in enumerate(market(500), 1):
        notes = {
            "note": "n" * source.randrange(9),
            "ratio": number / 7,
            source.choice(["venue.flags", "otel.scope.version", "trading.symbol"]): f"{number}",
        }
        ids = {
            column: source.choice([None, f"{column}-{number}" + "x" * source.randrange(9)])
            for column in ("order_id", "client_order_id", "fill_id", "position_id")
        }
        rows.append({**plain, **ids, "attributes": json.dumps(notes)})
    check(batch_of(rows))


TEXT = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["BUY", "é", "x" * 200]))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 70), 1 << 70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.text("abc.", min_size=1, max_size=4) | st.sampled_from(
    [
        "trading.strategy.id",
        "trading.event.type",
        "trading.event.sequence",
        "trading.sampling.reason",
    ]
)


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    """What rows of one shape have in common, and what kind of numbers they have."""
    columns = draw(st.lists(st.sampled_from(NUMBERS), max_size=5, unique=True))
    layout = []
    for place, column in enumerate(columns):
        kind = draw(st.sampled_from(["double", "integer", "boolean", "decimal"]))
        scale = draw(st.integers(0, 18)) if kind == "decimal" else 0
        layout.append([f"n{place}.{draw(st.text(max_size=3))}", column, kind, scale])
    shape: dict[str, Any] = {
        "run_id": draw(st.sampled_from(["run-7", "run-8"])),
        "name": draw(st.text(max_size=5)),
        "span_kind": draw(
            st.sampled_from(["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"])
        ),
        "layout": json.dumps(layout) if layout else None,
        "attributes": draw(st.none() | st.dictionaries(KEYS, JSON, max_size=3).map(json.dumps)),
        "scope_name": draw(st.sampled_from(["fillpath", "shop"])),
        "resource_attributes": draw(st.sampled_from([None, '{"a":[1,2],"b":null}', '{"c":1.5}'])),
        "sampling_reason": draw(st.sampled_from([None, "all", "critical"])),
    }
    for column, _ in TEXT_ATTRIBUTES:
        shape[column] = draw(TEXT)
    return shape


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    chosen = draw(st.lists(shapes(), min_size=1, max_size=3))
    for _ in range(draw(st.integers(1, 14))):
        shape = dict(draw(st.sampled_from(chosen)))
        sequence = draw(st.integers(1, (1 << 40) - 1))
        shape["sequence"] = draw(st.just(sequence) | st.integers(-(1 << 63), (1 << 63) - 1))
        shape["root_sequence"] = draw(st.sampled_from([None, 1, sequence]))
        shape["event_time"] = draw(st.none() | st.integers(-(1 << 63), (1 << 63) - 1))
        shape["start_time"] = draw(st.none() | st.integers(0, 1 << 62))
        shape["duration"] = draw(st.none() | st.integers(0, 1 << 62))
        shape["trace_id"] = draw(st.integers(1, (1 << 128) - 1)).to_bytes(16, "big")
        shape["parent_span_id"] = draw(st.sampled_from([None, b"\1" * 8]))
        shape["sampling_probability"] = draw(st.sampled_from([None, 1.0, 0.1]))
        shape["symbol"] = draw(st.sampled_from([None, "", "AB", "CD", "EFG"]))
        shape["order_id"] = draw(st.none() | st.integers(0, 2000).map(str))
        for _, column, kind, scale in json.loads(shape["layout"] or "[]"):
            shape[column] = draw(st.none() | values_of(kind, scale))
        rows.append({**row(sequence), **shape})
    return rows


def values_of(kind: str, scale: int) -> st.SearchStrategy[float]:
    if kind == "decimal":
        mantissas = st.integers(-(10**15) + 1, 10**15 - 1) | st.integers(-2000, 2000)
        return mantissas.map(lambda mantissa: float(Decimal(mantissa).scaleb(-scale)))
    if kind == "integer":
        return (st.integers(-(1 << 53), 1 << 53) | st.integers(-300, 300)).map(float)
    return st.floats() if kind == "double" else st.sampled_from([0.0, 1.0])


@settings(deadline=None, max_examples=150)
@given(batches(), st.integers(1, 20), st.sampled_from([1, 2, 100]), st.sampled_from([0, 64]))
def test_any_batch_is_what_the_sdk_makes_of_it(
    rows: list[dict[str, Any]], most: int, worth: int, texts: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # templates for all rows, for some, for none
        patch.setattr(otlp_batch, "WORTH_A_TEMPLATE", worth)
        patch.setattr(otlp_batch, "MANY_TEXTS", texts)
        check(batch_of(rows), {"run-7": {"trading.run.mode": "live"}}, max_spans=most)


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 18))
def test_the_digits_of_a_decimal_come_back_from_its_double(mantissa: int, scale: int) -> None:
    exact = Decimal(mantissa).scaleb(-scale)
    text = decimal_text(float(exact), scale)
    assert Decimal(text) == exact
    assert len(text.partition(".")[2]) == scale


def test_what_is_no_number_is_written_as_text() -> None:
    assert decimal_text(math.inf, 2) == "Infinity"
    assert decimal_text(-0.0, 2) == "0.00"
    assert varint(300) == b"\xac\x02"
