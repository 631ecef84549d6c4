"""From the events of chains to how long each hop between them took.

A hop goes from the start of a cause to the start of what it caused, by the wall clock. Causes are
found for all events at once: every event knows its cause's place, and following two steps in place
of one, then four, then eight, is at the nearest cause of some kind after a few rounds, however long
the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


class Step(IntEnum):
    """What an event is on the way from the market to a fill; numbered as in ``latency.sql``."""

    OTHER = 0
    BAR = 1
    TICK = 2
    BOOK = 3
    FEATURES = 4
    SIGNAL = 5
    ORDER = 6
    SUBMITTED = 7
    ACCEPTED = 8
    FILL = 9


MARKET: Final = (Step.BAR, Step.TICK, Step.BOOK)
"""What the market brings."""

Integers = NDArray[np.int64]
Places = NDArray[np.int32]
Marks = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
_NEW: Final = 16
"""``NEW``: an order's first state in some engines' words, in others that the venue has taken it."""


@dataclass(frozen=True, slots=True)
class HopTimes:
    """How often a hop was taken, one entry each time.

    Attributes:
        hop: From what to what, such as ``SIGNAL → ORDER``.
        sequence: Place of the caused event in the run.
        start: When that event began, nanoseconds since the epoch.
        duration: Since its cause began, nanoseconds; negative if the clock ran backwards.
        who: Hash of who made it.
        decided_by: The same, or if that names no strategy, the nearest above that does.
    """

    hop: str
    sequence: Integers
    start: Integers
    duration: Integers
    who: Hashes
    decided_by: Hashes


class ChainEvents:
    """The events of chains, by column, in their order.

    Args:
        columns: What ``latency.sql`` gives.
        nameless: Hashes of those who name no strategy.
    """

    def __init__(self, columns: Mapping[str, Any], nameless: Hashes) -> None:
        order = np.argsort(columns["sequence"], kind="stable")
        ready = {name: np.asarray(values)[order] for name, values in columns.items()}
        self.sequence: Integers = ready["sequence"]
        self.start: Integers = ready["start_time"]
        self._step = ready["step"].astype(np.int8)
        self._size = self.sequence.size
        self._nowhere = np.int32(self._size)
        self._own = np.arange(self._size + 1, dtype=np.int32)
        self._who: Hashes = np.append(ready["who"], np.uint64(0))
        self._names_strategy: Marks = ~np.isin(self._who, nameless)
        self._names_strategy[-1] = True
        self._cause = self._causes(ready["span"], ready["cause"])
        self._nearest: dict[tuple[Step, ...], Places] = {}
        self._orders_of = self._orders(ready["order_id"])
        events = np.flatnonzero((self._orders_of >= 0) & (self._step >= Step.ORDER))
        # Order by order, each order's events as they came.
        self._of_orders = events[np.argsort(self._orders_of[events], kind="stable")].astype(
            np.int32
        )
        self._is_first = _changes(self._orders_of[self._of_orders])
        is_new = self._step[self._of_orders] == _NEW
        self._step[self._of_orders[is_new & self._is_first]] = Step.ORDER
        self._step[self._of_orders[is_new & ~self._is_first]] = Step.ACCEPTED

    def hops(self) -> Iterator[HopTimes]:
        """Give every kind of hop that was taken."""
        signals, fills = self._places(Step.SIGNAL), self._places(Step.FILL)
        features = self._places(Step.FEATURES)
        market = [step for step in MARKET if self._places(step).size]
        for step in market:
            yield self._from_cause(step, Step.FEATURES, features)
            yield self._from_cause(step, Step.SIGNAL, signals)
        if features.size:
            yield self._from_cause(Step.FEATURES, Step.SIGNAL, signals)
        first = self._of_orders[self._is_first]
        orders = first[self._step[first] != Step.FILL]
        if signals.size:
            yield self._from_cause(Step.SIGNAL, Step.ORDER, orders)
            orders = orders[self._above(orders, Step.SIGNAL) == self._nowhere]
        for step in market:
            yield self._from_cause(step, Step.ORDER, orders)
        yield from self._between_states()
        if market and fills.size:
            begun = self._begun_by_market(fills, market)
            for step in market:
                yield self._between(step, Step.FILL, self._above(begun, step), fills)

    def _causes(self, span: Hashes, cause: Hashes) -> Places:
        """Place of each event's cause; `_nowhere` where it has none, or none that is here."""
        places = np.full(self._size + 1, self._nowhere, np.int32)
        if self._size:
            by_span = np.argsort(span, kind="stable")
            ordered = span[by_span]
            found = np.searchsorted(ordered, cause)
            found[found == self._size] = 0
            known = (cause != 0) & (ordered[found] == cause)
            places[:-1] = np.where(known, by_span[found], self._nowhere)
        return places

    def _nearest_of(self, *steps: Step) -> Places:
        """The nearest event of some kinds on the way up from each event, itself included."""
        if steps not in self._nearest:
            marked = np.append(np.isin(self._step, steps), True)
            self._nearest[steps] = self._first_marked(marked)
        return self._nearest[steps]

    def _first_marked(self, marked: Marks) -> Places:
        """The nearest marked event on the way up from each event, itself included."""
        at = _followed(np.where(marked, self._own, self._cause))
        # A host's own spans may name each other as parents, in a circle without a marked one.
        return np.where(marked[at], at, self._nowhere)

    def _above(self, places: Places, *steps: Step) -> Places:
        """The nearest cause of some kinds, of each event."""
        return self._nearest_of(*steps)[self._cause[places]]

    def _places(self, *steps: Step) -> Places:
        return np.flatnonzero(np.isin(self._step, steps)).astype(np.int32)

    def _orders(self, order_id: Hashes) -> Integers:
        """A number for each event of an order, the same for all of one; -1 elsewhere.

        Where the host gives no id, the order is that of the event's cause.
        """
        numbers = np.full(self._size + 1, -1, np.int64)
        of_order = self._step >= Step.ORDER
        named = np.flatnonzero(of_order & (order_id != 0))
        _, numbers[named] = np.unique(order_id[named], return_inverse=True)
        nameless = np.flatnonzero(of_order & (order_id == 0))
        if nameless.size:
            marked = np.append(of_order | np.isin(self._step, (*MARKET, Step.SIGNAL)), True)
            above = self._first_marked(marked)[self._cause[nameless]]
            follows = np.append(of_order, False)[above]
            up = self._own.copy()
            up[nameless[follows]] = above[follows]
            heads = _followed(up)[nameless]
            known = numbers[heads]
            numbers[nameless] = np.where(known >= 0, known, self._size + heads)
        return numbers[:-1]

    def _between_states(self) -> Iterator[HopTimes]:
        """From each state of an order to the next one on its way."""
        # The first event makes the order, whatever it is called; later ones that say nothing of the
        # way (changes, cancellations) are passed over.
        on_way = self._is_first | (self._step[self._of_orders] != Step.ORDER)
        events = self._of_orders[on_way]
        before, after = events[:-1], events[1:]
        source, target = self._step[before], self._step[after]
        forward = (self._orders_of[before] == self._orders_of[after]) & (source < target)
        for one in (Step.ORDER, Step.SUBMITTED, Step.ACCEPTED):
            for other in (Step.SUBMITTED, Step.ACCEPTED, Step.FILL):
                pairs = forward & (source == one) & (target == other)
                if pairs.any():
                    yield self._between(one, other, before[pairs], after[pairs])

    def _begun_by_market(self, fills: Places, market: list[Step]) -> Places:
        """Where to look for what began a fill: above itself, else above its order's first event."""
        firsts = self._of_orders[self._is_first]
        of_order = firsts[np.searchsorted(self._orders_of[firsts], self._orders_of[fills])]
        return np.where(self._above(fills, *market) == self._nowhere, of_order, fills)

    def _from_cause(self, source: Step, target: Step, effects: Places) -> HopTimes:
        return self._between(source, target, self._above(effects, source), effects)

    def _between(self, source: Step, target: Step, causes: Places, effects: Places) -> HopTimes:
        known = causes != self._nowhere
        causes, effects = causes[known], effects[known]
        timed = (self.start[causes] >= 0) & (self.start[effects] >= 0)
        causes, effects = causes[timed], effects[timed]
        start = self.start[effects]
        return HopTimes(
            f"{source.name} → {target.name}",
            self.sequence[effects],
            start,
            start - self.start[causes],
            self._who[effects],
            self._decided_by(effects),
        )

    def _decided_by(self, effects: Places) -> Hashes:
        if self._names_strategy[effects].all():
            return self._who[effects]
        at = self._first_marked(self._names_strategy)[effects]
        return self._who[np.where(at == self._nowhere, effects, at)]


def _followed(places: Places) -> Places:
    """Follow each place to where it leads to itself; from a circle there is no way out."""
    for _ in range(places.size.bit_length() + 1):
        further = places[places]
        if np.array_equal(further, places):
            break
        places = further
    return places


def _changes(values: Integers) -> Marks:
    """Mark each value that differs from the one before; the first does."""
    marks = np.ones(values.size, np.bool_)
    marks[1:] = values[1:] != values[:-1]
    return marks
