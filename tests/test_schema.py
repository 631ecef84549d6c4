"""Attributes become columns or exact JSON; nothing is lost and nothing is rounded."""

from __future__ import annotations

import json
import math
import re
import tempfile
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters import schema
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.exact_json import to_json
from fillpath.exporters.number_columns import fit_number
from fillpath.exporters.parquet_file import encodings_of, write_parquet
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.instrumentation import semconv
from fillpath.instrumentation.semconv import (
    Bar,
    Event,
    EventType,
    Fill,
    Order,
    Resource,
    Signal,
    Tick,
    Trading,
)

ROOT = Path(__file__).parent.parent
HOSTILE = [
    "<script>alert(1)</script>",
    "'; DROP TABLE spans; --",
    "../x",
    "x" * 300,
    "🦊é\u202e\x00",
]


def _keys() -> set[str]:
    return {
        value
        for group in vars(semconv).values()
        if isinstance(group, type)
        for name, value in vars(group).items()
        if name.isupper() and isinstance(value, str)
    }


def _shown(*spans: Span) -> list[dict[str, Any]]:
    """Write spans to a lake of their own; gives the rows of its view."""
    rows = SpanRows()
    for span in spans:
        rows.add(span)
    with tempfile.TemporaryDirectory() as folder:
        store = EventStore(folder)
        store.append_spans(rows.take(), "run", "app", 1)
        shown = store.query(
            "SELECT spans.*, raw.decimal_scale FROM spans JOIN raw_spans AS raw USING (sequence) "
            "ORDER BY sequence"
        )
        found = [dict(zip(shown.columns, row, strict=True)) for row in shown.rows]
    for row in found:
        row["attributes"] = json.loads(row["attributes"])
    return found


def _row(event_type: str, attributes: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return _shown(_span(1, event_type, attributes, **parts))[0]


def _span(sequence: int, event_type: str, attributes: dict[str, Any], **parts: Any) -> Span:
    return Span(
        "run",
        b"t" * 16,
        sequence.to_bytes(8, "big"),
        None,
        sequence,
        1,
        f"publish {event_type}",
        "PRODUCER",
        event_type,
        "demo/x",
        attributes=attributes,
        **parts,
    )


def test_every_column_says_what_it_means_and_is_in_the_document() -> None:
    document = (ROOT / "docs" / "lake-format.md").read_text()
    encodings = encodings_of(schema.SPAN_SCHEMA)
    for table in (schema.SPAN_SCHEMA, schema.RUN_SCHEMA):
        assert table.metadata[schema.SCHEMA_VERSION_KEY.encode()] == b"2"
        for column in table:
            meaning = column.metadata[b"comment"].decode()
            assert meaning.endswith((".", "…")), column.name
            how = (
                f" {encodings.get(column.name, 'dictionary')} |" if "span_id" in table.names else ""
            )
            assert f"| `{column.name}` | {column.type} |{how} {meaning} |" in document


def test_the_view_repeats_the_attributes_that_it_says_it_does() -> None:
    macros = (ROOT / "exporters" / "sql" / "macros.sql").read_text()
    assert set(re.findall(r"'(trading\.[a-z_.]+)'", macros)) == schema.REPEATED_ATTRIBUTES


def test_the_mapping_names_columns_and_keys_that_exist() -> None:
    columns, keys = set(schema.SPAN_SCHEMA.names), _keys()
    assert set(schema.TEXT_COLUMNS.values()) <= columns
    assert set(schema.TEXT_COLUMNS) <= keys
    for mapping in schema.NUMBER_COLUMNS.values():
        assert set(mapping) <= columns
        assert {key for several in mapping.values() for key in several} <= keys


@settings(deadline=None)
@given(
    st.one_of(
        st.decimals(allow_nan=True, allow_infinity=True),
        st.decimals(places=12, allow_nan=False, allow_infinity=False),
        st.integers(),
        st.floats(),
        st.text(),
        st.booleans(),
        st.none(),
        st.lists(st.integers(), max_size=2),
    )
)
def test_a_number_fits_exactly_or_not_at_all(value: Any) -> None:
    fitted = fit_number(value)
    if fitted is None:
        if isinstance(value, int) and not isinstance(value, bool):
            assert abs(value) >= 10**20
        if isinstance(value, Decimal) and value.is_finite():
            digits = format(value, "f").lstrip("-").strip("0").partition(".")
            assert len(digits[0]) > 20 or len(digits[2]) > 18
        return
    number, scale = fitted
    assert not isinstance(value, bool | list)
    assert number == Decimal(repr(value) if isinstance(value, float) else value)
    if isinstance(value, float):
        assert float(number) == value
    with localcontext(prec=99):
        assert number == round(number, scale)
        assert scale == 0 or number != round(number, scale - 1)
    stored = pa.array([number], pa.decimal128(38, 18))[0].as_py()
    assert stored == number


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.decimals()
    | st.binary(max_size=8)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def _expected(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, Decimal):
        return ("decimal", str(value))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _expected(item) for key, item in value.items()}
    return [_expected(item) for item in value] if isinstance(value, list) else value


