"""The figures of a tearsheet, each defined once: for the database, the report and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

MINIMUM_DAYS: Final = 20
"""A figure of a year takes so many days with a return; fewer tell nothing about a year."""

Unit = Literal["money", "ratio", "number", "count", "days", "duration"]
"""`money` is in the currency of the figure, `ratio` is shown in percent, `duration` is in seconds
of simulated time, `days` are days of the calendar."""
Group = Literal["Profit", "Return", "Risk", "Days and months", "Trades"]
Needs = Literal["nothing", "equity", "days", "trades"]
"""What a figure cannot do without: `equity` a start balance that returns can be of, `days`
`MINIMUM_DAYS` of such returns, `trades` closed trades."""


@dataclass(frozen=True, slots=True)
class FigureDefinition:
    """What one figure means.

    Attributes:
        name: Its name in table ``figures``.
        label: Its name for a reader.
        group: The part of the tearsheet it stands in.
        unit: What its value is in.
        definition: How it is reckoned.
        source: Where the definition comes from; empty for plain arithmetic.
        needs: What it cannot do without.
        undefined: When it has no value besides that; empty if always.
        statistical: Whether it comes from the libraries of the extra ``statistics``.
    """

    name: str
    label: str
    group: Group
    unit: Unit
    definition: str
    source: str = ""
    needs: Needs = "nothing"
    undefined: str = ""
    statistical: bool = False


_EMPYRICAL: Final = "empyrical-reloaded, `{}`"
_LO: Final = (
    "Lo, The Statistics of Sharpe Ratios, 2002; Mertens, Comments on Variance of the IID Sharpe "
    "Ratio, 2002"
)
_PSR: Final = "Bailey and López de Prado, The Sharpe Ratio Efficient Frontier, 2012"
_NO_SPREAD: Final = "all returns are the same"
_NO_DRAWDOWN: Final = "there was no drawdown"


def _of_returns(
    name: str,
    label: str,
    group: Group,
    unit: Unit,
    definition: str,
    function: str,
    undefined: str = "",
    *,
    needs: Needs = "equity",
) -> FigureDefinition:
    source = _EMPYRICAL.format(function)
    return FigureDefinition(name, label, group, unit, definition, source, needs, undefined, True)


FIGURES: Final = (
    FigureDefinition(
        "start_equity",
        "Start equity",
        "Profit",
        "money",
        "Balance at the start by the engine's statement; without one, the capital that the run's "
        "parameters name.",
        needs="equity",
    ),
    FigureDefinition(
        "end_equity",
        "End equity",
        "Profit",
        "money",
        "Start equity + all P&L + transfers.",
        needs="equity",
    ),
    FigureDefinition(
        "transfers",
        "Transfers",
        "Profit",
        "money",
        "Deposits less withdrawals. They are no profit, and returns leave them out.",
    ),
    FigureDefinition(
        "net_pnl",
        "Net P&L",
        "Profit",
        "money",
        "Sum of all P&L slices: realized, unrealized, commission and everything else.",
    ),
    FigureDefinition(
        "gross_pnl", "Gross P&L", "Profit", "money", "The same without the slices of commission."
    ),
    FigureDefinition(
        "commission", "Commission", "Profit", "money", "Sum of those; a cost is negative."
    ),
    FigureDefinition(
        "return_on_start_equity",
        "Net P&L on start equity",
        "Profit",
        "ratio",
        "net P&L / start equity.",
        needs="equity",
    ),
    _of_returns(
        "total_return",
        "Total return",
        "Return",
        "ratio",
        "∏ (1 + r) - 1 over the returns r of all days; a day's return is its P&L / (equity at the "
        "end of the day before + the day's transfers).",
        "cum_returns_final",
    ),
    _of_returns(
        "cagr",
        "CAGR",
        "Return",
        "ratio",
        "(1 + total return) ^ (periods per year / days) - 1: the growth of a year.",
        "annual_return",
        "everything was lost",
        needs="days",
    ),
    _of_returns(
        "annual_volatility",
        "Volatility",
        "Return",
        "ratio",
        "Standard deviation of the returns (n - 1) × √(periods per year).",
        "annual_volatility",
        needs="days",
    ),
    _of_returns(
        "sharpe",
        "Sharpe ratio",
        "Return",
        "number",
        "Mean return / standard deviation (n - 1) × √(periods per year); the risk-free rate is 0.",
        "sharpe_ratio",
        _NO_SPREAD,
        needs="days",
    ),
    FigureDefinition(
        "sharpe_error",
        "Sharpe ratio: standard error",
        "Return",
        "number",
        "√((1 - skew × s + (kurtosis + 2) / 4 × s²) / (n - 1)) × √(periods per year), with s the "
        "Sharpe ratio of a day. Returns are taken as independent of each other; where "
        "autocorrelation is positive the error is larger.",
        _LO,
        "days",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "sharpe_low",
        "Sharpe ratio: 95 % from",
        "Return",
        "number",
        "Sharpe ratio - 1.96 × its standard error.",
        _LO,
        "days",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "sharpe_high",
        "Sharpe ratio: 95 % to",
        "Return",
        "number",
        "Sharpe ratio + 1.96 × its standard error.",
        _LO,
        "days",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "probabilistic_sharpe",
        "Sharpe ratio: probability above 0",
        "Return",
        "ratio",
        "Φ(Sharpe ratio / its standard error).",
        _PSR,
        "days",
        _NO_SPREAD,
        True,
    ),
    _of_returns(
        "sortino",
        "Sortino ratio",
        "Return",
        "number",
        "Mean return × periods per year / downside risk: √(mean of min(r, 0)²) × √(periods per "
        "year), over all days.",
        "sortino_ratio",
        "no day lost anything",
        needs="days",
    ),
    _of_returns(
        "calmar",
        "Calmar ratio",
        "Return",
        "number",
        "CAGR / size of the deepest drawdown.",
        "calmar_ratio",
        _NO_DRAWDOWN,
        needs="days",
    ),
    _of_returns(
        "omega",
        "Omega ratio",
        "Return",
        "number",
        "Sum of the gains / sum of the losses of all days.",
        "omega_ratio",
        "no day lost anything",
    ),
    _of_returns(
        "stability",
        "Stability",
        "Return",
        "number",
        "R² of a straight line through the cumulated logarithmic returns: 1 is steady growth or "
        "steady loss.",
        "stability_of_timeseries",
        _NO_SPREAD,
    ),
    _of_returns(
        "max_drawdown",
        "Deepest drawdown",
        "Risk",
        "ratio",
        "Lowest value of (wealth / highest wealth so far - 1), at the ends of days; wealth is "
        "∏ (1 + r), 1 at the start.",
        "max_drawdown",
    ),
    FigureDefinition(
        "max_drawdown_days",
        "Deepest drawdown: length",
        "Risk",
        "days",
        "From the day of its peak to the day on which wealth was as high again, or to the last "
        "day. For a fall from the very start, the first day stands for the peak.",
        needs="equity",
        undefined=_NO_DRAWDOWN,
    ),
    FigureDefinition(
        "max_drawdown_recovery_days",
        "Deepest drawdown: recovery",
        "Risk",
        "days",
        "From the day of its bottom to the day on which wealth was as high as at its peak.",
        needs="equity",
        undefined="there was no drawdown, or it has not recovered",
    ),
    FigureDefinition(
        "max_drawdown_amount",
        "Deepest drawdown in money",
        "Risk",
        "money",
        "Lowest value of (P&L so far - highest P&L so far), at the ends of days; both start at 0.",
    ),
    _of_returns(
        "var_95",
        "Value at risk, 95 %",
        "Risk",
        "ratio",
        "5th percentile of the returns (historical, interpolated): one day in 20 was worse.",
        "value_at_risk",
    ),
    _of_returns(
        "var_99",
        "Value at risk, 99 %",
        "Risk",
        "ratio",
        "1st percentile of the returns: one day in 100 was worse.",
        "value_at_risk",
    ),
    _of_returns(
        "expected_shortfall_95",
        "Expected shortfall, 95 %",
        "Risk",
        "ratio",
        "Mean of the ⌊(n - 1) × 0.05⌋ + 1 lowest returns (conditional value at risk).",
        "conditional_value_at_risk",
    ),
    _of_returns(
        "tail_ratio",
        "Tail ratio",
        "Risk",
        "number",
        "Size of the 95th percentile of the returns / size of the 5th.",
        "tail_ratio",
        "the 5th percentile is 0",
    ),
    FigureDefinition(
        "skew",
        "Skewness",
        "Risk",
        "number",
        "m₃ / m₂^1.5 of the central moments m of the returns: negative has the longer tail of "
        "losses.",
        "scipy, `skew`",
        "equity",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "kurtosis",
        "Excess kurtosis",
        "Risk",
        "number",
        "m₄ / m₂² - 3 of the central moments m of the returns: 0 for a normal distribution.",
        "scipy, `kurtosis`",
        "equity",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "autocorrelation",
        "Autocorrelation of the returns",
        "Risk",
        "number",
        "Correlation of the returns with those of the day before. Far from 0, figures of a year "
        "that are scaled by √(periods per year) are off.",
        "numpy, `corrcoef`",
        "days",
        _NO_SPREAD,
        True,
    ),
    FigureDefinition(
        "days",
        "Days with a return",
        "Days and months",
        "count",
        "Days of the portfolio's market, UTC, that have a return.",
    ),
    FigureDefinition(
        "periods_per_year",
        "Periods per year",
        "Days and months",
        "count",
        "By the days between one day and the next, half-way in the middle: up to 3, it is 252 (a "
        "market of five days a week), 312 (six: foreign exchange has an hour or two on Sundays) or "
        "365 (seven), by the share of days at weekends; up to 10 it is 52, up to 45 12, up to 135 "
        "4, else 1.",
        undefined="there are fewer than two days",
    ),
    FigureDefinition(
        "best_day", "Best day", "Days and months", "ratio", "Highest return.", needs="equity"
    ),
    FigureDefinition(
        "worst_day", "Worst day", "Days and months", "ratio", "Lowest return.", needs="equity"
    ),
    FigureDefinition(
        "positive_days",
        "Days with a gain",
        "Days and months",
        "ratio",
        "Days with a return above 0 / days with a return.",
        needs="equity",
    ),
    FigureDefinition(
        "best_month",
        "Best month",
        "Days and months",
        "ratio",
        "Highest of ∏ (1 + r) - 1 over the days of each month, also of one that is not whole.",
        needs="equity",
    ),
    FigureDefinition(
        "worst_month",
        "Worst month",
        "Days and months",
        "ratio",
        "Lowest of those.",
        needs="equity",
    ),
    FigureDefinition(
        "trades",
        "Closed trades",
        "Trades",
        "count",
        "Round trips from flat to flat, at the engine's average cost. All figures of trades take "
        "them net: realized P&L - commission, in the currency of the figure.",
    ),
    FigureDefinition(
        "win_rate",
        "Win rate",
        "Trades",
        "ratio",
        "Trades with a net gain / trades.",
        needs="trades",
    ),
    FigureDefinition(
        "win_rate_low",
        "Win rate: 95 % from",
        "Trades",
        "ratio",
        "Lower end of the interval of a binomial share, trades taken as independent of each other.",
        "Wilson, Probable Inference, 1927; scipy, `binomtest`",
        "trades",
        "",
        True,
    ),
    FigureDefinition(
        "win_rate_high",
        "Win rate: 95 % to",
        "Trades",
        "ratio",
        "Upper end of it.",
        "Wilson, Probable Inference, 1927; scipy, `binomtest`",
        "trades",
        "",
        True,
    ),
    FigureDefinition(
        "profit_factor",
        "Profit factor",
        "Trades",
        "number",
        "Sum of the gains / sum of the losses.",
        needs="trades",
        undefined="no trade lost anything",
    ),
    FigureDefinition(
        "expectancy", "Expectancy", "Trades", "money", "Mean net P&L of a trade.", needs="trades"
    ),
    FigureDefinition(
        "average_win",
        "Average gain",
        "Trades",
        "money",
        "Mean net P&L of the trades that gained.",
        needs="trades",
        undefined="no trade gained anything",
    ),
    FigureDefinition(
        "average_loss",
        "Average loss",
        "Trades",
        "money",
        "Mean net P&L of the trades that lost.",
        needs="trades",
        undefined="no trade lost anything",
    ),
    FigureDefinition(
        "payoff_ratio",
        "Payoff ratio",
        "Trades",
        "number",
        "Average gain / size of the average loss.",
        needs="trades",
        undefined="no trade gained, or none lost anything",
    ),
    FigureDefinition(
        "largest_win",
        "Largest gain",
        "Trades",
        "money",
        "Highest net P&L of a trade that gained.",
        needs="trades",
        undefined="no trade gained anything",
    ),
    FigureDefinition(
        "largest_loss",
        "Largest loss",
        "Trades",
        "money",
        "Lowest net P&L of a trade that lost.",
        needs="trades",
        undefined="no trade lost anything",
    ),
    FigureDefinition(
        "longest_winning_streak",
        "Most gains in a row",
        "Trades",
        "count",
        "Trades in the order of their exits; one that neither gained nor lost ends a row.",
        needs="trades",
    ),
    FigureDefinition(
        "longest_losing_streak",
        "Most losses in a row",
        "Trades",
        "count",
        "Likewise.",
        needs="trades",
    ),
    FigureDefinition(
        "mean_holding_time",
        "Mean holding time",
        "Trades",
        "duration",
        "Simulated time from the first entry fill to the last exit fill.",
        needs="trades",
        undefined="the host tells no simulated time",
    ),
    FigureDefinition(
        "median_holding_time",
        "Median holding time",
        "Trades",
        "duration",
        "Half of the trades took no longer.",
        needs="trades",
        undefined="the host tells no simulated time",
    ),
    FigureDefinition(
        "exposure",
        "Exposure",
        "Trades",
        "ratio",
        "Simulated time with at least one trade open, open ones too / simulated time from the "
        "first to the last event of the portfolio's market and trades.",
        undefined="no simulated time has passed",
    ),
    FigureDefinition(
        "turnover",
        "Turnover",
        "Trades",
        "number",
        "Sum of price × quantity × multiplier of all fills / mean of the equity at the ends of "
        "days.",
        needs="equity",
        undefined="some fills are priced in a currency that the portfolio does not keep",
    ),
    FigureDefinition(
        "annual_turnover",
        "Turnover of a year",
        "Trades",
        "number",
        "Turnover × periods per year / days.",
        needs="days",
        undefined="some fills are priced in a currency that the portfolio does not keep",
    ),
    FigureDefinition(
        "average_favourable_excursion",
        "Mean highest open profit",
        "Trades",
        "money",
        "Mean of the maximum favourable excursions of the trades that have one.",
        needs="trades",
        undefined="the run has no prices while trades were open",
    ),
    FigureDefinition(
        "average_adverse_excursion",
        "Mean lowest open profit",
        "Trades",
        "money",
        "Mean of the maximum adverse excursions of the trades that have one.",
        needs="trades",
        undefined="the run has no prices while trades were open",
    ),
)
"""Every figure, in the order in which a tearsheet shows them."""

BY_NAME: Final[Mapping[str, FigureDefinition]] = {one.name: one for one in FIGURES}
"""The same by name."""


def why_undefined(name: str, figures: Mapping[str, float | None]) -> str | None:
    """Say in words why a figure has no value.

    Args:
        name: The figure.
        figures: All figures of its portfolio and currency.

    Returns:
        None if it has a value.
    """
    if figures.get(name) is not None:
        return None
    definition = BY_NAME[name]
    if name not in figures:
        return "the extra statistics was not installed when the run was loaded"
    days, trades = figures.get("days") or 0, figures.get("trades") or 0
    if definition.needs in {"equity", "days"} and not days:
        return "no start equity is known, so there are no returns"
    if definition.needs == "days" and days < MINIMUM_DAYS:
        return f"{days:.0f} days with a return are too few, it takes {MINIMUM_DAYS}"
    if definition.needs == "trades" and not trades:
        return "no trade was closed"
    return definition.undefined or "it is not defined for these returns"
