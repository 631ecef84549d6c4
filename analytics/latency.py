"""How long the hops from the market to the fill took in a run, and its handlers.

Quantiles of one run are exact. What is kept by period, and so can be added up over periods,
strategies and runs, are exponential histograms. Where the wall clock ran backwards between two
events (of two threads, or when the system set it), the time between them means nothing: it is
counted, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fillpath.analytics.exponential_histogram import (
    ExponentialHistogram,
    rank,
)
from fillpath.analytics.latency_hops import MARKET, Integers, Step

SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND
PERIODS: Final = (
    SECOND,
    10 * SECOND,
    60 * SECOND,
    600 * SECOND,
    3_600 * SECOND,
    DAY,
    7 * DAY,
    28 * DAY,
)
"""Lengths of a period; each is a multiple of the one before, so that periods can be joined."""
MOST_PERIODS: Final = 60
QUANTILES: Final = (50, 90, 99)
"""In hundredths; each is the smallest duration that so many do not exceed, see `rank`."""
WAY_TO_THE_FILL: Final = ("event time", *(step.name for step in Step if step is not Step.OTHER))
"""Ends of hops, in the order in which they follow one another."""
HANDLED: Final = "handled"
"""What a handler's hop leads to: from its start to its end."""
WHOLE_WAYS: Final = frozenset(f"{step.name} → {Step.FILL.name}" for step in MARKET)
"""From the market to the fill, all steps together."""
Key = TypeVar("Key", bound=Hashable)


