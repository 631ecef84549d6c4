"""The tearsheet of a report: figures, returns by month, rolling figures, drawdowns, trades."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.daily_returns import WHOLE_RUN
from fillpath.analytics.drawdowns import Drawdown, drawdowns, underwater
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_meaning import FigureDefinition
from fillpath.analytics.figure_series import (
    FigureSeries,
    figure_series,
    reasons_in_words,
    without_doubles,
)
from fillpath.analytics.figure_text import figure_text, hundredths
from fillpath.analytics.report_format import Figure, currency_digits
from fillpath.analytics.report_model import Evidence
from fillpath.analytics.return_statistics import monthly_returns
from fillpath.analytics.rolling_figures import RollingPoint, rolling_points, rolling_window
from fillpath.analytics.trade_distribution import Bin, ResultOfTrade, distribution

if TYPE_CHECKING:
    from fillpath.analytics.charts import ChartFigure
    from fillpath.analytics.report_sections import ReportSource

MOST_SERIES: Final = 6
"""How many portfolios and currencies a page has; the command shows all."""
WORST_DRAWDOWNS: Final = 5
MORE: Final = frozenset(
    {
        *("return_on_start_equity", "sharpe_error", "sharpe_low", "sharpe_high"),
        *("probabilistic_sharpe", "omega", "stability", "max_drawdown_days"),
        *("max_drawdown_recovery_days", "max_drawdown_amount", "var_99", "tail_ratio", "skew"),
        *("kurtosis", "autocorrelation", "periods_per_year", "positive_days", "win_rate_low"),
        *("win_rate_high", "payoff_ratio", "longest_winning_streak", "longest_losing_streak"),
        *("median_holding_time", "turnover", "average_favourable_excursion"),
        "average_adverse_excursion",
    }
)
"""Figures that a reader unfolds; the page is long enough with the others."""
_SHADES: Final = 4
_SHOWN_AS_ZERO: Final = 0.00005
_TRACED: Final = ("largest_win", "largest_loss")


@dataclass(frozen=True, slots=True)
class FigureCell:
    """One figure of one series.

    Attributes:
        value: As the database has it; ``None`` if undefined.
        shown: As it is read.
        why: Why it is undefined.
        trace_id: The trace that shows it, for a figure that is of one trade.
    """

    value: float | None
    shown: Figure
    why: str | None
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A figure, for every series."""

    definition: FigureDefinition
    cells: tuple[FigureCell, ...]

    @property
    def is_more(self) -> bool:
        """Whether it is folded away at first."""
        return self.definition.name in MORE


@dataclass(frozen=True, slots=True)
class FigureGroup:
    """Figures of one kind."""

    name: str
    rows: tuple[FigureRow, ...]


@dataclass(frozen=True, slots=True)
class MonthCell:
    """A return, and how strongly its cell is coloured.

    Attributes:
        ratio: The return.
        text: The same in percent.
        shade: From -4, the largest loss, to 4, the largest gain of the table.
    """

    ratio: float
    text: str
    shade: int


