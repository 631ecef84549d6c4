"""Tells the records of a batch that are whole events by themselves from those that are not.

A whole event needs nothing but its record, or its two records, to become a row, and numpy makes
rows of all of them at once. The others began or end in another batch, end with a side record, or
lack their parent; they are put together one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fillpath.exporters.record_columns import Booleans, Integers, RecordColumns
from fillpath.exporters.sequence_bits import Bits
from fillpath.instrumentation.spool import Flag

_BEGIN: Final = int(Flag.BEGIN)
_FINISH: Final = int(Flag.FINISH)
_SIDE: Final = int(Flag.SIDE)
_MOST_ROOM: Final = 64
_LEAST_ROOM: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class WholeEvents:
    """What stands where among the records of a batch.

    Attributes:
        begins: Records of the whole events; a side record may belong to them.
        ends: For each of them the record it ends in: the same one, or a later one.
        others: The other records.
        known: For each record whether its parent's stands before it; None: that must be looked up
            one by one.
    """

    begins: Integers
    ends: Integers
    others: Integers
    known: Booleans | None

    @classmethod
    def among(cls, columns: RecordColumns, seen: Bits) -> WholeEvents:
        """Look for them; `seen` holds the events that began before this batch."""
        flags = columns.flags & (_BEGIN | _FINISH | _SIDE)
        rows = np.arange(len(columns))
        known = _parents_known(columns, flags, seen) if len(columns) else None
        if known is None:
            return cls(rows[:0], rows[:0], rows, None)
        if not _are_paired(flags):
            if known.all():
                return cls(rows, rows, rows[:0], known)
            begins = rows[known]
            return cls(begins, begins, rows[~known], known)
        whole = known & (flags & ~_SIDE == 0)
        ends = np.where(whole, rows, -1)
        _join_pairs(columns.sequence, flags, known, ends)
        begins = np.flatnonzero(ends >= 0)
        ends = ends[begins]
        taken = np.zeros(len(columns), np.bool_)
        taken[begins] = taken[ends] = True
        return cls(begins, ends, np.flatnonzero(~taken), known)


def _are_paired(flags: Integers) -> bool:
    """Tell whether some events have a record for their beginning, or one for their end."""
    return bool((flags & (_BEGIN | _FINISH)).any())


def _parents_known(columns: RecordColumns, flags: Integers, seen: Bits) -> Booleans | None:
    """Tell of each record whether its parent began before it; None when that cannot be told so."""
    sequence, parent = columns.sequence, columns.parent
    low = int(sequence.min())
    room = int(sequence.max()) - low + 1
    if room == len(columns) and not _are_paired(flags) and (sequence[1:] > sequence[:-1]).all():
        known: Booleans = (parent < sequence) & ((parent >= low) | (parent == 0))
        _look_up(known, parent, seen)
        return known
    if low < 0 or room > _MOST_ROOM * len(columns) + _LEAST_ROOM:
        return None
    beginning = np.flatnonzero(flags & _FINISH == 0)
    where: Any = np.full(room, len(columns), np.int32)
    where[sequence[beginning] - low] = beginning
    if np.count_nonzero(where != len(columns)) != len(beginning):
        return None  # two events of one number
    place = parent - low
    inside = (place >= 0) & (place < room)
    known = inside & (where[np.where(inside, place, 0)] < np.arange(len(columns), dtype=np.int32))
    known |= parent == 0
    _look_up(known, parent, seen)
    return known


def _look_up(known: Booleans, parent: Integers, seen: Bits) -> None:
    """Ask for parents that began before the batch."""
    asked = np.flatnonzero(~known)
    if len(asked):
        known[asked] = seen.holds(parent[asked])


def _join_pairs(sequence: Integers, flags: Integers, known: Booleans, ends: Integers) -> None:
    """Find the ends of events that begin and end in this batch, in a record each."""
    finishing = np.flatnonzero(flags & _FINISH)
    beginning = np.flatnonzero(known & (flags & ~_SIDE == _BEGIN))
    if not len(finishing) or not len(beginning):
        return
    low = int(sequence.min())
    room = int(sequence.max()) - low + 1
    last: Any = np.full(room, -1, np.int64)
    last[sequence[finishing] - low] = finishing
    number = np.zeros(room, np.uint8)
    np.add.at(number, sequence[finishing] - low, 1)
    place = sequence[beginning] - low
    found = last[place]
    fits = (number[place] == 1) & (found > beginning) & (flags[found] == _FINISH)
    ends[beginning[fits]] = found[fits]
