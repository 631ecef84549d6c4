"""Names of what a run's NOTE blocks tell of its backtests (docs/spool-format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_BACKTEST: Final = "backtest."


def backtest_key(number: int) -> str:
    """Name the fact that tells of the backtest with this number, counted from one."""
    return f"{_BACKTEST}{number}"


def is_backtest(key: str) -> bool:
    """Tell whether a fact is about one of a run's backtests."""
    return key.startswith(_BACKTEST)


def backtests_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what a run's facts tell of its backtests, in their order."""
    found = {
        int(key.removeprefix(_BACKTEST)): value
        for key, value in facts.items()
        if is_backtest(key) and key.removeprefix(_BACKTEST).isdecimal() and isinstance(value, dict)
    }
    return [found[number] for number in sorted(found)]
