"""The report's section on regimes: which ones there were, for how long, and what was earned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Final

from fillpath.analytics.signal_summary import (
    RegimeProfit,
    RegimeTime,
    Row,
    regime_profits,
    regime_times,
    unclassified,
)
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO

if TYPE_CHECKING:
    from fillpath.analytics.charts import ChartFigure
    from fillpath.analytics.report_sections import ReportSource

MOST_RIBBONS: Final = 10
"""Instruments that have a ribbon: those with most price events."""
MOST_STRETCHES: Final = 200
"""Stretches of a ribbon; a longer one is thinned."""

LastTimes = Mapping[tuple[str | None, str | None], int | None]
"""Simulated time of the last price by portfolio and symbol, and by two None of the last event."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a ribbon.

    Attributes:
        begin: Simulated time.
        end: Simulated time.
        regime: Its name.
        trace_id: Trace of the event that began it.
    """

    begin: int
    end: int
    regime: str
    trace_id: str | None

    @property
    def tone(self) -> str:
        """The colour: ``up``, ``down`` or ``sideways`` by the classifier, ``other`` by a host."""
        direction = self.regime.rpartition(", ")[2]
        return direction if direction in {"up", "down", "sideways"} else "other"

    @property
    def is_strong(self) -> bool:
        """Whether it is drawn in full colour: what is not called calm."""
        return not self.regime.startswith("calm")


@dataclass(frozen=True, slots=True)
class Ribbon:
    """The regimes of one market through time.

    Attributes:
        name: Instrument and portfolio.
        stretches: In the order of time.
        is_thinned: Whether each stretch stands for the regime that took most of it.
    """

    name: str
    stretches: tuple[Stretch, ...]
    is_thinned: bool


@dataclass(frozen=True, slots=True)
class RegimeSection:
    """What the section shows.

    Attributes:
        times: How long each instrument was in each regime.
        profits: What was earned by the regime of the entry, by currency.
        ribbons: What `figure` draws.
        figure: The ribbons; None without simulated times.
        remarks: What was left out, and why.
    """

    times: tuple[RegimeTime, ...]
    profits: tuple[RegimeProfit, ...]
    ribbons: tuple[Ribbon, ...]
    figure: ChartFigure | None
    remarks: tuple[str, ...]


def read_regimes(source: ReportSource) -> RegimeSection:
    """Read the section's model; without regimes it is empty."""
    results, run_id = source.results, source.run.run_id
    rows = results.rows("regimes", run_id)
    times = source.connection.execute(
        read_sql("last_price_times"), {"run_id": run_id, "default_portfolio": DEFAULT_PORTFOLIO}
    )
    drawn = tuple(ribbons(rows, {(one, symbol): time for one, symbol, time in times.fetchall()}))
    figure = None
    if drawn:
        from fillpath.analytics.signal_charts import regime_figure

        figure = regime_figure(drawn)
    return RegimeSection(
        tuple(regime_times(rows)),
        tuple(regime_profits(results, run_id)),
        drawn,
        figure,
        tuple(unclassified(results.rows("completeness", run_id))),
    )


def ribbons(regimes: Iterable[Row], last_times: LastTimes) -> Iterator[Ribbon]:
    """Draw the regimes of the instruments with most price events.

    Args:
        regimes: Rows of table ``regimes``.
        last_times: When the last regimes end.
    """
    markets: dict[tuple[str, str | None], list[Row]] = {}
    for row in regimes:
        markets.setdefault((row["portfolio"], row["symbol"]), []).append(row)
    largest = sorted(markets, key=lambda key: -sum(row["events"] for row in markets[key]))
    for portfolio, symbol in sorted(largest[:MOST_RIBBONS], key=lambda key: (key[0], key[1] or "")):
        rows = markets[portfolio, symbol]
        last = last_times.get((portfolio, symbol), last_times.get((None, None)))
        stretches = []
        for row in rows:
            begin, end = row["event_time"], row["end_time"]
            end = last if end is None else end
            if begin is not None and end is not None and begin < end:
                stretches.append(Stretch(begin, end, row["name"], row["trace_id"]))
        if stretches:
            name = f"{symbol} · {portfolio}" if symbol else portfolio
            thinned = _thinned(stretches)
            yield Ribbon(name, thinned, len(thinned) < len(stretches))


def _thinned(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Bring many stretches down to `MOST_STRETCHES`, each in the regime that took most of it."""
    if len(stretches) <= MOST_STRETCHES:
        return tuple(stretches)
    begin, end = stretches[0].begin, stretches[-1].end
    edges = [begin + (end - begin) * n // MOST_STRETCHES for n in range(MOST_STRETCHES + 1)]
    parts: list[Stretch] = []
    place = 0
    for left, right in pairwise(edges):
        took: dict[str, int] = {}
        first: dict[str, Stretch] = {}
        while place < len(stretches) and stretches[place].begin < right:
            one = stretches[place]
            shared = min(one.end, right) - max(one.begin, left)
            if shared > 0:
                took[one.regime] = took.get(one.regime, 0) + shared
                first.setdefault(one.regime, one)
            if one.end > right:
                break
            place += 1
        if took:
            regime = max(took, key=lambda name: took[name])
            parts.append(Stretch(left, right, regime, first[regime].trace_id))
    merged = []
    for regime, same in groupby(parts, key=lambda part: part.regime):
        those = list(same)
        merged.append(Stretch(those[0].begin, those[-1].end, regime, those[0].trace_id))
    return tuple(merged)