def _same(parsed: Any, expected: Any) -> bool:
    if isinstance(expected, tuple):
        given, wanted = Decimal(parsed), Decimal(expected[1])
        return given.compare_total(wanted) == 0 or given == wanted
    if isinstance(expected, dict):
        return parsed.keys() == expected.keys() and all(
            _same(parsed[key], item) for key, item in expected.items()
        )
    if isinstance(expected, list):
        return len(parsed) == len(expected) and all(map(_same, parsed, expected))
    return type(parsed) is type(expected) and bool(parsed == expected)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4))
def test_json_loses_nothing(attributes: dict[str, Any]) -> None:
    assert _same(json.loads(to_json(attributes)), _expected(attributes))


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=4), JSON_VALUES, max_size=4))
def test_duckdb_takes_the_json(attributes: dict[str, Any]) -> None:
    text = to_json(attributes)
    row = duckdb.execute("SELECT json_valid(CAST($1 AS JSON)), CAST($1 AS JSON)", [text]).fetchone()
    assert row == (True, text)


def test_half_a_surrogate_pair_is_written_out() -> None:
    assert json.loads(to_json({"k\udc80": "v\ud800"})) == {"k\\udc80": "v\\ud800"}
    assert _row("X", {Trading.STRATEGY: "s\udc80"})["strategy"] == "s\\udc80"


def test_a_fill_has_its_own_numbers_and_keeps_the_orders() -> None:
    row = _row(
        EventType.FILL,
        {
            Fill.ID: "F-1",
            Fill.QUANTITY: Decimal("2.5"),
            Fill.PRICE: Decimal("101.250"),
            Fill.COMMISSION: Decimal("-0.000000001"),
            Fill.CURRENCY: "USD",
            Fill.COMMISSION_CURRENCY: "EUR",
            Order.QUANTITY: Decimal(10),
            Order.PRICE: Decimal(99),
            Order.SIDE: "BUY",
            Order.CLIENT_ID: "O-1",
            Order.ID: 17,
        },
    )
    assert (row["quantity"], row["price"]) == (Decimal("2.5"), Decimal("101.25"))
    assert row["commission"] == Decimal("-0.000000001")
    assert row["decimal_scale"] == 9
    assert (row["currency"], row["side"], row["fill_id"]) == ("USD", "BUY", "F-1")
    assert (row["client_order_id"], row["order_id"]) == ("O-1", "17")
    assert row["attributes"] == {
        Fill.COMMISSION_CURRENCY: "EUR",
        Order.QUANTITY: "10",
        Order.PRICE: "99",
    }


@pytest.mark.parametrize("event_type", [EventType.ORDER, EventType.COMMAND])
def test_an_orders_price_is_its_limit_or_else_its_trigger(event_type: str) -> None:
    both = {Order.PRICE: Decimal(5), Order.TRIGGER_PRICE: Decimal(6), Order.QUANTITY: 3}
    row = _row(event_type, both)
    assert (row["price"], row["quantity"]) == (5, 3)
    assert row["attributes"] == {Order.TRIGGER_PRICE: "6"}
    stop = _row(event_type, {Order.TRIGGER_PRICE: "6.5"})
    assert stop["price"] == Decimal("6.5")
    assert stop["attributes"] == {Order.TRIGGER_PRICE: "6.5"}


def test_a_bar_has_its_close_and_a_quote_has_no_price() -> None:
    bar = {Bar.OPEN: Decimal(1), Bar.CLOSE: Decimal("1.5"), Bar.VOLUME: 1000}
    row = _row(EventType.BAR, bar)
    assert (row["price"], row["quantity"]) == (Decimal("1.5"), 1000)
    assert row["attributes"] == {Bar.OPEN: "1", Bar.CLOSE: "1.5", Bar.VOLUME: 1000}
    assert _row(EventType.TICK, {Tick.BID: Decimal(1), Tick.ASK: Decimal(2)})["price"] is None
    assert _row(EventType.TICK, {Tick.PRICE: Decimal(3), Tick.SIZE: 4})["quantity"] == 4


