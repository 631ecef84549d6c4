"""Figures of daily returns by their definitions, in plain arithmetic, without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Figures = dict[str, float | None]


def by_hand(returns: Sequence[float], periods: int) -> Figures:
    """Every figure that a library reckons, from its definition in plain arithmetic."""
    n = len(returns)
    mean = sum(returns) / n
    moments = [sum((r - mean) ** power for r in returns) / n for power in (2, 3, 4)]
    deviation = math.sqrt(moments[0] * n / (n - 1))
    year = math.sqrt(periods)
    wealth = [math.prod(1 + r for r in returns[: place + 1]) for place in range(n)]
    total = wealth[-1] - 1
    cagr = (1 + total) ** (periods / n) - 1
    path = [1.0, *wealth]
    depth = min(later / earlier - 1 for i, earlier in enumerate(path) for later in path[i:])
    ordered = sorted(returns)

    def percentile(share: float) -> float:
        place = share * (n - 1)
        below = math.floor(place)
        above = min(below + 1, n - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    gains, losses = sum(r for r in returns if r > 0), -sum(r for r in returns if r < 0)
    downside = math.sqrt(sum(min(r, 0) ** 2 for r in returns) / n)
    logs = [math.log(value) for value in wealth]
    days = range(n)
    line = np.polyfit(days, logs, 1)
    off = sum((log - np.polyval(line, day)) ** 2 for day, log in zip(days, logs, strict=True))
    spread = sum((log - sum(logs) / n) ** 2 for log in logs)
    skew, kurtosis = moments[1] / moments[0] ** 1.5, moments[2] / moments[0] ** 2
    daily = mean / deviation
    error = math.sqrt((1 - skew * daily + (kurtosis - 1) / 4 * daily**2) / (n - 1)) * year
    sharpe = daily * year
    worst = ordered[: int((n - 1) * 0.05) + 1]
    before, after = returns[:-1], returns[1:]
    return {
        "total_return": total,
        "cagr": cagr,
        "annual_volatility": deviation * year,
        "sharpe": sharpe,
        "sharpe_error": error,
        "sharpe_low": sharpe - 1.959964 * error,
        "sharpe_high": sharpe + 1.959964 * error,
        "probabilistic_sharpe": (1 + math.erf(sharpe / error / math.sqrt(2))) / 2,
        "sortino": mean * periods / (downside * year),
        "calmar": cagr / -depth,
        "omega": gains / losses,
        "stability": 1 - off / spread,
        "max_drawdown": depth,
        "var_95": percentile(0.05),
        "var_99": percentile(0.01),
        "expected_shortfall_95": sum(worst) / len(worst),
        "tail_ratio": abs(percentile(0.95)) / abs(percentile(0.05)),
        "skew": skew,
        "kurtosis": kurtosis - 3,
        "autocorrelation": _correlation(before, after),
    }


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    a, b = sum(first) / len(first), sum(second) / len(second)
    both = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    return both / math.sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))
