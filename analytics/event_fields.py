"""Which fields two events differ in, as far as a difference says that the runs went apart."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.event_stream import EXACT_IDS, ID_KEY, NEVER_COMPARED, UUID
from fillpath.analytics.exact import exact_arithmetic

_COLUMNS: Final = (
    "event_type",
    "event_time",
    "strategy",
    "symbol",
    "venue",
    "side",
    "order_type",
    "status",
    "quantity",
    "price",
    "commission",
    "currency",
)
_ID_COLUMNS: Final = ("client_order_id", "order_id", "fill_id", "position_id")
_IS_ID: Final = re.compile(ID_KEY)
_HAS_UUID: Final = re.compile(UUID)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST_EXPONENT: Final = 330
_AN_ID: Final = "(an id)"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field in which two events differ; None where an event lacks it."""

    name: str
    a: Any
    b: Any


def differing_fields(
    a: ChainSpan, b: ChainSpan, ignored: Collection[str] = (), tolerance: float = 0.0
) -> tuple[FieldDifference, ...]:
    """Compare two events field by field.

    Ids count as long as both have one: which belongs to which is another question. Numbers are
    compared by value, whatever they were written as; what was measured by a clock does not count.

    Args:
        a: An event of one run.
        b: An event of another.
        ignored: Attributes or columns that do not count.
        tolerance: As in `Comparison`.
    """
    ours, theirs = _fields(a, ignored), _fields(b, ignored)
    names = dict.fromkeys((*ours, *theirs))
    allowed = Decimal(str(tolerance))
    with exact_arithmetic():
        return tuple(
            FieldDifference(name, ours.get(name), theirs.get(name))
            for name in names
            if not _same(ours.get(name), theirs.get(name), allowed)
        )


def _fields(span: ChainSpan, ignored: Collection[str]) -> Mapping[str, Any]:
    fields: dict[str, Any] = {name: getattr(span, name) for name in _COLUMNS}
    if span.is_delivery:
        fields["handler"] = span.handler
    for name in _ID_COLUMNS:
        fields[name] = None if getattr(span, name) is None else _AN_ID
    # Where they lead is compared with the causes; a divided trace has one to its cause.
    fields["links"] = sum(link.span_id != span.parent_span_id for link in span.links)
    fields |= {
        key: _without_ids(key, value)
        for key, value in span.attributes.items()
        if key not in NEVER_COMPARED
    }
    return {name: value for name, value in fields.items() if name not in ignored}


def _without_ids(key: str, value: Any) -> Any:
    if _IS_ID.fullmatch(key) and key not in EXACT_IDS:
        return [_AN_ID] * len(value) if isinstance(value, list) else _AN_ID
    if isinstance(value, str):
        return _HAS_UUID.sub(_AN_ID, value)
    if isinstance(value, Mapping):
        return {name: _without_ids(name, one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_ids(key, one) for one in value]
    return value


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two values are the same: numbers by value, whatever they were written as."""
    with exact_arithmetic():
        return _same(a, b, Decimal(0))


def _same(a: Any, b: Any, tolerance: Decimal) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(_same(one, other, tolerance) for one, other in pairs)
    if type(a) is type(b) and a == b:
        return True
    one, other = _number(a), _number(b)
    if one is None or other is None:
        return type(a) is type(b) and bool(a == b)
    largest = max(abs(one), abs(other), Decimal(1))
    return abs(one - other) <= tolerance * largest


def _number(value: Any) -> Decimal | None:
    """Read a number, also one that was written as text; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    # Beyond what a double can hold it is a text that looks like a number.
    return number if number.is_finite() and abs(number.adjusted()) <= _LARGEST_EXPONENT else None