def test_numbers_of_other_kinds_and_numbers_that_do_not_fit_stay_attributes() -> None:
    signal = _row(EventType.SIGNAL, {Signal.VALUE: Decimal("0.10"), Fill.PRICE: Decimal(1)})
    assert signal["price"] is None
    assert signal["decimal_scale"] is None
    assert signal["attributes"] == {Signal.VALUE: "0.10", Fill.PRICE: "1"}
    digits = "0.1234567890123456789"
    fill = _row(EventType.FILL, {Fill.PRICE: Decimal(digits), Fill.QUANTITY: math.nan})
    assert (fill["price"], fill["quantity"], fill["decimal_scale"]) == (None, None, None)
    assert fill["attributes"] == {Fill.PRICE: digits, Fill.QUANTITY: "NaN"}


def test_a_column_that_cannot_hold_the_attribute_as_it_is_does_not_swallow_it() -> None:
    row = _row(
        EventType.ORDER,
        {
            Order.SIDE: "Buy",
            Order.STATUS: ["odd"],
            Order.TYPE: True,
            Trading.STRATEGY: "theirs",
            Resource.PORTFOLIO: "demo/x",
            Event.CORRELATION_ID: "chain-7",
        },
        strategy="ours",
    )
    assert row["side"] == "BUY"
    assert (row["status"], row["order_type"], row["strategy"]) == (None, None, "ours")
    assert row["correlation_id"] == "chain-7"
    assert row["attributes"] == {
        Order.SIDE: "Buy",
        Order.STATUS: ["odd"],
        Order.TYPE: True,
        Trading.STRATEGY: "theirs",
    }
    assert _row(EventType.ORDER, {Order.SIDE: "NO_SIDE"})["side"] is None


def test_the_correlation_id_is_the_trace_id_when_the_host_gave_none() -> None:
    assert _row("X", {})["correlation_id"] == (b"t" * 16).hex()


NUMBERS = (
    st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.decimals()
    | st.decimals(places=4, allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["1.50", "7", "1e3", "x", Decimal("-0.00"), Decimal("1E+3"), Decimal("0E-80")]
    )
)
KEYS = st.sampled_from([*sorted(_keys() - set(schema.TEXT_COLUMNS) - {Fill.CURRENCY}), "own", 'ä"'])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*schema.NUMBER_COLUMNS, EventType.SIGNAL]),
            st.dictionaries(KEYS, NUMBERS, max_size=9),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_the_view_shows_every_number_as_it_was(spans: list[tuple[str, dict[str, Any]]]) -> None:
    rows = _shown(*(_span(number, *span) for number, span in enumerate(spans, start=1)))
    for row, (event_type, attributes) in zip(rows, spans, strict=True):
        expected = dict(attributes)
        for column in ("quantity", "price", "commission"):
            keys = schema.NUMBER_COLUMNS.get(event_type, {}).get(column, ())
            key = next((key for key in keys if key in attributes), None)
            fitted = None if key is None else fit_number(attributes[key])
            if key is None or fitted is None:
                assert row[column] is None
                continue
            assert row[column] == fitted[0]
            assert row["decimal_scale"] >= fitted[1]
            if key not in schema.REPEATED_ATTRIBUTES:
                del expected[key]
        assert _same(row["attributes"], _expected(expected))


def test_rows_are_ordered_by_sequence_and_can_be_put_back() -> None:
    rows = SpanRows()
    for sequence in (3, 1, 2):
        rows.add(_span(sequence, "X", {}))
    table = rows.take()
    assert table["sequence"].to_pylist() == [1, 2, 3]
    assert len(rows) == 0
    rows.put_back(table)
    rows.add(_span(0, "X", {}))
    assert len(rows) == 4
    assert rows.take()["sequence"].to_pylist() == [0, 1, 2, 3]


def test_other_readers_see_what_was_written(tmp_path: Path) -> None:
    rows = SpanRows()
    for number, text in enumerate(HOSTILE, start=1):
        rows.add(
            _span(
                number,
                EventType.FILL,
                {Fill.PRICE: Decimal("1e-18"), "note": text},
                strategy=text,
                event_time=1_700_000_000_123_456_789,
                links=[(b"l" * 16, b"s" * 8)] if number == 1 else (),
            )
        )
    path = tmp_path / "spans.parquet"
    write_parquet(rows.take(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["spans.parquet"]

    frame = pl.read_parquet(path)
    assert frame["strategy"].to_list() == HOSTILE
    assert frame["price"].to_list() == [1e-18] * len(HOSTILE)
    assert frame["links"].to_list()[0] == [{"trace_id": b"l" * 16, "span_id": b"s" * 8}]
    assert frame["event_timestamp"].dt.epoch("us").to_list()[0] == 1_700_000_000_123_456
    assert [json.loads(text)["note"] for text in frame["attributes"]] == HOSTILE

    found = duckdb.execute(
        "SELECT strategy, price, attributes->>'note' FROM read_parquet($1) ORDER BY sequence",
        [str(path)],
    ).fetchall()
    assert found == [(text, 1e-18, text) for text in HOSTILE]
