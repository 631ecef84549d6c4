"""A live run against its backtest: signals that it missed, was late with, filled differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.event_fields import same_value
from fillpath.analytics.event_reading import read_events
from fillpath.analytics.event_stream import Comparison, EventStream, read_stream
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.run_cards import portfolios_of
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.runs_view import read_runs
from fillpath.analytics.signal_executions import (
    Executed,
    FillDifference,
    commission_effects,
    fill_differences,
    read_executions,
)
from fillpath.analytics.signal_matching import match_times
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.semconv import EventType, Signal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DEFAULT_WINDOW: Final = 60_000_000_000
"""How far apart signals of an instrument without bars may be, ns."""
_MARKET: Final = (EventType.BAR, EventType.TICK, EventType.BOOK)
Key = tuple[str | None, str | None, str | None, str | None]
"""Portfolio (if names of portfolios count), strategy, symbol and name of a signal."""


@dataclass(frozen=True, slots=True)
class SeenSignal:
    """A signal of one of the runs.

    Attributes:
        span: The signal.
        bar_time: Simulated time of the event of the market that led to it, ns; None without.
        latency: Wall clock from that event's beginning to the signal's, ns; None without.
        executed: What came of it.
    """

    span: ChainSpan
    bar_time: int | None
    latency: int | None
    executed: Executed

    @property
    def time(self) -> int:
        """Its simulated time, ns; the wall clock's where there is none."""
        time = self.span.event_time
        return self.span.start_time if time is None else time


@dataclass(frozen=True, slots=True)
class SignalPair:
    """A signal of the live run and the backtest's that belongs to it.

    Attributes:
        live: The live run's.
        backtest: The backtest's.
        lateness: How much later the live one came, ns of simulated time; negative if earlier.
        other_value: Whether it says something else: another value or strength.
        fills: How it was filled differently.
        commissions: What the live run paid less in commissions, by currency.
    """

    live: SeenSignal
    backtest: SeenSignal
    lateness: int
    other_value: bool
    fills: tuple[FillDifference, ...]
    commissions: Mapping[str, Decimal]

    @property
    def filled_differently(self) -> bool:
        """Whether its orders were filled at other prices or in other quantities."""
        return bool(self.fills)


@dataclass(frozen=True, slots=True)
class LiveMatch:
    """A live run, compared with its backtest.

    Attributes:
        live: The row of the live run in the view `runs`.
        backtest: The row of the backtest.
        pairs: Signals that belong together, in the order of the live run.
        missed: Signals of the backtest alone.
        extra: Signals of the live run alone.
        late_after: A signal is late that is later than this, ns.
        notes: Sentences about how they were matched.
        by_portfolio: Whether portfolios were told apart by name.
    """

    live: dict[str, Any]
    backtest: dict[str, Any]
    pairs: tuple[SignalPair, ...]
    missed: tuple[SeenSignal, ...]
    extra: tuple[SeenSignal, ...]
    late_after: int
    notes: tuple[str, ...]
    by_portfolio: bool

    @property
    def late(self) -> list[SignalPair]:
        """Pairs of which the live signal came later."""
        return [pair for pair in self.pairs if pair.lateness > self.late_after]

    @property
    def differing(self) -> list[SignalPair]:
        """Pairs whose orders were filled differently."""
        return [pair for pair in self.pairs if pair.filled_differently]

    @property
    def other_values(self) -> list[SignalPair]:
        """Pairs of which the live signal says something else."""
        return [pair for pair in self.pairs if pair.other_value]

    @property
    def alike(self) -> bool:
        """Whether every signal came in time, said the same and was filled alike."""
        found = (self.missed, self.extra, self.late, self.differing, self.other_values)
        return not any(found)


def percentiles(values: Sequence[int]) -> tuple[int, int] | None:
    """Give the median and the 90th percentile, each one of the values; None of nothing."""
    if not values:
        return None
    found = np.percentile(np.array(values), [50, 90], method="inverted_cdf")
    return int(found[0]), int(found[1])