@dataclass(frozen=True, slots=True)
class YearRow:
    """The returns of a year.

    Attributes:
        year: The year.
        months: From January on; ``None`` for a month without days.
        ratio: All of its days compounded.
        text: The same in percent.
        evidence: The fills of the year.
    """

    year: int
    months: tuple[MonthCell | None, ...]
    ratio: float
    text: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class DrawdownRow:
    """A drawdown, its depth in percent, and the trade that lost most on the way down."""

    drawdown: Drawdown
    depth: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class SeriesSheet:
    """What is shown of one portfolio in one currency.

    Attributes:
        portfolio: Namespace; ``None`` for all of the run.
        currency: Currency of the amounts.
        digits: Its decimal places.
        figures: By name.
        days: Days with a return, in order.
        returns: Their returns.
        years: Returns by month.
        drawdowns: The deepest, the deepest first.
        window: Days that a rolling figure spans; ``None`` if there are too few for any.
        points: The days to draw.
        bins: How many trades came to how much.
    """

    portfolio: str | None
    currency: str
    digits: int
    figures: Mapping[str, float | None]
    days: tuple[dt.date, ...]
    returns: tuple[float, ...]
    years: tuple[YearRow, ...]
    drawdowns: tuple[DrawdownRow, ...]
    window: int | None
    points: tuple[RollingPoint, ...]
    bins: tuple[Bin, ...]

    def shown(self, name: str) -> Figure:
        """A figure as it is read."""
        definition = next(one for one in FIGURES if one.name == name)
        return figure_text(definition, self.figures.get(name), self.digits)

    @property
    def has_open_bins(self) -> bool:
        """Whether some trades are beyond the edges of the outermost bins."""
        return any(one.is_open for one in self.bins)

    @property
    def day_figure(self) -> ChartFigure:
        """The charts of its days."""
        from fillpath.analytics.tearsheet_charts import days_figure

        return days_figure(self.points, self.window)

    @property
    def trade_figure(self) -> ChartFigure:
        """The chart of its trades."""
        from fillpath.analytics.tearsheet_charts import trades_figure

        return trades_figure(self.bins, self.currency, self.digits)


@dataclass(frozen=True, slots=True)
class Tearsheet:
    """The section.

    Attributes:
        columns: Name and currency of each series.
        groups: The figures of all of them.
        reasons: Why figures are undefined, and which.
        sheets: What is shown of each besides.
        left_out: How many series are not on the page.
    """

    columns: tuple[tuple[str | None, str], ...]
    groups: tuple[FigureGroup, ...]
    reasons: tuple[tuple[str, str], ...]
    sheets: tuple[SeriesSheet, ...]
    left_out: int


def read_tearsheet(source: ReportSource) -> Tearsheet:
    """Read the tearsheet of a run; it is empty for a run without fills and accounts."""
    run_id = source.run.run_id
    every = without_doubles(figure_series(source.results.rows("figures", run_id)))
    every.sort(key=_weight)
    series = every[:MOST_SERIES]
    trades = _trades(source.results.read("trade_results", run_id=run_id))
    days = _days(source.results.rows("daily_returns", run_id))
    digits = {one.currency: currency_digits(one.currency, source.currency_digits) for one in series}
    sheets = tuple(
        _sheet(one, digits[one.currency], days, _of(one, trades), run_id) for one in series
    )
    return Tearsheet(
        columns=tuple((sheet.portfolio, sheet.currency) for sheet in sheets),
        groups=tuple(_groups(series, trades, digits)),
        reasons=tuple(reasons_in_words(series)),
        sheets=sheets,
        left_out=len(every) - len(series),
    )


def _weight(series: FigureSeries) -> tuple[bool, float, str, str]:
    """The whole run comes first, then what gained or lost most."""
    size = abs(series.figures.get("net_pnl") or 0)
    return series.portfolio != WHOLE_RUN, -size, series.portfolio, series.currency


def _trades(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, ResultOfTrade]]:
    return [
        (
            row["portfolio"],
            row["currency"] or "",
            ResultOfTrade(row["net"], row["exit_time"], row["trace_id"]),
        )
        for row in rows
    ]


def _of(
    series: FigureSeries, trades: Iterable[tuple[str, str, ResultOfTrade]]
) -> list[ResultOfTrade]:
    return [
        trade
        for portfolio, currency, trade in trades
        if currency == series.currency and series.portfolio in {portfolio, WHOLE_RUN}
    ]


def _days(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[tuple[dt.date, float]]]:
    found: dict[tuple[str, str], list[tuple[dt.date, float]]] = {}
    for row in rows:
        if row["return"] is not None:
            key = (row["portfolio"], row["currency"])
            found.setdefault(key, []).append((row["day"], row["return"]))
    return found


def _groups(
    series: Sequence[FigureSeries],
    trades: Sequence[tuple[str, str, ResultOfTrade]],
    digits: Mapping[str, int],
) -> Iterable[FigureGroup]:
    reasons = [one.reasons() for one in series]
    for name, members in groupby(FIGURES, key=lambda one: one.group):
        rows = []
        for definition in members:
            cells = tuple(
                FigureCell(
                    value := one.figures.get(definition.name),
                    figure_text(definition, value, digits[one.currency]),
                    why.get(definition.name),
                    _trace_of(definition.name, value, _of(one, trades)),
                )
                for one, why in zip(series, reasons, strict=True)
            )
            rows.append(FigureRow(definition, cells))
        if series:
            yield FigureGroup(name, tuple(rows))