class HopGroup(NamedTuple):
    """What durations are told apart by."""

    portfolio: str
    strategy: str | None
    handler: str | None
    hop: str

    @property
    def is_handled(self) -> bool:
        """Whether it is how long a handler ran."""
        return self.hop.endswith(f" → {HANDLED}")


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Durations that belong together, in nanoseconds.

    Attributes:
        histogram: Of all of them.
        exact: The exact `QUANTILES`; None where only the histogram tells them.
        backwards: How often the clock ran backwards; these are in nothing else.
        slowest: Run and sequence of the event that ended the longest; None without any.
    """

    histogram: ExponentialHistogram
    exact: tuple[int, ...] | None
    backwards: int = 0
    slowest: tuple[str, int] | None = None

    @property
    def quantiles(self) -> tuple[int | None, ...]:
        """The `QUANTILES`, exact or as the histogram tells them; None without durations."""
        if self.exact is not None:
            return self.exact
        return tuple(self.histogram.quantile(part) for part in QUANTILES)

    def __add__(self, other: LatencySummary) -> LatencySummary:
        """Put two together, at the price of exact quantiles."""
        if not self.histogram.count or not other.histogram.count:
            kept = self if self.histogram.count else other
            return replace(kept, backwards=self.backwards + other.backwards)
        longer = other if other.histogram.max > self.histogram.max else self
        return LatencySummary(
            self.histogram + other.histogram,
            None,
            self.backwards + other.backwards,
            longer.slowest,
        )


@dataclass(frozen=True, slots=True)
class Durations:
    """Every duration of a run, the shortest first; columns of one length.

    Attributes:
        run_id: The run.
        groups: What the numbers in `group` stand for.
        group: Which of `groups` each belongs to.
        sequence: The event that ended it.
        start: When that event began (a handler: its run), nanoseconds since the epoch.
        duration: Nanoseconds, never negative.
        bucket: Its bucket, see `bucket_indices`.
        backwards_group: The group of each that was negative.
        backwards_start: When the event that ended it began.
    """

    run_id: str
    groups: Sequence[HopGroup]
    group: NDArray[np.int32]
    sequence: Integers
    start: Integers
    duration: Integers
    bucket: NDArray[np.int32]
    backwards_group: NDArray[np.int32]
    backwards_start: Integers

    @property
    def extent(self) -> tuple[int, int] | None:
        """When the first and the last of them ended; None without any."""
        if not self.start.size:
            return None
        return int(self.start.min()), int(self.start.max())

    def summaries(
        self, key: Callable[[HopGroup], Key | None], period: int | None = None
    ) -> dict[tuple[Key, int | None], LatencySummary]:
        """Sum up what belongs together.

        Args:
            key: What a group belongs to; None leaves it out.
            period: Tell periods of this length apart, nanoseconds.

        Returns:
            By what `key` gave and the start of the period (None without `period`).
        """
        keys, codes = self._numbered(key)
        pairs = _counted(codes[self.backwards_group], self.backwards_start, period)
        backwards = {(keys[code], start): number for code, start, number in pairs}
        summaries = {}
        for found, start, places in self.parts(key, period):
            durations = self.duration[places]
            ties = places[np.searchsorted(durations, durations[-1]) :]
            summaries[found, start] = LatencySummary(
                ExponentialHistogram.of_sorted(durations, self.bucket[places]),
                tuple(int(durations[rank(durations.size, part) - 1]) for part in QUANTILES),
                backwards.pop((found, start), 0),
                (self.run_id, int(self.sequence[ties].min())),
            )
        for both, number in backwards.items():
            summaries[both] = LatencySummary(ExponentialHistogram(), None, number)
        return summaries

    def parts(
        self, key: Callable[[HopGroup], Key | None], period: int | None = None
    ) -> Iterator[tuple[Key, int | None, Integers]]:
        """Give the places of the durations that belong together, the shortest first.

        The arguments are those of `summaries`; gives what `key` gave, the start of the period, and
        the places in the columns.
        """
        keys, numbers = self._numbered(key)
        codes = numbers[self.group]
        if not codes.size:
            return
        bins = np.zeros_like(codes) if period is None else self.start // period
        low = int(bins.min())
        width = int(bins.max()) - low + 1
        both = (codes + 1) * width + (bins - low)
        # Numbers of 16 bits are put in order much faster.
        small = both.astype(np.uint16) if int(both.max()) < 1 << 16 else both
        order = np.argsort(small, kind="stable")
        ordered = both[order]
        edges = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
        for begin, end in zip([0, *edges[:-1].tolist()], edges.tolist(), strict=True):
            code, place = divmod(int(ordered[begin]), width)
            if code > 0:
                start = None if period is None else (low + place) * period
                yield keys[code - 1], start, order[begin:end]

    def _numbered(self, key: Callable[[HopGroup], Key | None]) -> tuple[list[Key], Integers]:
        """What `key` gives, and the place of that for each group; -1 for what is left out."""
        numbers: dict[Key, int] = {}
        codes = np.full(len(self.groups), -1, np.int64)
        for place, group in enumerate(self.groups):
            found = key(group)
            if found is not None:
                codes[place] = numbers.setdefault(found, len(numbers))
        return list(numbers), codes


def period_for(extents: Iterable[tuple[int, int] | None]) -> int:
    """Choose the shortest of `PERIODS` with at most `MOST_PERIODS` from first to last."""
    known = [one for one in extents if one is not None]
    if not known:
        return PERIODS[0]
    first, last = min(one[0] for one in known), max(one[1] for one in known)
    for period in PERIODS:
        if last // period - first // period < MOST_PERIODS:
            return period
    return PERIODS[-1]


def place_on_the_way(hop: str) -> tuple[bool, int, int, str]:
    """A key that sorts hops from the market to the fill, and handlers behind them."""
    source, _, target = hop.partition(" → ")
    ends = len(WAY_TO_THE_FILL)
    places = [
        WAY_TO_THE_FILL.index(one) if one in WAY_TO_THE_FILL else ends for one in (source, target)
    ]
    return target == HANDLED, places[0], places[1], hop


def _counted(
    codes: Integers, starts: Integers, period: int | None
) -> Iterator[tuple[int, int | None, int]]:
    """Count events by code and period; those of code -1 are left out."""
    bins = np.zeros_like(starts) if period is None else starts // period
    pairs, counts = np.unique(np.stack([codes, bins]), axis=1, return_counts=True)
    for code, place, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        if code >= 0:
            yield code, None if period is None else place * period, count
