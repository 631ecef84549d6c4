"""Turns spans into rows of the lake: each attribute to its column, the rest to exact JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.schema import (
    DECIMAL_DIGITS,
    DECIMAL_SCALE,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    NUMBER_COLUMNS,
    REPEATED_ATTRIBUTES,
    SPAN_SCHEMA,
    TEXT_COLUMNS,
)
from fillpath.instrumentation.event_sampler import KEEP_ALL, Decision
from fillpath.instrumentation.semconv import EventType, Fill

_EXACT: Final = Context(prec=2 * DECIMAL_DIGITS)
_NUMERAL: Final = re.compile(r"[+-]?[0-9]{1,99}(\.[0-9]{0,99})?([eE][+-]?[0-9]{1,6})?")
_SIDES: Final = frozenset({"BUY", "SELL"})
_NUMBERS: Final = ("quantity", "price", "commission")
_PLAIN_EXPONENTS: Final = range(-60, 1)
_ROWS_AS_TUPLES: Final = 8192
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
        self._rows.append(_row(span))
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
        if self._rows:
            self._pack()
        table = pa.concat_tables([*self._packed, SPAN_SCHEMA.empty_table()])
        self._packed, self._packed_rows = [], 0
        return table.take(pc.sort_indices(table["sequence"]))


def _row(span: Span) -> tuple[Any, ...]:
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
    for key, column in TEXT_COLUMNS.items():
        if key in attributes:
            _move_text(attributes, key, texts, column)
    numbers: dict[str, Decimal] = {}
    scale = None
    if (keys_of := NUMBER_COLUMNS.get(span.event_type)) is not None:
        if span.event_type == EventType.FILL and Fill.CURRENCY in attributes:
            _move_text(attributes, Fill.CURRENCY, texts, "currency")
        scale = _move_numbers(attributes, keys_of, numbers)
    message = None
    if span.error is not None:
        exception, message = span.error
        if exception is not None:
            attributes[EXCEPTION_TYPE] = exception
            attributes[EXCEPTION_MESSAGE] = message
    event_time = span.event_time
    get = texts.get
    return (
        span.run_id,
        get("portfolio"),
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.sequence,
        span.name,
        span.span_kind,
        get("event_type"),
        get("correlation_id") or span.trace_id.hex(),
        event_time,
        None if event_time is None else event_time // 1000,
        span.start_time,
        span.end_time,
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
        *(numbers.get(column) for column in _NUMBERS),
        get("currency"),
        scale,
        get("handler"),
        None if span.error is None else STATUS_ERROR,
        message,
        [{"trace_id": trace, "span_id": span_id} for trace, span_id in span.links] or None,
        to_json(attributes),
        span.decision.reason,
        span.decision.probability,
        span.service_name,
        span.host_name,
        span.scope_name,
        span.trace_state,
        span.resource_attributes,
    )


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


def _move_numbers(
    attributes: dict[str, Any], keys_of: Mapping[str, Sequence[str]], numbers: dict[str, Decimal]
) -> int | None:
    """Move numbers to their columns; gives the most digits after the point among them."""
    scales = []
    for column, keys in keys_of.items():
        key = next((key for key in keys if key in attributes), None)
        if key is None or (fitted := fit_number(attributes[key])) is None:
            continue
        numbers[column], scale = fitted
        scales.append(scale)
        if key not in REPEATED_ATTRIBUTES:
            del attributes[key]
    return max(scales, default=None)


def fit_number(value: Any) -> tuple[Decimal, int] | None:
    """Turn a value into what a number column holds exactly; gives its digits after the point too.

    A float counts as the shortest decimal that is that float. Returns None for what is no finite
    number or has too many digits for the column.
    """
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, str):
        if _NUMERAL.fullmatch(value) is None:
            return None
    elif isinstance(value, bool) or not isinstance(value, Decimal | int):
        return None
    number = Decimal(value)
    if not number.is_finite() or len(number.as_tuple().digits) > _EXACT.prec:
        return None
    number = number.normalize(_EXACT)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # it is finite  # noqa: S101
    scale = max(0, -exponent)
    if scale > DECIMAL_SCALE or len(digits) + exponent > DECIMAL_DIGITS - DECIMAL_SCALE:
        return None
    return number, scale


def clean(text: str) -> str:
    """Write out halves of surrogate pairs, which UTF-8 has no place for."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_json(value: Any) -> str:
    """Write JSON that loses nothing.

    Decimal becomes a string with its digits, NaN and the infinities the strings `NaN`, `Infinity`
    and `-Infinity`, bytes a string of hex digits; integers keep all their digits.
    """
    try:
        text = json.dumps(
            value, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        if not text.isascii():
            text.encode()
    except (ValueError, TypeError):  # NaN, half a surrogate pair, a key that is no text
        return json.dumps(_sanitised(value), ensure_ascii=False, separators=(",", ":"))
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _digits(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return clean(str(value))


def _digits(number: Decimal) -> str:
    exponent = number.as_tuple().exponent
    return format(number, "f") if exponent in _PLAIN_EXPONENTS else str(number)


def _sanitised(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {clean(str(key)): _sanitised(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sanitised(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _sanitised(_plain(value))
