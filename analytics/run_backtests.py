"""The backtests that one run holds: a loop over parameters in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def comparable_backtests(
    noted: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Tell the backtests of a run, if several of them asked for one portfolio namespace.

    Such ones are variants of each other. Engines that trade different portfolios (a desk each, a
    trader id each) are parts of one whole, which is compared as the run.

    Args:
        noted: What the run's recorder noted of each: `portfolio`, `namespace` and `parameters`.
        parameters: Those of the run, to which those of its first backtest belong.

    Returns:
        For each backtest its `portfolio` and its `parameters`, with what the run itself was started
        with among them; empty where no two are comparable.
    """
    of_namespace = Counter(one.get("namespace") for one in noted)
    of_backtests = {name for one in noted for name in one.get("parameters") or {}}
    of_run = {name: value for name, value in parameters.items() if name not in of_backtests}
    return [
        {"portfolio": one["portfolio"], "parameters": of_run | dict(one.get("parameters") or {})}
        for one in noted
        if of_namespace[one.get("namespace")] > 1 and isinstance(one.get("portfolio"), str)
    ]


def common_parameters(
    parameters: Mapping[str, Any], backtests: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Give those parameters of a run that all of its backtests were made with alike."""
    return {
        name: value
        for name, value in parameters.items()
        if all(name in one["parameters"] and one["parameters"][name] == value for one in backtests)
    }


def own_parameters(
    backtest: Mapping[str, Any], backtests: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Give those parameters of a backtest in which the backtests of its run differ."""
    given: Mapping[str, Any] = backtest["parameters"]
    common = common_parameters(given, backtests)
    return {name: value for name, value in given.items() if name not in common}