def effects(pairs: Iterable[SignalPair]) -> dict[tuple[str | None, str], tuple[Decimal, Decimal]]:
    """Add up what other prices and other commissions came to, by strategy and currency.

    Returns:
        Effect of the prices and of the commissions on the live run; a loss is negative.
    """
    found: dict[tuple[str | None, str], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    with exact_arithmetic():
        for pair in pairs:
            strategy = pair.live.span.strategy
            for fill in pair.fills:
                found[strategy, fill.currency][0] += fill.effect
            for currency, amount in pair.commissions.items():
                found[strategy, currency][1] += amount
    return {key: (prices, commissions) for key, (prices, commissions) in found.items()}


def match_runs(
    live: tuple[DuckDBPyConnection, str],
    backtest: tuple[DuckDBPyConnection, str],
    *,
    portfolio: str | None = None,
    window: int | None = None,
    late_after: int = 0,
) -> LiveMatch:
    """Match the signals of a live run with those of its backtest.

    Signals belong together that have the same portfolio, strategy, symbol and name, one to one,
    so that their times are the nearest altogether (see `match_times`). Their time is that of the
    market event that led to them where every one has such, else their own.

    Args:
        live: A connection with the views of a lake, and the live run: its id, a unique prefix of
            it, or ``latest``.
        backtest: The same for the backtest; the connection may be the same.
        portfolio: Only signals of this portfolio.
        window: How far apart they may be, ns; else the distance of the instrument's bars.
        late_after: A signal is late that is later than this, ns.

    Raises:
        NotFound: There is no such run, or none of them has a signal.
        UsageError: Several runs begin so.
    """
    run_a, run_b = (read_runs(side[0], find_run(*side))[0] for side in (live, backtest))
    names = [
        portfolios_of(connection, run["run_id"])
        for (connection, _), run in ((live, run_a), (backtest, run_b))
    ]
    by_portfolio = not (len(names[0]) == len(names[1]) == 1)
    ours = _signals(live[0], run_a["run_id"], portfolio)
    theirs = _signals(backtest[0], run_b["run_id"], portfolio)
    if not ours and not theirs:
        raise NotFound(
            f"Neither '{run_a['run_id']}' nor '{run_b['run_id']}' has a signal to match.",
            next_command="fillpath runs list",
        )
    steps = _steps(live[0], run_a["run_id"]) | _steps(backtest[0], run_b["run_id"])
    groups: dict[Key, tuple[list[SeenSignal], list[SeenSignal]]] = defaultdict(lambda: ([], []))
    for number, signals in enumerate((ours, theirs)):
        for signal in signals:
            groups[_key(signal.span, by_portfolio=by_portfolio)][number].append(signal)
    pairs: list[SignalPair] = []
    missed: list[SeenSignal] = []
    extra: list[SeenSignal] = []
    for (_, _, symbol, _), (mine, others) in groups.items():
        apart = steps.get(symbol, DEFAULT_WINDOW) if window is None else window
        matched = _matched(mine, others, apart)
        pairs += matched
        paired = {id(signal) for pair in matched for signal in (pair.live, pair.backtest)}
        extra += (signal for signal in mine if id(signal) not in paired)
        missed += (signal for signal in others if id(signal) not in paired)
    pairs.sort(key=lambda pair: pair.live.span.sequence)
    for alone in (missed, extra):
        alone.sort(key=lambda signal: signal.span.sequence)
    return LiveMatch(
        run_a,
        run_b,
        tuple(pairs),
        tuple(missed),
        tuple(extra),
        late_after,
        tuple(_notes(run_a, run_b, names, by_portfolio=by_portfolio)),
        by_portfolio,
    )


def _notes(
    live: Mapping[str, Any],
    backtest: Mapping[str, Any],
    names: Sequence[set[str]],
    *,
    by_portfolio: bool,
) -> Iterator[str]:
    if live.get("mode") == "backtest" and backtest.get("mode") == "live":
        yield "The first run is a backtest and the second is live: they may be the wrong way round."
    if not by_portfolio and names[0] != names[1]:
        yield f"{min(names[0])} of the live run is matched with {min(names[1])} of the backtest."
    for name, run in (("live run", live), ("backtest", backtest)):
        rows = run.get("completeness") or ()
        kept_less = sum(
            row["published"] - row["kept"] for row in rows if row["event_type"] == EventType.SIGNAL
        )
        if kept_less:
            yield f"{kept_less} signals of the {name} were not kept: they look as if missing."


def _key(span: ChainSpan, *, by_portfolio: bool) -> Key:
    name = span.attributes.get(Signal.NAME)
    return (
        span.portfolio if by_portfolio else None,
        span.strategy,
        span.symbol,
        None if name is None else str(name),
    )


def _signals(
    connection: DuckDBPyConnection, run_id: str, portfolio: str | None
) -> list[SeenSignal]:
    stream = read_stream(connection, run_id, Comparison(portfolio))
    executions = read_executions(connection, run_id)
    places = _of_kinds(stream, (EventType.SIGNAL,))
    market = dict.fromkeys(_of_kinds(stream, _MARKET))
    causes = {place: _nearest(stream, place, market) for place in places}
    spans = read_events(connection, stream, places)
    above = read_events(connection, stream, {one for one in causes.values() if one is not None})
    found = []
    for place in places:
        span, cause = spans[place], causes[place]
        event = None if cause is None else above[cause]
        found.append(
            SeenSignal(
                span,
                None if event is None else event.event_time,
                None if event is None else span.start_time - event.start_time,
                executions.get(span.span_id, Executed()),
            )
        )
    return found


def _of_kinds(stream: EventStream, kinds: Sequence[str]) -> list[int]:
    wanted = np.array([kind in kinds for kind in stream.kinds], bool)
    if not len(wanted):
        return []
    places: list[int] = np.flatnonzero(wanted[stream.event_type]).tolist()
    return places


def _nearest(stream: EventStream, place: int, market: Mapping[int, None]) -> int | None:
    last, cause = place, int(stream.cause[place])
    while 0 <= cause < last:
        if cause in market:
            return cause
        last, cause = cause, int(stream.cause[cause])
    return None


def _steps(connection: DuckDBPyConnection, run_id: str) -> dict[str | None, int]:
    rows = connection.execute(read_sql("bar_steps"), {"run_id": run_id}).fetchall()
    return {symbol: int(step) for symbol, step in rows}


def _matched(
    live: Sequence[SeenSignal], backtest: Sequence[SeenSignal], window: int
) -> list[SignalPair]:
    by_bar = all(signal.bar_time is not None for signal in (*live, *backtest))

    def times(signals: Sequence[SeenSignal]) -> list[int]:
        return [
            signal.bar_time if by_bar and signal.bar_time is not None else signal.time
            for signal in signals
        ]

    return [
        _pair(live[ours], backtest[theirs])
        for ours, theirs in match_times(times(live), times(backtest), window)
    ]


def _pair(live: SeenSignal, backtest: SeenSignal) -> SignalPair:
    ours, theirs = live.span.attributes, backtest.span.attributes
    return SignalPair(
        live,
        backtest,
        live.time - backtest.time,
        not all(
            same_value(ours.get(key), theirs.get(key)) for key in (Signal.VALUE, Signal.STRENGTH)
        ),
        tuple(fill_differences(live.executed, backtest.executed)),
        commission_effects(live.executed, backtest.executed),
    )
