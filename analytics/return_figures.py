"""The figures of profit, of returns and their risk, and of days and months."""

from __future__ import annotations

from typing import Final

from fillpath.analytics.figure_meaning import FigureDefinition, Group, Needs, Unit

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


FIGURES_OF_RETURNS: Final = (
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
)