def _trace_of(name: str, value: float | None, trades: Sequence[ResultOfTrade]) -> str | None:
    if name not in _TRACED or value is None:
        return None
    choose = max if name == "largest_win" else min
    return choose(trades, key=lambda trade: trade.net).trace_id if trades else None


def _sheet(
    series: FigureSeries,
    digits: int,
    every: Mapping[tuple[str, str], Sequence[tuple[dt.date, float]]],
    trades: Sequence[ResultOfTrade],
    run_id: str,
) -> SeriesSheet:
    pairs = every.get((series.portfolio, series.currency), ())
    days = tuple(day for day, _ in pairs)
    returns = tuple(one for _, one in pairs)
    periods = series.figures.get("periods_per_year")
    window = rolling_window(len(returns)) if periods else None
    portfolio = None if series.portfolio == WHOLE_RUN else series.portfolio
    return SeriesSheet(
        portfolio=portfolio,
        currency=series.currency,
        digits=digits,
        figures=series.figures,
        days=days,
        returns=returns,
        years=tuple(_years(days, returns, run_id, portfolio)),
        drawdowns=tuple(
            DrawdownRow(one, hundredths(one.depth), Evidence(_worst_trade(one, trades)))
            for one in drawdowns(days, returns)[:WORST_DRAWDOWNS]
            if abs(one.depth) >= _SHOWN_AS_ZERO
        ),
        window=window,
        points=rolling_points(days, returns, underwater(returns), window, periods),
        bins=distribution(trades),
    )


def _years(
    days: Sequence[dt.date], returns: Sequence[float], run_id: str, portfolio: str | None
) -> Iterable[YearRow]:
    months = monthly_returns(days, returns)
    largest = max(map(abs, months.values()), default=0.0)
    for year in sorted({year for year, _ in months}):
        growth = 1.0
        for day, one in zip(days, returns, strict=True):
            growth *= 1 + one if day.year == year else 1
        yield YearRow(
            year,
            tuple(_month(months.get((year, month)), largest) for month in range(1, 13)),
            growth - 1,
            hundredths(growth - 1),
            Evidence(query=_fills_of(year, run_id, portfolio)),
        )


def _month(ratio: float | None, largest: float) -> MonthCell | None:
    if ratio is None:
        return None
    share = abs(ratio) / largest if largest else 0.0
    # A return that is shown as 0.00 % has no colour.
    shade = 0 if abs(ratio) < _SHOWN_AS_ZERO else min(_SHADES, 1 + int(share * _SHADES))
    return MonthCell(ratio, hundredths(ratio), shade if ratio > 0 else -shade)


def _fills_of(year: int, run_id: str, portfolio: str | None) -> str:
    begin, end = (
        int(dt.datetime(one, 1, 1, tzinfo=dt.UTC).timestamp()) * 10**9 for one in (year, year + 1)
    )
    conditions = [f"run_id = {_literal(run_id)}", "name = 'publish FILL'"]
    if portfolio is not None:
        conditions.append(f"portfolio = {_literal(portfolio)}")
    conditions.append(f"event_time >= {begin} AND event_time < {end}")
    return f"SELECT * FROM spans WHERE {' AND '.join(conditions)} ORDER BY sequence"  # noqa: S608 - literals are quoted


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _worst_trade(fall: Drawdown, trades: Iterable[ResultOfTrade]) -> str | None:
    """The trace of the trade that lost most from the peak's next day to the day of the bottom."""
    inside = [
        trade
        for trade in trades
        if trade.net < Decimal(0)
        and trade.exit_day is not None
        and fall.peak <= trade.exit_day <= fall.trough
    ]
    return min(inside, key=lambda trade: trade.net).trace_id if inside else None
