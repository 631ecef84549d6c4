"""How long the hops from the market to the fill took in a run, and its handlers.

Quantiles of one run are exact. What is kept by period, and so can be added up over periods,
strategies and runs, are exponential histograms. Where the wall clock ran backwards between two
events (of two threads, or when the system set it), the time between them means nothing: it is
counted, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fillpath.analytics.exponential_histogram import (
    ExponentialHistogram,
    bucket_indices,
    rank,
)
from fillpath.analytics.latency_hops import MARKET, ChainEvents, Hashes, Integers, Step
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, PROCESS, EventType

if TYPE_CHECKING:
    import duckdb

SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND
PERIODS: Final = (SECOND, 10 * SECOND, 60 * SECOND, 600 * SECOND, 3_600 * SECOND, DAY, 7 * DAY, 28 * DAY)
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
_PROCESS: Final = f"{PROCESS} "
Key = TypeVar("Key", bound=Hashable)


class HopGroup(NamedTuple):
    """What durations are told apart by."""

    portfolio: str
    strategy: str | None
    handler: str | None
    hop: str


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
        numbers: dict[Key, int] = {}
        codes = np.full(len(self.groups) + 1, -1, np.int64)
        for place, group in enumerate(self.groups):
            found = key(group)
            if found is not None:
                codes[place] = numbers.setdefault(found, len(numbers))
        keys = list(numbers)
        backwards = dict(_counted(codes[self.backwards_group], self.backwards_start, period))
        summaries = {}
        for part, of_part in self._parts(codes[self.group], period):
            durations = self.duration[of_part]
            count = durations.size
            ties = of_part[np.searchsorted(durations, durations[-1]) :]
            summaries[keys[part[0]], part[1]] = LatencySummary(
                ExponentialHistogram.of_sorted(durations, self.bucket[of_part]),
                tuple(int(durations[rank(count, each) - 1]) for each in QUANTILES),
                backwards.pop(part, 0),
                (self.run_id, int(self.sequence[ties].min())),
            )
        for (code, start), number in backwards.items():
            nothing = LatencySummary(ExponentialHistogram(), None, number)
            summaries[keys[code], start] = nothing
        return summaries

    def _parts(
        self, codes: Integers, period: int | None
    ) -> Iterator[tuple[tuple[int, int | None], Integers]]:
        """Give the places of the durations of each code and period, the shortest first."""
        if not codes.size:
            return
        bins = np.zeros_like(codes) if period is None else self.start // period
        low = int(bins.min())
        width = int(bins.max()) - low + 1
        both = codes * width + (bins - low)
        order = np.argsort(both, kind="stable")
        ordered = both[order]
        edges = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
        for begin, end in zip([0, *edges[:-1].tolist()], edges.tolist(), strict=True):
            code, place = divmod(int(ordered[begin]), width)
            if code >= 0:
                yield (code, None if period is None else (low + place) * period), order[begin:end]


def measure(connection: duckdb.DuckDBPyConnection, run_id: str, *, live: bool) -> Durations:
    """Measure every hop and handler of a run.

    Args:
        connection: Has the views ``spans`` and ``trace_divisions``.
        run_id: The run.
        live: Whether an event's own time is that of a clock, so that the time from it to its
            publication means something. In a backtest it is simulated.
    """
    names = _Names(_columns(connection, "latency_names", run_id=run_id))
    found = _Collected(names)
    chains = ChainEvents(_columns(connection, "latency", run_id=run_id), names.nameless)
    for one in chains.hops():
        hops = np.full(one.sequence.size, found.number(one.hop))
        found.add(hops, one.who, one.decided_by, one.sequence, one.start, one.duration)
    times = _columns(connection, "latency_times", run_id=run_id, live=live)
    who = times["who"]
    hops = np.array([found.number(hop) for hop in names.hops], np.int64)[names.places(who)]
    found.add(hops, who, who, times["sequence"], times["start_time"], times["duration"], own=True)
    return found.durations(run_id)


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
    places = [WAY_TO_THE_FILL.index(one) if one in WAY_TO_THE_FILL else ends for one in (source, target)]
    return target == HANDLED, places[0], places[1], hop


def latency_tables(
    connection: duckdb.DuckDBPyConnection, run_id: str, *, live: bool
) -> dict[str, TableRows]:
    """Compute the rows of the tables ``latency`` and ``latency_histograms``; see `measure`."""
    measured = measure(connection, run_id, live=live)
    period = period_for([measured.extent])
    by_breakdown = {
        "hop": measured.summaries(lambda group: group._replace(strategy=None, handler=None)),
        "strategy": measured.summaries(lambda group: group._replace(handler=None)),
        "handler": measured.summaries(lambda group: group if _is_handled(group) else None),
    }
    in_time = measured.summaries(lambda group: group, period)
    every = [*by_breakdown.values(), in_time]
    slowest = {one.slowest[1] for part in every for one in part.values() if one.slowest}
    traces = traces_of(connection, run_id, slowest)
    latency = [
        (
            breakdown,
            *group,
            one.histogram.count,
            one.backwards,
            one.histogram.min if one.histogram.count else None,
            one.histogram.mean,
            *one.quantiles,
            one.histogram.max if one.histogram.count else None,
            traces.get(one.slowest[1]) if one.slowest else None,
        )
        for breakdown, summaries in by_breakdown.items()
        for (group, _), one in summaries.items()
    ]
    histograms = [
        (
            *group,
            start,
            one.histogram.count,
            one.histogram.sum,
            one.histogram.min,
            one.histogram.max,
            one.histogram.scale,
            one.histogram.zero_count,
            one.histogram.offset,
            list(one.histogram.counts),
            traces.get(one.slowest[1]) if one.slowest else None,
        )
        for (group, start), one in in_time.items()
        if one.histogram.count
    ]
    return {
        "latency": TableRows(
            "breakdown portfolio strategy handler hop count backwards min mean p50 p90 p99 max "
            "slowest_trace_id".split(),
            latency,
        ),
        "latency_histograms": TableRows(
            "portfolio strategy handler hop period_start count sum min max scale zero_count "
            "bucket_offset bucket_counts slowest_trace_id".split(),
            histograms,
        ),
    }


def traces_of(
    connection: duckdb.DuckDBPyConnection, run_id: str, sequences: Iterable[int]
) -> dict[int, str]:
    """Tell which trace some events of a run are in, by their sequence."""
    rows = connection.execute(
        "SELECT sequence, trace_id FROM spans "
        "WHERE run_id = $run_id AND sequence IN (SELECT unnest($sequences::BIGINT[]))",
        {"run_id": run_id, "sequences": sorted(sequences)},
    ).fetchall()
    return dict(rows)


def _is_handled(group: HopGroup) -> bool:
    return group.hop.endswith(f" → {HANDLED}")


def _counted(
    codes: Integers, starts: Integers, period: int | None
) -> Iterator[tuple[tuple[int, int | None], int]]:
    """Count events by code and period; those of code -1 are left out."""
    bins = np.zeros_like(starts) if period is None else starts // period
    pairs, counts = np.unique(np.stack([codes, bins]), axis=1, return_counts=True)
    for code, place, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        if code >= 0:
            yield (code, None if period is None else place * period), count


def _columns(
    connection: duckdb.DuckDBPyConnection, query: str, **parameters: object
) -> Mapping[str, Any]:
    return connection.execute(read_sql(query), parameters).fetchnumpy()


class _Names:
    """Who makes events: names by hash."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        order = np.argsort(columns["who"])
        self._hashes: Hashes = np.asarray(columns["who"])[order]
        texts = {
            name: [None if text is None else str(text) for text in _texts(columns[name], order)]
            for name in ("portfolio", "strategy", "handler", "event")
        }
        self.portfolios = [text or DEFAULT_PORTFOLIO for text in texts["portfolio"]]
        self.strategies = [text or None for text in texts["strategy"]]
        is_handler = np.asarray(columns["is_handler"])[order].tolist()
        pairs = list(zip(is_handler, texts["event"], strict=True))
        self.hops = [_own_hop(handler, event or "") for handler, event in pairs]
        self.handlers = [
            text if handler else None
            for handler, text in zip(is_handler, texts["handler"], strict=True)
        ]
        self.nameless = self._hashes[[strategy is None for strategy in self.strategies]]

    def places(self, who: Hashes) -> NDArray[np.int64]:
        """Find hashes in the lists of names."""
        return np.searchsorted(self._hashes, who)


