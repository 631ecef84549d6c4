"""Finds events by their sequence numbers, in little room."""

from __future__ import annotations

from typing import Final

import numpy as np

from fillpath.exporters.record_columns import Integers

_ROWS: Final = 1 << 17


class RecentEvents:
    """Remembers parent and site of the newest events, in a fixed room."""

    def __init__(self) -> None:
        self._sequence = np.zeros(_ROWS, np.int64)
        self._parent = np.zeros(_ROWS, np.int64)
        self._site = np.zeros(_ROWS, np.int64)

    def note(self, sequence: Integers, parent: Integers, site: Integers) -> None:
        """Take events; later ones take the room of earlier ones."""
        places = sequence & (_ROWS - 1)
        self._sequence[places] = sequence
        self._parent[places] = parent
        self._site[places] = site

    def find(self, sequence: int) -> tuple[int, int] | None:
        """Give parent and site of an event; None when it is too old."""
        place = sequence & (_ROWS - 1)
        if int(self._sequence[place]) != sequence:
            return None
        return int(self._parent[place]), int(self._site[place])


class Lookup:
    """Finds the places of numbers in an array of different numbers."""

    def __init__(self, numbers: Integers) -> None:
        self.numbers = numbers
        self._order = np.argsort(numbers, kind="stable")
        self._sorted = numbers[self._order]

    def places(self, wanted: Integers) -> Integers:
        """Place of each number in the array, -1 where it is not."""
        if not len(self._sorted):
            return np.full(len(wanted), -1)
        found = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[found] == wanted, self._order[found], -1)
