"""What the rows of many events have in common: their names, and where their numbers go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt

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
from fillpath.instrumentation.semconv import PUBLISH, Resource, Trading
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    MAX_EXACT,
    MAX_MANTISSA,
    FieldKind,
    Flag,
    Site,
)

_ABSENT_BYTE: Final = (FLAGS_SHIFT + 8) // 8
"""Of a record's place, the byte whose bits say which numbers are absent."""
_SITE_MASK: Final = (1 << FLAGS_SHIFT) - 1
_MASKS: Final = 1 << MOST_SLOTS
_NAME_KEYS: Final = (Resource.PORTFOLIO, Trading.STRATEGY, Trading.SYMBOL, Trading.VENUE)
_MOST_CODES: Final = 1 << 22
_FEW_TEMPLATES: Final = 1024
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
        own: Attributes that the site knows.
    """

    site: Site
    texts: dict[str, Any]
    sources: tuple[Source, ...]
    decimal_scale: int | None
    regular: bool
    own: frozenset[str]


Codes = npt.NDArray[np.int32]


class Names(NamedTuple):
    """A column of texts: which of them the rows of each template have, -1 for none.

    Columns that change together have the same array of codes.
    """

    codes: Codes
    texts: list[str]


class Templates(Sequence[RowTemplate]):
    """Templates by number, and what follows from them for all their rows alike.

    Attributes:
        sources: The different ways in which numbers come into their columns.
        group: For each template, which of these is its own.
        regular: For each template, whether it is.
        scale: Decimal scale of each; 0 where it has none.
        scaled: For each template, whether it has one.
    """

    def __init__(self, templates: Sequence[RowTemplate]) -> None:
        self._templates = tuple(templates)
        number_of: dict[tuple[Source, ...], int] = {}
        group = [number_of.setdefault(one.sources, len(number_of)) for one in self]
        self.sources = list(number_of)
        self.group = np.array(group, np.int8 if len(number_of) < 128 else np.int64)
        self.regular = np.array([one.regular for one in self], np.bool_)
        self.scale = np.array([one.decimal_scale or 0 for one in self], np.int8)
        self.scaled = np.array([one.decimal_scale is not None for one in self], np.bool_)
        kinds: dict[tuple[str, str, bool], int] = {}
        published = [
            (one.site.portfolio, one.site.event_type, one.site.counted)
            if one.site.operation == PUBLISH
            else None
            for one in self
        ]
        self._kind = np.array(
            [-1 if kind is None else kinds.setdefault(kind, len(kinds)) for kind in published],
            np.int64,
        )
        self._kinds = list(kinds)
        self._names: dict[str, Names] = {}
        self._codes: dict[tuple[int, ...], Codes] = {}

    def __len__(self) -> int:
        return len(self._templates)

    @overload
    def __getitem__(self, number: int) -> RowTemplate: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[RowTemplate, ...]: ...
    def __getitem__(self, number: int | slice) -> RowTemplate | tuple[RowTemplate, ...]:
        return self._templates[number]

    def __iter__(self) -> Iterator[RowTemplate]:
        return iter(self._templates)

    def published(self, which: Integers) -> Iterator[tuple[tuple[str, str, bool], int]]:
        """Count events by portfolio, event type, and whether their site is counted.

        Args:
            which: For each row, which of the templates is its own.
        """
        numbers = np.bincount(which, minlength=len(self))
        of_kind = np.zeros(len(self._kinds) + 1, np.int64)
        np.add.at(of_kind, self._kind, numbers)  # the last one stands for those that are none
        for kind, number in zip(self._kinds, of_kind.tolist(), strict=False):
            if number:
                yield kind, number

    def names(self, column: str) -> Names:
        """Give the texts of a column."""
        names = self._names.get(column)
        if names is None:
            numbers: dict[str | None, int] = {None: -1}
            texts = [one.texts[column] for one in self._templates]
            for text in texts:
                if text not in numbers:
                    numbers[text] = len(numbers) - 1
            codes = tuple([numbers[text] for text in texts])
            array = self._codes.setdefault(codes, np.array(codes, np.int32))
            names = self._names[column] = Names(array, list(numbers)[1:])  # type: ignore[arg-type]
        return names


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
        self._alike: dict[tuple[int, str], RowTemplate] = {}
        """Of sites that differ in nothing but names, one."""
        self._current: dict[int, RowTemplate] = {}
        """Templates of the newest batches, by their code."""
        self._templates = Templates(())
        self._number: Integers = np.zeros(0, np.int64)
        """For each code, the number of its template in `_templates`; -1 for none."""
        self._described = np.zeros(0, np.bool_)
        self._sites = 0

    def first_undescribed(self, columns: RecordColumns) -> int | None:
        """Find the first record that needs a site which was not described."""
        if len(self._events.sites) != self._sites:
            self._sites = len(self._events.sites)
            numbers = np.fromiter(self._events.sites, np.int64, self._sites)
            self._described = np.zeros(int(numbers.max()) + 1, np.bool_)
            self._described[numbers] = True
        sites = columns.site
        last = len(self._described) - 1
        if self._described[1:].all() and 1 <= sites.min(initial=1) <= sites.max(initial=1) <= last:
            return None
        missing = sites > last
        if last >= 0:
            missing |= ~self._described[np.minimum(sites, last)]
        missing &= columns.flags & int(Flag.FINISH) == 0  # the end of an event needs no site
        places = np.flatnonzero(missing)
        return int(places[0]) if len(places) else None

    def of(self, columns: RecordColumns, rows: Integers) -> tuple[Templates, Integers]:
        """Give templates, and for each of some records which of these is its own.

        Raises:
            SpoolError: When a record refers to a site that was not described.
        """
        place = columns.place if len(rows) == len(columns) else columns.place[rows]
        codes = place & _SITE_MASK
        codes *= _MASKS
        codes |= place.view(np.uint8)[_ABSENT_BYTE::8]
        most = int(codes.max(initial=0)) + 1
        if most > _MOST_CODES:
            which: Integers
            distinct, which = np.unique(codes, return_inverse=True)
            templates = Templates([self._template(code) for code in distinct.tolist()])
            return templates, which
        if most > len(self._number):
            more = np.full(max(most, 2 * len(self._number)) - len(self._number), -1, np.int64)
            self._number = np.concatenate([self._number, more])
        which = self._number[codes]
        if len(which) and which.min() < 0:
            self._take(np.unique(codes))
            which = self._number[codes]
        return self._templates, which

    def _take(self, codes: Integers) -> None:
        """Let these be among the current templates, and no more old ones than there are new."""
        found = {code: self._template(code) for code in codes.tolist()}
        others = self._current.keys() - found.keys()
        if len(others) <= max(len(found), _FEW_TEMPLATES):
            found = {**self._current, **found}
        self._current = found
        self._templates = Templates(list(found.values()))
        self._number[:] = -1
        self._number[list(found)] = np.arange(len(found))

    def _template(self, code: int) -> RowTemplate:
        template = self._made.get(code)
        if template is None:
            template = self._made[code] = self._make(*divmod(code, _MASKS))
        return template

    def _make(self, number: int, absent: int) -> RowTemplate:
        """Make a template, of one of a site that differs in nothing but names if there is one."""
        site = self._events.site(number, 0)
        names = {"portfolio": site.portfolio, "strategy": site.strategy}
        names |= {"symbol": site.symbol, "venue": site.venue}
        names["service_name"] = self._spans.service_name(site.portfolio)
        nameless = site._replace(number=0, portfolio="", strategy=None, symbol=None, venue=None)
        alike = (absent, repr(nameless))
        other = self._alike.get(alike)
        if other is not None and other.own.isdisjoint(_NAME_KEYS):
            return replace(other, site=site, texts={**other.texts, **names})
        made = self._alike[alike] = self._made_of(site, absent)
        return made

    def _made_of(self, site: Site, absent: int) -> RowTemplate:
        """Ask the way that any event goes: what it makes of an event of the site."""
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
        own = frozenset([field.key for field in site.fields] + [key for key, _ in site.texts])
        return RowTemplate(site, texts, tuple(sources), scale_needed, regular, own)


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


def may_be_odd(source: Source) -> bool:
    """Tell whether `odd_numbers` may find any."""
    if source.kind == FieldKind.DOUBLE:
        return source.column in MONEY
    return source.kind != FieldKind.BOOLEAN


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
