"""Events of earlier batches: which are settled, and which are brought back after all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from fillpath.exporters.event_batch import CODE_OF, Codes
from fillpath.exporters.record_columns import Integers
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.sequence_memory import Lookup, RecentEvents
from fillpath.exporters.spool_events import RecordedEvent
from fillpath.instrumentation.event_sampler import ANCESTOR, CONTEXT

NEVER: Final = int(np.iinfo(np.int64).max)
"""Stands for a record that will not come."""


class _Wanted:
    """An event that is brought back, and the first record that wants it as what."""

    __slots__ = ("ancestor", "context", "parent", "site")

    def __init__(self, parent: int, site: int) -> None:
        self.parent = parent
        self.site = site
        self.ancestor = self.context = NEVER


class EarlierEvents:
    """Remembers what ended before the batch at hand.

    Args:
        read_again: Gives an event that has ended, by its sequence; None when it was dropped.
    """

    def __init__(self, read_again: Callable[[int], RecordedEvent | None]) -> None:
        self._read_again = read_again
        self._recent = RecentEvents()
        self._settled = Bits()
        """Events that are kept, or are not in the spool: nothing to do about them."""
        self._wanted: dict[int, _Wanted] = {}

    def note(self, sequence: Integers, parent: Integers, site: Integers) -> None:
        """Take the events of a batch."""
        self._recent.note(sequence, parent, site)

    def settle(self, sequence: Integers) -> None:
        """Take those that ended and are kept."""
        self._settled.add_all(sequence)

    def unsettled(self, sequences: Integers) -> Integers:
        """Tell which places of the array hold events that are not settled."""
        return np.flatnonzero(~self._settled.holds(sequences))

    def want_as_neighbour(self, sequence: int, row: int) -> int:
        """Bring an event back for the critical event of a row; gives its parent, 0 if none."""
        one = self._find(sequence)
        if one is None:
            return 0
        one.context = min(one.context, row)
        return one.parent

    def climb(self, starts: list[tuple[int, int]], known: Lookup) -> Iterator[tuple[int, int]]:
        """Bring ancestors back, up to those that are settled or that the batch knows.

        Args:
            starts: Sequences, and the rows because of which they are wanted.
            known: Events of the batch, and those still open.

        Yields:
            Places in `known` that were reached, and the rows.
        """
        for start, row in starts:
            sequence = start
            while sequence:
                (place,) = known.places(np.array([sequence])).tolist()
                if place >= 0:
                    yield place, row
                    break
                one = self._find(sequence)
                if one is None:
                    break
                first = min(one.ancestor, one.context)
                one.ancestor = min(one.ancestor, row)
                if row >= first:
                    break  # its ancestors were wanted by then
                sequence = one.parent

    def _find(self, sequence: int) -> _Wanted | None:
        """Give an event to bring back; None when it is settled or the spool does not hold it."""
        one = self._wanted.get(sequence)
        if one is None and sequence not in self._settled:
            found = self._recent.find(sequence)
            if found is None and (event := self._read_again(sequence)) is not None:
                found = event.parent, event.site.number
            if found is None:
                self._settled.add(sequence)
            else:
                one = self._wanted[sequence] = _Wanted(*found)
        return one

    def bring_back(self) -> tuple[Integers, Codes, Integers]:
        """Give what is brought back since the last call: sequences, reasons' codes and sites."""
        wanted = sorted(self._wanted.items())
        self._wanted = {}
        codes = [CODE_OF[ANCESTOR if w.ancestor <= w.context else CONTEXT] for _, w in wanted]
        sequences = np.array([sequence for sequence, _ in wanted], np.int64)
        for sequence, _ in wanted:  # they may lie far apart
            self._settled.add(sequence)
        sites = np.array([w.site for _, w in wanted], np.int64)
        return sequences, np.array(codes, np.uint8), sites