def _own_hop(is_handler: bool, event: str) -> str:
    """The hop that an event makes without another one."""
    if not is_handler:
        return f"{WAY_TO_THE_FILL[0]} → {event}"
    if event.startswith(_PROCESS):
        event = event.removeprefix(_PROCESS)
    return f"{event or EventType.DELIVERY} → {HANDLED}"


def _texts(column: Any, order: Integers) -> list[Any]:
    return list(np.ma.filled(np.ma.asarray(column, object), None)[order])


class _Collected:
    """Durations as they are found, with the numbers of their names."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._hops: dict[str, int] = {}
        self._parts: list[tuple[Integers, ...]] = []
        self._groups: dict[HopGroup, int] = {}

    def number(self, hop: str) -> int:
        """Number a hop."""
        return self._hops.setdefault(hop, len(self._hops))

    def add(
        self,
        hops: Integers,
        who: Hashes,
        decided_by: Hashes,
        sequence: Integers,
        start: Integers,
        duration: Integers,
        *,
        own: bool = False,
    ) -> None:
        """Add durations; `own` ones may be those of handlers, whose names count."""
        names = self._names
        size = len(names.portfolios)
        both = names.places(who) * size + names.places(decided_by)
        found, places = np.unique(hops * size * size + both, return_inverse=True)
        listed = list(self._hops)
        numbers = []
        for one in found.tolist():
            hop, (maker, decider) = one // size**2, divmod(one % size**2, size)
            handler = names.handlers[maker] if own else None
            group = HopGroup(
                names.portfolios[maker], names.strategies[decider], handler, listed[hop]
            )
            numbers.append(self._groups.setdefault(group, len(self._groups)))
        of_group = np.array(numbers, np.int64)[places] if numbers else places
        self._parts.append((of_group, sequence, start, duration))

    def durations(self, run_id: str) -> Durations:
        """Bring everything together, in order."""
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        order = np.argsort(columns[3], kind="stable")
        group, sequence, start, duration = (np.asarray(column)[order] for column in columns)
        split = int(np.searchsorted(duration, 0))
        return Durations(
            run_id,
            tuple(self._groups),
            group[split:].astype(np.int32),
            sequence[split:],
            start[split:],
            duration[split:],
            bucket_indices(duration[split:]),
            group[:split].astype(np.int32),
            start[:split],
        )
