"""Statistics of daily returns: by empyrical and scipy where they have them."""

from __future__ import annotations

import datetime as dt
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.drawdowns import drawdowns
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_meaning import MINIMUM_DAYS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Figures = dict[str, float | None]

CONFIDENCE: Final = 0.95
_NORMAL_QUANTILE: Final = 1.959963984540054
_LIBRARIES: Final = ("empyrical", "pandas", "scipy")
_OF_RETURNS: Final = tuple(one.name for one in FIGURES if one.statistical and one.needs != "trades")
_OF_A_YEAR: Final = frozenset(
    one.name for one in FIGURES if one.statistical and one.needs == "days"
)


def has_libraries() -> bool:
    """Tell whether the extra `statistics` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _LIBRARIES)


def finite(value: float) -> float | None:
    """Return a number, or None for one that is none: NaN or infinite."""
    return float(value) if math.isfinite(value) else None


def return_statistics(returns: Sequence[float], periods: int | None) -> Figures:
    """Return the figures that take the libraries of the extra `statistics`.

    Args:
        returns: Of each day, in order; any number of them.
        periods: Days in a year; ``None`` if unknown.

    Returns:
        Every statistical figure of returns; undefined ones are ``None``.
    """
    if not returns:
        return dict.fromkeys(_OF_RETURNS)
    import empyrical
    import numpy as np

    values = np.asarray(returns, dtype=float)
    has_spread = len(values) > 1 and float(np.ptp(values)) > 0
    figures: Figures = {}

    def take(name: str, function: Callable[..., Any], **options: Any) -> None:
        figures[name] = _guarded(function, values, **options)

    take("total_return", empyrical.cum_returns_final)
    take("max_drawdown", empyrical.max_drawdown)
    take("var_95", empyrical.value_at_risk, cutoff=0.05)
    take("var_99", empyrical.value_at_risk, cutoff=0.01)
    take("expected_shortfall_95", empyrical.conditional_value_at_risk, cutoff=0.05)
    take("tail_ratio", empyrical.tail_ratio)
    take("omega", empyrical.omega_ratio)
    for name in (*_OF_A_YEAR, "stability", "skew", "kurtosis"):
        figures[name] = None
    if has_spread:
        from scipy import stats

        take("stability", empyrical.stability_of_timeseries)
        take("skew", stats.skew)
        take("kurtosis", stats.kurtosis)
    if periods is not None and len(values) >= MINIMUM_DAYS:
        take("cagr", empyrical.annual_return, annualization=periods)
        take("annual_volatility", empyrical.annual_volatility, annualization=periods)
        take("sortino", empyrical.sortino_ratio, annualization=periods)
        take("calmar", empyrical.calmar_ratio, annualization=periods)
        if has_spread:
            take("sharpe", empyrical.sharpe_ratio, annualization=periods)
            take("autocorrelation", lambda all_: np.corrcoef(all_[1:], all_[:-1])[0, 1])
            figures |= _sharpe_interval(figures, len(values), periods)
    return figures


def _guarded(function: Callable[..., Any], values: NDArray[np.float64], **options: Any) -> Any:
    """Call a library with returns that may leave a figure undefined: it warns, and gives NaN."""
    import numpy as np

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return finite(function(values, **options))


def _sharpe_interval(figures: Figures, days: int, periods: int) -> Figures:
    """The standard error of the Sharpe ratio, and what follows from it."""
    from scipy import stats

    sharpe, skew, excess = figures["sharpe"], figures["skew"], figures["kurtosis"]
    if sharpe is None or skew is None or excess is None:
        return {}
    daily = sharpe / math.sqrt(periods)
    variance = (1 - skew * daily + (excess + 2) / 4 * daily**2) / (days - 1)
    if variance <= 0:
        return {}
    error = math.sqrt(variance * periods)
    return {
        "sharpe_error": error,
        "sharpe_low": sharpe - _NORMAL_QUANTILE * error,
        "sharpe_high": sharpe + _NORMAL_QUANTILE * error,
        "probabilistic_sharpe": float(stats.norm.cdf(sharpe / error)),
    }


def win_rate_interval(wins: int, trades: int) -> tuple[float, float]:
    """Return Wilson's interval of the share of wins among at least one trade."""
    from scipy import stats

    interval = stats.binomtest(wins, trades).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def day_figures(days: Sequence[dt.date], returns: Sequence[float]) -> Figures:
    """Return the figures of days and months, and how long the deepest drawdown took.

    Args:
        days: The days with a return, in order; any number of them.
        returns: Their returns.
    """
    figures: Figures = dict.fromkeys(
        (
            "best_day",
            "worst_day",
            "positive_days",
            "best_month",
            "worst_month",
            "max_drawdown_days",
            "max_drawdown_recovery_days",
        )
    )
    if not returns:
        return figures
    months = monthly_returns(days, returns).values()
    figures["best_day"], figures["worst_day"] = max(returns), min(returns)
    figures["positive_days"] = sum(one > 0 for one in returns) / len(returns)
    figures["best_month"], figures["worst_month"] = max(months), min(months)
    if found := drawdowns(days, returns):
        figures["max_drawdown_days"] = found[0].days
        figures["max_drawdown_recovery_days"] = found[0].recovery_days
    return figures


def monthly_returns(
    days: Iterable[dt.date], returns: Iterable[float]
) -> dict[tuple[int, int], float]:
    """Return the compounded return of each (year, month), in order."""
    growth: dict[tuple[int, int], float] = {}
    for day, one in zip(days, returns, strict=True):
        month = (day.year, day.month)
        growth[month] = growth.get(month, 1.0) * (1 + one)
    return {month: value - 1 for month, value in growth.items()}
