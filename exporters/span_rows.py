"""Turns spans into rows of the lake: each attribute to its column, the rest to exact JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.exact_json import clean, to_json
from fillpath.exporters.number_columns import Placed, layout_json, place_numbers
from fillpath.exporters.schema import (
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    OWN_NUMBER_COLUMNS,
    SPAN_SCHEMA,
    TEXT_COLUMNS,
    VALUE_COLUMNS,
)
from fillpath.instrumentation.event_sampler import KEEP_ALL, Decision
from fillpath.instrumentation.semconv import Event, EventType, Fill

_SIDES: Final = frozenset({"BUY", "SELL"})
_MONEY: Final = ("quantity", "price", "commission")
_NUMBERS: Final = (*OWN_NUMBER_COLUMNS.values(), *VALUE_COLUMNS)
_NO_MONEY: Final = (None,) * len(_MONEY)
_NO_NUMBERS: Final = (None,) * len(_NUMBERS)
_TEXT_KEYS: Final = frozenset(TEXT_COLUMNS)
_BYTES: Final = (bytes, bytearray, memoryview)
_ROWS_AS_TUPLES: Final = 8192
_NO_ROWS: Final = SPAN_SCHEMA.empty_table()
STATUS_ERROR: Final = "ERROR"


@dataclass(slots=True)
class Span:
    """One span on its way to the lake; ids are bytes, times nanoseconds since the epoch.

    `attributes` may hold anything JSON has a place for, and Decimal, bytes, NaN and infinities.
    """

    run_id: str
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    sequence: int
    root_sequence: int | None
    name: str
    span_kind: str
    event_type: str
    portfolio: str | None
    event_time: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    strategy: str | None = None
    symbol: str | None = None
    venue: str | None = None
    handler: str | None = None
    correlation_id: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    links: Sequence[tuple[bytes, bytes]] = ()
    error: tuple[str | None, str | None] | None = None
    """Type and message of what was raised; not None means that the status is Error."""
    decision: Decision = KEEP_ALL
    service_name: str | None = None
    host_name: str | None = None
    scope_name: str | None = None
    trace_state: str | None = None
    resource_attributes: str | None = None


class SpanRows:
    """Collects spans and gives them as an Arrow table of `SPAN_SCHEMA`, ordered by sequence."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._packed: list[pa.Table] = []
        self._packed_rows = 0

    def __len__(self) -> int:
        return self._packed_rows + len(self._rows)

    def add(self, span: Span) -> None:
        """Take one span; its attributes are not changed."""
        self._rows.append(row_of(span)[0])
        if len(self._rows) >= _ROWS_AS_TUPLES:
            self._pack()

    def put_back(self, table: pa.Table) -> None:
        """Take back a table that `take` gave and that could not be used."""
        self._packed.insert(0, table)
        self._packed_rows += len(table)

    def _pack(self) -> None:
        """Turn tuples into Arrow, which takes a tenth of the room."""
        arrays = [
            pa.array(column, type=kind.type)
            for column, kind in zip(zip(*self._rows, strict=True), SPAN_SCHEMA, strict=True)
        ]
        self._packed.append(pa.Table.from_arrays(arrays, schema=SPAN_SCHEMA))
        self._packed_rows += len(self._rows)
        self._rows = []

    def take(self) -> pa.Table:
        """Give the rows collected since the last call."""
        table = self.take_as_added()
        return table.take(pc.sort_indices(table["sequence"]))

    def take_as_added(self) -> pa.Table:
        """Give the rows collected since the last call in the order in which they came."""
        if self._rows:
            self._pack()
        packed, self._packed, self._packed_rows = self._packed, [], 0
        return pa.concat_tables(packed) if packed else _NO_ROWS


def row_of(span: Span) -> tuple[tuple[Any, ...], tuple[Placed, ...]]:
    """Give the row of a span, and where its numbers are."""
    attributes = dict(span.attributes)
    texts: dict[str, str | None] = {
        "event_type": span.event_type,
        "correlation_id": span.correlation_id,
        "handler": span.handler,
        "portfolio": span.portfolio,
        "strategy": span.strategy,
        "symbol": span.symbol,
        "venue": span.venue,
    }
    for key in _TEXT_KEYS.intersection(attributes):
        _move_text(attributes, key, texts, TEXT_COLUMNS[key])
    if span.event_type == EventType.FILL and Fill.CURRENCY in attributes:
        _move_text(attributes, Fill.CURRENCY, texts, "currency")
    numbers = place_numbers(attributes, span.event_type)
    if any(isinstance(value, _BYTES) for value in attributes.values()):
        _name_bytes(attributes)
    message = None
    if span.error is not None:
        exception, message = span.error
        if exception is not None:
            attributes[EXCEPTION_TYPE] = exception
            attributes[EXCEPTION_MESSAGE] = message
    event_time = span.event_time
    correlation_id = texts["correlation_id"]
    get, number = texts.get, numbers.columns.get
    row = (
        span.run_id,
        get("portfolio"),
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.sequence,
        span.root_sequence,
        span.name,
        span.span_kind,
        get("event_type"),
        None if correlation_id in ("", span.trace_id.hex()) else correlation_id,
        event_time,
        None if event_time is None else event_time // 1000,
        span.start_time,
        None if span.end_time is None else span.end_time - (span.start_time or 0),
        get("strategy"),
        get("symbol"),
        get("venue"),
        get("order_id"),
        get("client_order_id"),
        get("fill_id"),
        get("position_id"),
        get("side"),
        get("order_type"),
        get("status"),
        *(map(number, _MONEY) if numbers.columns else _NO_MONEY),
        get("currency"),
        *(map(number, _NUMBERS) if numbers.columns else _NO_NUMBERS),
        layout_json(numbers.layout),
        to_json(numbers.exact) if numbers.exact else None,
        numbers.decimal_scale,
        get("handler"),
        None if span.error is None else STATUS_ERROR,
        message,
        [{"trace_id": trace, "span_id": span_id} for trace, span_id in span.links] or None,
        to_json(attributes) if attributes else None,
        span.decision.reason,
        span.decision.probability,
        span.service_name,
        span.host_name,
        span.scope_name,
        span.trace_state,
        span.resource_attributes,
    )
    return row, numbers.layout


def _name_bytes(attributes: dict[str, Any]) -> None:
    """Name the attributes that are bytes: their hex digits could be taken for a number."""
    known = attributes.get(Event.REPLACED)
    names = list(known) if isinstance(known, list | tuple) else []
    names += [key for key, value in attributes.items() if isinstance(value, _BYTES)]
    attributes[Event.REPLACED] = list(dict.fromkeys(names))


def _move_text(
    attributes: dict[str, Any], key: str, texts: dict[str, str | None], column: str
) -> None:
    """Move an attribute to its column; what the column cannot hold as it is stays as well."""
    value = attributes[key]
    text = clean(value) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    if column == "side" and text is not None and text.upper() in _SIDES:
        text = text.upper()
    elif column == "side" or text is None:
        return
    if texts.get(column) is None:
        texts[column] = text
    if texts[column] == str(value):
        del attributes[key]
