"""What the rows of many events have in common: their names, and where their numbers go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from fillpath.exporters.number_columns import (
    LARGEST_SHOWN,
    MONEY,
    SMALLEST_OF_18_DIGITS,
)
from fillpath.exporters.record_columns import MOST_SLOTS, Booleans, Doubles, Integers, RecordColumns
from fillpath.exporters.schema import NUMBER_NAMES, SPAN_SCHEMA
from fillpath.exporters.span_rows import row_of
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.instrumentation.event_sampler import KEEP_ALL
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    MAX_EXACT,
    MAX_MANTISSA,
    FieldKind,
    Flag,
    Site,
)

_ABSENT_SHIFT: Final = FLAGS_SHIFT + 8
_MASKS: Final = 1 << MOST_SLOTS
_SAMPLES: Final = {FieldKind.DOUBLE: 0.5}
_COMMON_DIGITS: Final = 1e9


class Source(NamedTuple):
    """Where the numbers of a column come from: a slot, or a constant."""

    column: str
    slot: int | None
    kind: str
    scale: int
    constant: float


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """Rows of one site whose same numbers are absent.

    Attributes:
        site: The site.
        texts: Values of the columns that are the same in all of them.
        sources: Where their numbers come from.
        decimal_scale: Theirs, if no double needs more digits.
        regular: Whether each of their numbers has a column; otherwise texts differ, too.
    """

    site: Site
    texts: dict[str, Any]
    sources: tuple[Source, ...]
    decimal_scale: int | None
    regular: bool


class RowTemplates:
    """Makes templates of a run's sites, each once.

    Args:
        events: Knows the sites.
        spans: Makes rows.
    """

    def __init__(self, events: SpoolEvents, spans: SpoolSpans) -> None:
        self._events = events
        self._spans = spans
        self._made: dict[int, RowTemplate] = {}

    def of(self, columns: RecordColumns, rows: Integers) -> tuple[list[RowTemplate], Integers]:
        """Give the templates of some records, and for each of them which of these is its own.

        Raises:
            SpoolError: When a record refers to a site that was not described.
        """
        place = columns.place if len(rows) == len(columns) else columns.place[rows]
        site = place & ((1 << FLAGS_SHIFT) - 1)
        codes = site * _MASKS + (place >> _ABSENT_SHIFT & _MASKS - 1)
        most = int(codes.max(initial=0)) + 1
        if most > 1 << 22:
            distinct, which = np.unique(codes, return_inverse=True)
        else:
            present = np.zeros(most, np.bool_)
            present[codes] = True
            distinct = np.flatnonzero(present)
            number = np.zeros(most, np.int64)
            number[distinct] = np.arange(len(distinct))
            which = number[codes]
        templates = []
        for code in distinct.tolist():
            template = self._made.get(code)
            if template is None:
                template = self._made[code] = self._make(*divmod(code, _MASKS))
            templates.append(template)
        return templates, which

    def _make(self, number: int, absent: int) -> RowTemplate:
        """Ask the way that any event goes: what it makes of an event of the site."""
        site = self._events.site(number, 0)
        fields = site.fields[:MOST_SLOTS]
        samples = tuple(_SAMPLES.get(FieldKind(field.kind), 1.0) for field in fields)
        attributes = site.attributes(samples, absent * Flag.ABSENT)
        event = RecordedEvent(1, 0, 1, None, None, None, site, attributes)
        row, placed = row_of(self._spans.span(event, KEEP_ALL))
        texts = dict(zip(SPAN_SCHEMA.names, row, strict=True))
        slots = {field.key: slot for slot, field in enumerate(fields) if not absent >> slot & 1}
        sources = []
        for key, column, kind, scale in placed:
            slot = slots.get(key)
            sources.append(Source(column, slot, kind, scale, texts[column]))
        scale_needed = texts["decimal_scale"]
        for name in (*NUMBER_NAMES, "decimal_scale"):
            del texts[name]
        placed_slots = {source.slot for source in sources}
        regular = placed_slots.issuperset(slots.values())
        return RowTemplate(site, texts, tuple(sources), scale_needed, regular)


def numbers_of(source: Source, numbers: Doubles) -> Doubles:
    """Turn what a slot holds into what the column holds."""
    values: Doubles
    if source.kind == FieldKind.DECIMAL:
        # Both are exact, so that the quotient is the double that is nearest to the decimal.
        values = numbers / 10.0**source.scale + 0.0
        return values
    if source.kind == FieldKind.INTEGER:
        values = numbers + 0.0  # there is no negative zero among integers
        return values
    if source.kind == FieldKind.BOOLEAN:
        values = (numbers != 0).astype(np.float64)
        return values
    return numbers


def odd_numbers(source: Source, numbers: Doubles) -> Booleans | None:
    """Tell which numbers of a slot numpy must not put into the column; None: not one of them."""
    if source.kind == FieldKind.DECIMAL:
        return _beyond(numbers, MAX_MANTISSA)
    if source.kind == FieldKind.INTEGER:
        return _beyond(numbers, MAX_EXACT + 1)
    if source.kind == FieldKind.DOUBLE and source.column in MONEY:
        size = np.abs(numbers)
        odd = ~(size < LARGEST_SHOWN)
        odd |= (size < SMALLEST_OF_18_DIGITS) & fine_numbers(numbers)
        return odd if odd.any() else None
    return None


def _beyond(numbers: Doubles, limit: int) -> Booleans | None:
    odd = ~(np.abs(numbers) < limit)
    return odd if odd.any() else None


def fine_numbers(numbers: Doubles) -> Booleans:
    """Tell which doubles need more than nine digits after the point."""
    with np.errstate(invalid="ignore", over="ignore"):
        fine: Booleans = np.rint(numbers * _COMMON_DIGITS) / _COMMON_DIGITS != numbers
    return fine
