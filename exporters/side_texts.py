"""Adds what side records hold to rows that are made by column: ids, other texts, links.

Most side records of a trading system hold nothing else. One that does is refused, and its event is
made one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from fillpath.exporters.exact_json import to_json
from fillpath.exporters.record_columns import Booleans, Integers
from fillpath.exporters.row_templates import RowTemplate, Templates
from fillpath.exporters.schema import NUMBER_COLUMNS, TEXT_COLUMNS
from fillpath.exporters.waiting_sides import PackedSide
from fillpath.instrumentation.semconv import Event, Fill, Order, Position, Sampling
from fillpath.instrumentation.span_parts import (
    CAUSE_TRACE,
    SPAN_KIND,
    SPAN_NAME,
    SPAN_SCOPE,
    STATUS_CODE,
    TRACE_STATE,
    trace_of_cause,
)
from fillpath.instrumentation.spool import SideRecord

_COLUMNS: Final = {
    key: TEXT_COLUMNS[key]
    for key in (
        Order.ID,
        Order.CLIENT_ID,
        Order.SIDE,
        Order.TYPE,
        Order.STATUS,
        Fill.ID,
        Position.ID,
    )
}
_SIDES: Final = frozenset({"BUY", "SELL"})
_REFUSED: Final = frozenset(
    {
        *(TEXT_COLUMNS.keys() - _COLUMNS.keys()),
        *(key for columns in NUMBER_COLUMNS.values() for keys in columns.values() for key in keys),
        Fill.CURRENCY,
        SPAN_NAME,
        SPAN_KIND,
        SPAN_SCOPE,
        TRACE_STATE,
        STATUS_CODE,
        Event.TIME,
        Event.REPLACED,  # the site's own bytes are named there as well
        Sampling.REASON,
        Sampling.PROBABILITY,
    }
)
"""Attributes that would change a column that the site has filled, or that count as numbers."""
_TAKEN_ALIKE: Final = _COLUMNS.keys() | {CAUSE_TRACE}
_NO_NUMBERS: Final = frozenset({str, list, dict})

Added = tuple[list[int], list[Any]]
"""Places of rows, and what each of them has."""


class SideTexts:
    """What the side records of some events add to their rows."""

    def __init__(self) -> None:
        self.texts: dict[str, Added] = {column: ([], []) for column in _COLUMNS.values()}
        self.members: Added = ([], [])
        """Members of the JSON object of the attributes."""
        self.links: Added = ([], [])
        self.causes: Added = ([], [])
        """Trace ids of causes that are in another trace."""

    def take_all(
        self,
        places: Integers,
        templates: Templates,
        which: Integers,
        sides: Sequence[PackedSide | None],
    ) -> list[int]:
        """Take the side records of events that hold nothing but texts with columns of their own.

        Args:
            places: The events.
            templates: Templates of all rows.
            which: For each of the events, which of these is its own.
            sides: For each of the events, its side record.

        Returns:
            Places of the events whose side records were not taken.
        """
        shapes: dict[tuple[str, ...], tuple[list[int], list[dict[str, Any]]]] = {}
        left: list[int] = []
        for turn, side in enumerate(sides):
            if side is None:
                continue
            _, attributes, links, extra = side
            if links or extra:
                left.append(turn)
                continue
            shape = tuple(attributes)
            alike = shapes.get(shape)
            if alike is None:
                alike = shapes[shape] = ([], [])
            alike[0].append(turn)
            alike[1].append(attributes)
        kinds = which.tolist() if shapes else []
        for shape, (turns, maps) in shapes.items():
            refusing = {
                n for n in {kinds[t] for t in turns} if not templates[n].own.isdisjoint(shape)
            }
            if refusing or not self._take_alike(shape, places[turns].tolist(), maps):
                left += turns
        return places[left].tolist()  # type: ignore[no-any-return]

    def _take_alike(
        self, shape: tuple[str, ...], places: list[int], maps: list[dict[str, Any]]
    ) -> bool:
        """Take maps that have the same keys; tells whether that was possible."""
        if not set(shape) <= _TAKEN_ALIKE:
            return False
        texts = list(zip(*(one.values() for one in maps), strict=True))
        for key, values in zip(shape, texts, strict=False):
            if set(map(type, values)) != {str} or not all(map(str.isascii, values)):
                return False
            if key == Order.SIDE and not _SIDES.issuperset(values):
                return False
            if key == CAUSE_TRACE and not all(map(trace_of_cause, values)):
                return False
        for key, values in zip(shape, texts, strict=False):
            if key == CAUSE_TRACE:
                self.causes[0].extend(places)
                self.causes[1].extend(map(bytes.fromhex, values))
                continue
            added = self.texts[_COLUMNS[key]]
            added[0].extend(places)
            added[1].extend(values)
        return True

    def take(self, place: int, template: RowTemplate, side: SideRecord) -> bool:
        """Take the side record of the event at a place; tells whether that was possible."""
        rest = self._rest(template, side)
        if rest is None:
            return False
        for key, value in side.attributes.items():
            if (column := _COLUMNS.get(key)) is not None:
                places, texts = self.texts[column]
                places.append(place)
                texts.append(value)
            elif key == CAUSE_TRACE:
                self.causes[0].append(place)
                self.causes[1].append(trace_of_cause(value))
        if rest:
            self.members[0].append(place)
            self.members[1].append(to_json(rest)[1:-1])
        if side.links:
            self.links[0].append(place)
            self.links[1].append(side.links)
        return True

    def _rest(self, template: RowTemplate, side: SideRecord) -> dict[str, Any] | None:
        """Attributes that have no column; None when the side record holds something else, too."""
        rest: dict[str, Any] = {}
        for key, value in side.attributes.items():
            kind = type(value)
            if key in _REFUSED or key in template.own or kind not in _NO_NUMBERS:
                return None
            column = _COLUMNS.get(key)
            if key == CAUSE_TRACE:
                if trace_of_cause(value) is None:
                    return None
            elif column is None:
                rest[key] = value
            elif kind is not str or not value.isascii() or not _fits(column, value):
                return None
        return rest if not side.extra or _add_extra(rest, side.extra) else None

    def without(self, gone: Booleans) -> None:
        """Forget some places; those behind them move up."""
        place_of: Integers = np.cumsum(~gone) - 1
        for added in (*self.texts.values(), self.members, self.links, self.causes):
            left = [turn for turn, place in enumerate(added[0]) if not gone[place]]
            added[1][:] = [added[1][turn] for turn in left]
            added[0][:] = [int(place_of[added[0][turn]]) for turn in left]


def _fits(column: str, value: str) -> bool:
    return column != "side" or value in _SIDES


def _add_extra(rest: dict[str, Any], extra: Mapping[str, Any]) -> bool:
    """Add the host's id of the event; tells whether there is nothing that needs more than that."""
    if not extra.keys() <= {"event_id", "correlation_id"}:
        return False
    if "event_id" in extra:
        if type(extra["event_id"]) is not str or Event.ID in rest:
            return False
        rest[Event.ID] = extra["event_id"]
    return True
