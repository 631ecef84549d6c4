"""The sampling policy over a stream of events, one by one, with a memory of those before."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from fillpath.instrumentation.critical_when import number_of
from fillpath.instrumentation.event_activity import (
    SeriesActivity,
    kind_weight,
    probability_of,
    score_of,
)
from fillpath.instrumentation.event_sampler import (
    KEEP_CONTEXT,
    KEEP_CRITICAL,
    Decision,
    EventSampler,
    by_chance,
)
from fillpath.instrumentation.semconv import Bar, EventType, Signal, Tick
from fillpath.instrumentation.signal_meaning import FLAT, UNTOLD, signal_meaning

PRICE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    EventType.BAR: (Bar.CLOSE,),
    EventType.TICK: (Tick.PRICE, Tick.BID),
}
"""Attributes that are the price of an event; of several the first that is there."""

_Key = TypeVar("_Key", bound=Hashable)


class Place(NamedTuple):
    """Where an event belongs. Events without a symbol have no neighbours."""

    portfolio: str | None
    symbol: str | None
    strategy: str | None = None


class SignalMemory:
    """Tells the signals that change something from those that say again what was said before.

    Args:
        most: Signals of different place and name to remember; the oldest is forgotten first.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._last: dict[Hashable, int] = {}

    def changes(self, place: Place, name: object, meaning: int) -> bool:
        """Take the next signal; tells whether it differs from the last of its place and name.

        The first one does if it is not flat. One that does not tell what it says counts as new.
        """
        if meaning == UNTOLD:
            return True
        key = (*place, name)
        last = self._last.get(key, FLAT)
        self._last[key] = meaning
        _forget_oldest(self._last, self._most)
        return meaning != last


class SamplingStream(Generic[_Key]):
    """Judges the events of a run in the order in which they are recorded.

    The caller brings back what `neighbours` names when an event is critical, and all ancestors of
    what is kept.

    Args:
        policy: The policy.
        most: Series of events to remember; the oldest is forgotten first. None means all.
    """

    def __init__(self, policy: EventSampler, most: int | None = None) -> None:
        self._policy = policy
        self._most = most
        self._signals = SignalMemory(most)
        self._series: dict[Hashable, SeriesActivity] = {}
        self._moves: dict[tuple[str | None, str | None], float] = {}
        self._before: dict[tuple[str | None, str], deque[_Key]] = {}
        self._after: dict[tuple[str | None, str], int] = {}

    def judge(
        self,
        key: _Key,
        event_id: int,
        event_type: str,
        place: Place,
        attributes: Mapping[str, Any],
        event_time: int | None = None,
        *,
        failed: bool = False,
    ) -> Decision:
        """Decide on the next event.

        Args:
            key: What the caller knows it by; `neighbours` gives it back.
            event_id: Its span id, which decides about chance.
            event_type: Its kind.
            place: Where it belongs.
            attributes: By semantic-convention key.
            event_time: Nanoseconds since the epoch, if known.
            failed: Whether a handler raised.
        """
        score = self._score(event_type, place, attributes, event_time)
        if self._is_critical(event_type, place, attributes) or failed:
            self.expect_neighbours(place)
            return KEEP_CRITICAL
        if self._is_neighbour(key, place):
            return KEEP_CONTEXT
        return by_chance(event_id, probability_of(self._policy.rate, score))

    def _is_critical(self, event_type: str, place: Place, attributes: Mapping[str, Any]) -> bool:
        critical = event_type in self._policy.critical_kinds
        if critical and event_type == EventType.SIGNAL:
            name = attributes.get(Signal.NAME)
            critical = self._signals.changes(place, signal_name(name), signal_meaning(attributes))
        return critical or self._policy.is_critical_by(event_type, attributes)

    def _score(
        self,
        event_type: str,
        place: Place,
        attributes: Mapping[str, Any],
        event_time: int | None,
    ) -> float:
        key = (event_type, *place)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = SeriesActivity()
            _forget_oldest(self._series, self._most)
        market = place[:2]
        price = price_of(event_type, attributes)
        if math.isfinite(price):
            self._moves[market] = series.move(price)
            _forget_oldest(self._moves, self._most)
        tempo = series.tempo(event_time)
        return score_of(kind_weight(event_type), self._moves.get(market, 0.0), tempo)

    def _is_neighbour(self, key: _Key, place: Place) -> bool:
        """Note an event that is not critical; tells whether it comes right after a critical one."""
        if place.symbol is None or not self._policy.context:
            return False
        market = (place.portfolio, place.symbol)
        before = self._before.get(market)
        if before is None:
            before = self._before[market] = deque(maxlen=self._policy.context)
            _forget_oldest(self._before, self._most)
        before.append(key)
        left = self._after.get(market, 0)
        if left:
            self._after[market] = left - 1
        return left > 0

    def expect_neighbours(self, place: Place) -> None:
        """Keep the events that follow in this place, because of a critical one."""
        if place.symbol is not None and self._policy.context:
            self._after[place.portfolio, place.symbol] = self._policy.context
            _forget_oldest(self._after, self._most)

    def neighbours(self, place: Place) -> list[_Key]:
        """Keys of the newest events of a place that are not critical, the oldest first."""
        if place.symbol is None:
            return []
        return list(self._before.get((place.portfolio, place.symbol), ()))


def signal_name(name: object) -> str:
    """Name of a signal as a key; one without a name is that of its strategy."""
    return "" if name is None else str(name)


def price_of(event_type: str, attributes: Mapping[str, Any]) -> float:
    """Price of a bar or a tick; NaN when there is none."""
    for key in PRICE_KEYS.get(event_type, ()):
        if key in attributes:
            value = attributes[key]
            if type(value) is float:
                return value
            number = number_of(value)
            return math.nan if number is None else float(number)
    return math.nan


def _forget_oldest(memory: dict[Any, Any], most: int | None) -> None:
    if most is not None and len(memory) > most:
        memory.pop(next(iter(memory)))
