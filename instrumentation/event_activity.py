"""How lively an event's market is, as a score from 0 to 1; lively events are kept more often.

The score is made of four things, each from 0 to 1, each compared with what the event's own series
(the events of one kind, portfolio, strategy and symbol) was like shortly before:

- move: the newest move of the price in this portfolio and symbol, beside the mean of the 8 before
- burst: how much faster the last 8 events came than the last 64
- gap: how much longer the silence before the event was than the mean of the last 64

and of the weight of the kind: what a market does matters for a bar, hardly for a system's message.
Nothing in it depends on which events were kept, so that a higher rate keeps all that a lower one
keeps; and every part is computed of a fixed number of values in a fixed order, so that an event
gets the same score to the last bit whether it is judged alone or among thousands.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

from fillpath.instrumentation.semconv import EventType

SHORT: Final = 8
"""Events, and moves of a price, that "just now" means."""
LONG: Final = 64
"""Events that "usually" means."""
FARTHEST: Final = 1 << 61
"""Times further from the epoch count as unknown, so that 64 bits hold every difference."""
MOVE_SHARE: Final = 0.6
BURST_SHARE: Final = 0.2
GAP_SHARE: Final = 0.2
"""How much each part counts."""
TIMES_MORE: Final = 4.0
"""A move, or a burst, this many times above the usual counts in full."""
TIMES_LONGER: Final = 8.0
"""A silence this many times above the usual counts in full."""
GAIN: Final = 19.0
"""An event of score 1 is kept 1 + this times as often as one of score 0."""

KIND_WEIGHTS: Final[dict[str, float]] = {
    EventType.BAR: 1.0,
    EventType.TICK: 0.75,
    EventType.BOOK: 0.5,
    EventType.FEATURES: 0.75,
    EventType.SIGNAL: 0.5,
    EventType.SYSTEM: 0.25,
}
OTHER_KIND_WEIGHT: Final = 0.75


def kind_weight(event_type: str) -> float:
    """How much the liveliness of its market counts for an event of this kind."""
    return KIND_WEIGHTS.get(event_type, OTHER_KIND_WEIGHT)


class SeriesActivity:
    """Follows one series of events."""

    __slots__ = ("_price", "_steps", "_times")

    def __init__(self) -> None:
        self._times: deque[int | None] = deque(maxlen=LONG)
        self._steps: deque[float] = deque(maxlen=SHORT)
        """How far the newest prices are apart."""
        self._price = math.nan

    def tempo(self, event_time: int | None) -> float:
        """What burst and gap add to the score of the event that is next in the series.

        Args:
            event_time: Nanoseconds since the epoch; None when it is not known.
        """
        if event_time is not None and abs(event_time) > FARTHEST:
            event_time = None
        times = self._times
        added = 0.0
        if len(times) == LONG and event_time is not None:
            oldest, recent, last = times[0], times[LONG - SHORT], times[LONG - 1]
            if oldest is not None and recent is not None and last is not None:
                added = tempo_of(event_time - oldest, event_time - recent, event_time - last)
        times.append(event_time)
        return added

    def move(self, price: float) -> float:
        """How far, from 0 to 1, the next price of the series is from the one before."""
        step, self._price = abs(price - self._price), price
        if step != step:  # noqa: PLR0124 - NaN: there was no price before
            return 0.0
        steps = self._steps
        moved = move_of(step, mean_of(list(steps))) if len(steps) == SHORT else 0.0
        steps.append(step)
        return moved


def mean_of(steps: Iterable[float]) -> float:
    """Mean of `SHORT` numbers, added in pairs of pairs, as exporters add them in arrays."""
    a, b, c, d, e, f, g, h = steps
    return (((a + b) + (c + d)) + ((e + f) + (g + h))) / SHORT


def tempo_of(long: int, short: int, last: int) -> float:
    """What burst and gap add, given the time since 64, 8 and 1 events before."""
    if long <= 0:
        return 0.0
    usual = float(long)
    burst = 1.0
    if short > 0:
        burst = _ramp((usual * SHORT / (float(short) * LONG) - 1.0) / TIMES_MORE)
    gap = _ramp((float(last) * LONG / usual - 1.0) / TIMES_LONGER)
    return BURST_SHARE * burst + GAP_SHARE * gap


def move_of(step: float, usual: float) -> float:
    """How large a step is beside the usual one, from 0 to 1."""
    if usual == 0.0:
        return 1.0 if step > 0.0 else 0.0
    above = (step / usual - 1.0) / TIMES_MORE
    return _ramp(above) if above == above else 0.0  # noqa: PLR0124 - NaN: both are infinite


def _ramp(value: float) -> float:
    return 0.0 if value <= 0.0 else min(value, 1.0)


def score_of(weight: float, move: float, tempo: float) -> float:
    """The score: from 0, a quiet market, to 1."""
    return weight * (MOVE_SHARE * move + tempo)


def probability_of(rate: float, score: float) -> float:
    """Probability with which an event of this score is kept: the rate or more, 1 at most."""
    return min(1.0, rate * (1.0 + GAIN * (score * score)))
