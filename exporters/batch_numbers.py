"""Puts the numbers of many records into their columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fillpath.exporters.number_columns import MONEY
from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.exporters.row_templates import (
    Source,
    Templates,
    fine_numbers,
    may_be_odd,
    numbers_of,
    odd_numbers,
)
from fillpath.exporters.schema import NUMBER_NAMES
from fillpath.exporters.span_table import SpanTable
from fillpath.instrumentation.spool import FieldKind

_MOST_DIGITS: Final = 18

Part = tuple[int, Source]
"""A group of spans, and where they have the numbers of a column from."""


class NumberGroups:
    """Spans grouped by where their numbers come from; there are few different ways.

    Args:
        templates: Templates of the spans.
        which: For each span, which of these is its own.
    """

    def __init__(self, templates: Templates, which: Integers) -> None:
        self.templates = templates
        self.which = which
        sources = templates.sources
        self._of = templates.group[which] if len(sources) > 1 else None
        self._places: dict[int, Integers | None] = {}
        self._masks: dict[tuple[int, ...], Booleans] = {}
        if self._of is None:
            self.sizes = [len(which)] * len(sources)
        else:
            self.sizes = np.bincount(self._of, minlength=len(sources)).tolist()

    def places(self, group: int) -> Integers | None:
        """Places of the spans of a group; None: it has all of them."""
        if group not in self._places:
            whole = self.sizes[group] == len(self.which)
            self._places[group] = None if whole else np.flatnonzero(self._of == group)
        return self._places[group]

    def mask(self, groups: tuple[int, ...]) -> Booleans:
        """Tell which spans are in one of some groups; for the same groups, the same array."""
        found = self._masks.get(groups)
        if found is None:
            among = np.isin(self.templates.group, groups)
            found = self._masks[groups] = among[self.which]
        return found

    def odd_events(self, numbers: Doubles, begins: Integers, every: bool) -> Booleans | None:
        """Tell which spans have a number that must be put into its column with care.

        Args:
            numbers: The slots of the records.
            begins: Records of the spans.
            every: Whether these are all records, in order.
        """
        odd: Any = None
        regular = self.templates.regular
        if not regular.all():
            odd = ~regular[self.which]
        for group, sources in enumerate(self.templates.sources):
            if not self.sizes[group]:
                continue
            for source in sources:
                if source.slot is None or not may_be_odd(source):
                    continue
                places = self.places(group)
                given = numbers[source.slot]
                if places is not None:
                    given = given[places if every else begins[places]]
                elif not every:
                    given = given[begins]
                found = odd_numbers(source, given)
                if found is not None:
                    if odd is None:
                        odd = np.zeros(len(begins), np.bool_)
                    odd[np.flatnonzero(found) if places is None else places[found]] = True
        return odd  # type: ignore[no-any-return]

    def fill(self, table: SpanTable, numbers: Doubles) -> None:
        """Fill the columns of numbers.

        Args:
            table: Where the columns go.
            numbers: The slots of the spans.
        """
        parts: dict[str, list[Part]] = {}
        for group, sources in enumerate(self.templates.sources):
            if self.sizes[group]:
                for source in sources:
                    parts.setdefault(source.column, []).append((group, source))
        scales = self.templates.scale[self.which]
        for name in NUMBER_NAMES:
            self._fill_column(table, name, numbers, parts.get(name, ()), scales)
        scaled = self.templates.scaled
        if not scaled.any():
            table.numbers("decimal_scale", None)
        else:
            known = None if scaled.all() else scaled[self.which]
            table.numbers("decimal_scale", scales, known)

    def _fill_column(
        self,
        table: SpanTable,
        name: str,
        numbers: Doubles,
        parts: Sequence[Part],
        scales: npt.NDArray[np.int8],
    ) -> None:
        if not parts:
            table.numbers(name, None)
            return
        groups = tuple(group for group, _ in parts)
        filled = sum(self.sizes[group] for group in groups)
        known = None if filled == len(self.which) else self.mask(groups)
        # The slot that most of them have as it is becomes the column. What stands there for the
        # others is replaced, or not looked at.
        straight = [part for part in parts if _is_straight(part[1])]
        slot = None
        if straight:
            slot = max(straight, key=lambda part: self.sizes[part[0]])[1].slot
        if slot is None:
            column = np.zeros(len(self.which))
        elif len(straight) == len(parts) and all(source.slot == slot for _, source in parts):
            column = numbers[slot]
        else:
            column = numbers[slot].copy()
        for group, source in parts:
            straight_here = source.slot == slot and _is_straight(source)
            if straight_here and name not in MONEY:
                continue
            places = self.places(group)
            values: Any = source.constant
            if source.slot is not None:
                given = numbers[source.slot]
                given = given if places is None else given[places]
                values = numbers_of(source, given)
                if name in MONEY and source.kind == FieldKind.DOUBLE:
                    _note_fine(scales, values, places)
            if not straight_here:
                column[slice(None) if places is None else places] = values
        table.numbers(name, column, known)


def _is_straight(source: Source) -> bool:
    return source.slot is not None and source.kind == FieldKind.DOUBLE


def _note_fine(scales: npt.NDArray[np.int8], values: Doubles, places: Integers | None) -> None:
    """Let doubles that need many digits have the scale that says so."""
    fine = fine_numbers(values)
    if fine.any():
        scales[np.flatnonzero(fine) if places is None else places[fine]] = _MOST_DIGITS
