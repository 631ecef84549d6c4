"""Finds the first event at which two runs part.

Events are compared one by one in each lane: those of one portfolio, strategy and symbol, in the
order in which they were published. How lanes interleave does not count, as that is up to threads.
What counts is what events say, which event led to them (through which handler), and which of their
ids belong together; ids as such, clocks and traces do not.

Everything is compared at once as numbers. Only where these differ, events are read and compared
field by field, the earliest first, until one is found that really differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from fillpath.analytics.event_fields import FieldDifference, differing_fields
from fillpath.analytics.event_reading import read_events
from fillpath.analytics.event_stream import (
    NOWHERE,
    UNKNOWN,
    Comparison,
    EventStream,
    Hashes,
    Mask,
    Places,
)
from fillpath.analytics.id_pairs import pair_ids

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Parting = Literal["changed", "replaced", "only_a", "only_b", "order", "cause", "ids"]
"""How two runs part: an event says something else; another kind of event stands in its place; an
event is in one of them only; two events changed places; the same event has another cause; its ids
belong together in another way."""

_LOOK_AHEAD: Final = 1000
_FIRST_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Difference:
    """A place at which two runs part.

    Attributes:
        how: In which way.
        a: Place of the event in the first run; None when it has none.
        b: Place of the event in the second run; None when it has none.
        next_a: Where `a` is None: the event that the first run has in its place, if any.
        next_b: The same of the second run.
        fields: Fields in which the two events differ.
        position: How many events of the lane are the same in both before.
    """

    how: Parting
    a: int | None
    b: int | None
    next_a: int | None = None
    next_b: int | None = None
    fields: tuple[FieldDifference, ...] = ()
    position: int = 0

    @property
    def rank(self) -> int:
        """How many events came before in the run that has fewer of them."""
        return min(place for place in (self.a, self.b) if place is not None)


@dataclass(frozen=True, slots=True)
class EventDiff:
    """Two runs, compared.

    Attributes:
        a: Events of the first run.
        b: Events of the second run.
        lanes: Where each lane parts that does, the first in the run first; that one with fields.
        same: For every event of the first run whether it comes before its lane parts.
        partner: For every event of the first run the place of the event at its position in the
            second; -1 without.
        renamed: How many ids differ that correspond one to one.
    """

    a: EventStream
    b: EventStream
    lanes: tuple[Difference, ...]
    same: Mask
    partner: Places
    renamed: int

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.lanes

    @property
    def first(self) -> Difference | None:
        """The first of all differences."""
        return self.lanes[0] if self.lanes else None


class Lanes(NamedTuple):
    """The lanes of a run: their names, where each begins in `order`, and how long it is."""

    names: Hashes
    start: Places
    size: Places
    order: Places


def compare_streams(
    connection_a: DuckDBPyConnection,
    connection_b: DuckDBPyConnection,
    a: EventStream,
    b: EventStream,
    comparison: Comparison,
) -> EventDiff:
    """Compare what two runs published.

    Args:
        connection_a: Has the views of the first run.
        connection_b: Has the views of the second run; may be the same.
        a: Events of the first run, read with `comparison`.
        b: Events of the second run, read with `comparison`.
        comparison: What counts.
    """
    lanes_a, lanes_b = lanes_of(a.lane), lanes_of(b.lane)
    partner = partners(a.lane, a.position, lanes_b)
    paired = np.flatnonzero(partner >= 0)
    cause_differs = _other_links(a, b, partner)
    cause_differs[paired] |= _other_cause(a, b, partner, paired)
    if "handler" not in comparison.ignored:
        handler_a, handler_b = a.handler[paired], b.handler[partner[paired]]
        cause_differs[paired] |= (handler_a != handler_b) & (a.cause[paired] != NOWHERE)
    ids = pair_ids(a.ids, b.ids, partner)
    differs = cause_differs.copy()
    differs[ids.miscounted] = True
    content_differs = np.zeros(len(a), bool)
    content_differs[paired] = a.content[paired] != b.content[partner[paired]]
    confirmed = _Confirmed(connection_a, connection_b, a, b, comparison)
    parts_at = confirmed.partings(differs, content_differs, partner)
    lanes = _Partings(a, b, lanes_a, lanes_b, partner, parts_at)
    same = lanes.before_parting()
    found = lanes.differences(content_differs, cause_differs)
    clash = ids.first(same, partner)
    if clash is not None:
        # Its lane has parted, whatever comes later in it.
        found = [one for one in found if _lane_of(a, b, one) != a.lane[clash]]
        found.append(Difference("ids", clash, int(partner[clash]), position=int(a.position[clash])))
        same &= ~((a.lane == a.lane[clash]) & (a.position >= a.position[clash]))
    found.sort(key=lambda one: (one.rank, one.a is None))
    found = _joined(found)
    if found:
        found[0] = confirmed.with_fields(found[0])
    return EventDiff(a, b, tuple(found), same, partner, ids.renamed(same))


def lanes_of(lane: Hashes) -> Lanes:
    """Sort events by their lanes."""
    order = np.argsort(lane, kind="stable")
    names, start, count = np.unique(lane[order], return_index=True, return_counts=True)
    return Lanes(names, start.astype(np.int64), count.astype(np.int64), order)


def partners(lane: Hashes, position: Places, lanes: Lanes) -> Places:
    """Give for every event of a run the event at its position in its lane of another run.

    Args:
        lane: The events' lanes.
        position: Their positions there.
        lanes: The other run's lanes.

    Returns:
        Places of the other run's events; -1 where there is none.
    """
    partner = np.full(len(lane), NOWHERE, np.int64)
    if not len(lanes.names):
        return partner
    at = np.minimum(np.searchsorted(lanes.names, lane), len(lanes.names) - 1)
    there = np.flatnonzero((lanes.names[at] == lane) & (position < lanes.size[at]))
    partner[there] = lanes.order[lanes.start[at[there]] + position[there]]
    return partner


def _other_cause(a: EventStream, b: EventStream, partner: Places, paired: Places) -> Mask:
    ours, theirs = a.cause[paired], b.cause[partner[paired]]
    expected = np.where(ours >= 0, partner[np.maximum(ours, 0)], ours)
    # A cause that has no partner stands where its lane has parted.
    expected[(ours >= 0) & (expected < 0)] = UNKNOWN
    known = (expected != UNKNOWN) & (theirs != UNKNOWN)
    differs: Mask = known & (expected != theirs)
    return differs


def _other_links(a: EventStream, b: EventStream, partner: Places) -> Mask:
    """Tell which events have links that lead elsewhere; how many there are is part of an event."""
    differs = np.zeros(len(a), bool)
    event_a, target_a = a.links
    event_b, target_b = b.links
    pair_a = partner[event_a] if len(event_a) else event_a
    mine, theirs = np.argsort(pair_a, kind="stable"), np.argsort(event_b, kind="stable")
    mine = mine[pair_a[mine] >= 0]
    theirs = theirs[np.isin(event_b[theirs], pair_a[mine])]
    counts_a = np.bincount(pair_a[mine], minlength=len(b))
    counts_b = np.bincount(event_b[theirs], minlength=len(b))
    alike = counts_a == counts_b
    mine, theirs = mine[alike[pair_a[mine]]], theirs[alike[event_b[theirs]]]
    ours, others = target_a[mine], target_b[theirs]
    if not len(a):
        return differs
    expected = np.where(ours >= 0, partner[np.maximum(ours, 0)], UNKNOWN)
    known = (expected >= 0) & (others >= 0)
    differs[event_a[mine[known & (expected != others)]]] = True
    return differs


class _Confirmed:
    """Reads events whose numbers differ, and tells whether they differ in what counts."""

    def __init__(
        self,
        connection_a: DuckDBPyConnection,
        connection_b: DuckDBPyConnection,
        a: EventStream,
        b: EventStream,
        comparison: Comparison,
    ) -> None:
        self._connections = connection_a, connection_b
        self._a, self._b = a, b
        self._comparison = comparison

    def partings(self, differs: Mask, content_differs: Mask, partner: Places) -> dict[int, int]:
        """Find the first event of each lane that differs, by lane; events of the first run.

        Args:
            differs: Which events differ for certain.
            content_differs: Which events have other numbers and may still be the same.
            partner: For every event of the first run the one it is compared with.
        """
        a = self._a
        certain = np.flatnonzero(differs)
        lanes, at = np.unique(a.lane[certain], return_index=True)
        parts = dict(zip(lanes.tolist(), certain[at].tolist(), strict=True))
        suspects = np.flatnonzero(content_differs)
        batch = _FIRST_BATCH
        while len(suspects):
            batched, suspects = suspects[:batch].tolist(), suspects[batch:]
            batch *= 8
            asked = [one for one in batched if one < parts.get(int(a.lane[one]), len(a))]
            fields = self.fields([(one, int(partner[one])) for one in asked])
            for one in asked:
                lane = int(a.lane[one])
                if fields[one] and one < parts.get(lane, len(a)):
                    parts[lane] = one
            if len(suspects):
                done = np.fromiter(parts, np.uint64, len(parts))
                until = np.fromiter(parts.values(), np.int64, len(parts))
                order = np.argsort(done)
                done, until = done[order], until[order]
                place = np.minimum(np.searchsorted(done, a.lane[suspects]), max(len(done) - 1, 0))
                if len(done):
                    over = (done[place] == a.lane[suspects]) & (until[place] <= suspects)
                    suspects = suspects[~over]
        return parts

    def fields(self, pairs: list[tuple[int, int]]) -> dict[int, tuple[FieldDifference, ...]]:
        """Compare events of the first run with events of the second, field by field."""
        ours = read_events(self._connections[0], self._a, [one for one, _ in pairs])
        theirs = read_events(self._connections[1], self._b, [other for _, other in pairs])
        counted = self._comparison.ignored, self._comparison.tolerance
        return {one: differing_fields(ours[one], theirs[other], *counted) for one, other in pairs}

    def with_fields(self, one: Difference) -> Difference:
        """Add in which fields the two events differ, if there are two."""
        if one.a is None or one.b is None:
            return one
        fields = self.fields([(one.a, one.b)])[one.a]
        # Their numbers differ, what they say does not: so it is the cause.
        how = "cause" if one.how == "changed" and not fields else one.how
        return replace(one, how=how, fields=fields)


class _Partings:
    """Says of each lane in which way it parts."""

    def __init__(
        self,
        a: EventStream,
        b: EventStream,
        lanes_a: Lanes,
        lanes_b: Lanes,
        partner: Places,
        parts_at: dict[int, int],
    ) -> None:
        self._a, self._b = a, b
        self._lanes_a, self._lanes_b = lanes_a, lanes_b
        self._partner = partner
        self._parts_at = parts_at

    def before_parting(self) -> Mask:
        """Tell which events of the first run come before their lane parts."""
        a = self._a
        same: Mask = self._partner >= 0
        for lane, event in self._parts_at.items():
            own = self._members(self._lanes_a, np.uint64(lane))
            same[own[int(a.position[event]) :]] = False
        return same

    def differences(self, content_differs: Mask, cause_differs: Mask) -> list[Difference]:
        """Every lane that parts, and how."""
        found = []
        for name in np.union1d(self._lanes_a.names, self._lanes_b.names):
            mine = self._members(self._lanes_a, name)
            theirs = self._members(self._lanes_b, name)
            event = self._parts_at.get(int(name))
            if event is not None:
                position = int(self._a.position[event])
                mine, theirs = mine[position:][:_LOOK_AHEAD], theirs[position:][:_LOOK_AHEAD]
                if content_differs[event]:
                    one = self._other_content(mine, theirs)
                else:
                    one = self._same_content(mine, theirs, other_cause=bool(cause_differs[event]))
                found.append(replace(one, position=position))
            elif len(mine) > len(theirs):
                found.append(
                    Difference("only_a", int(mine[len(theirs)]), None, position=len(theirs))
                )
            elif len(theirs) > len(mine):
                found.append(Difference("only_b", None, int(theirs[len(mine)]), position=len(mine)))
        return found

    def _members(self, lanes: Lanes, name: np.uint64) -> Places:
        at = int(np.searchsorted(lanes.names, name))
        if at == len(lanes.names) or lanes.names[at] != name:
            return lanes.order[:0]
        return lanes.order[lanes.start[at] : lanes.start[at] + lanes.size[at]]

    def _same_content(self, mine: Places, theirs: Places, *, other_cause: bool) -> Difference:
        """Say how two events differ that say the same."""
        a, b = int(mine[0]), int(theirs[0])
        if not other_cause:
            return Difference("ids", a, b)
        if len(mine) > 1 and self._alike(int(mine[1]), b):
            return Difference("only_a", a, None, next_b=b)
        if len(theirs) > 1 and self._alike(a, int(theirs[1])):
            return Difference("only_b", None, b, next_a=a)
        return Difference("cause", a, b)

    def _alike(self, a: int, b: int) -> bool:
        """Tell whether two events say the same and have the same cause."""
        cause = int(self._a.cause[a])
        expected = int(self._partner[cause]) if cause >= 0 else cause
        same_content = bool(self._a.content[a] == self._b.content[b])
        return same_content and expected == int(self._b.cause[b])

    def _other_content(self, mine: Places, theirs: Places) -> Difference:
        """Say how two events differ of which each says something else."""
        a, b = int(mine[0]), int(theirs[0])
        contents_a, contents_b = self._a.content[mine], self._b.content[theirs]
        # Whichever explanation lets the two go on alike for longest.
        goes_on = {
            "changed": _agreement(contents_a[1:], contents_b[1:]),
            "only_a": _agreement(contents_a[1:], contents_b),
            "only_b": _agreement(contents_a, contents_b[1:]),
            "order": 0,
        }
        if _agreement(contents_a[:2], contents_b[:2][::-1]) == 2:
            goes_on["order"] = 2 + _agreement(contents_a[2:], contents_b[2:])
        best = max(goes_on, key=lambda how: goes_on[how])
        if not goes_on[best]:
            best = self._by_what_follows(mine, theirs)
        if best == "only_a":
            return Difference("only_a", a, None, next_b=b)
        if best == "only_b":
            return Difference("only_b", None, b, next_a=a)
        if best == "order":
            return Difference("order", a, b)
        kind_a = self._a.kinds[int(self._a.event_type[a])]
        kind_b = self._b.kinds[int(self._b.event_type[b])]
        return Difference("changed" if kind_a == kind_b else "replaced", a, b)

    def _by_what_follows(self, mine: Places, theirs: Places) -> str:
        """Say how two events differ after which nothing is alike at once."""
        contents_a, contents_b = self._a.content[mine], self._b.content[theirs]
        a_later = bool(np.any(contents_b[1:] == contents_a[0]))
        b_later = bool(np.any(contents_a[1:] == contents_b[0]))
        if a_later and b_later:
            return "order"
        time_a, time_b = int(self._a.event_time[mine[0]]), int(self._b.event_time[theirs[0]])
        is_last = len(mine) == len(theirs) == 1
        if not (a_later or b_later or is_last) and 0 not in {time_a, time_b}:
            a_later, b_later = time_b < time_a, time_a < time_b
        return "only_a" if b_later else "only_b" if a_later else "changed"


def _agreement(one: Hashes, other: Hashes) -> int:
    """Count how many of two rows of contents are alike from their beginning."""
    shorter = min(len(one), len(other))
    unlike = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(unlike[0]) if len(unlike) else shorter


def _lane_of(a: EventStream, b: EventStream, one: Difference) -> np.uint64:
    if one.a is not None:
        return np.uint64(a.lane[one.a])
    return np.uint64(b.lane[one.b or 0])


def _joined(found: list[Difference]) -> list[Difference]:
    """Join two events that take each other's place in the runs, though their lanes differ.

    An event that names another strategy or symbol than in the other run is in another lane there.
    """
    if len(found) < 2:
        return found
    one, other, *rest = found
    if one.how == "only_a" and other.how == "only_b" and one.a == other.b:
        joined = Difference("replaced", one.a, other.b, position=one.position)
        return [joined, *rest]
    return found
