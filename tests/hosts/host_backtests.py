"""Writes down what backtesting.py itself knows after its backtests, as one JSON document.

A host script makes a `BacktestReport`, adds the result of each `Backtest.run`, and writes the
report to the path given as the script's first argument. Every number is the engine's own double,
as `repr` prints it, so two runs of a host write the same bytes. The state of the global random
generators is part of it: tracing must not draw from them.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from backtesting import Strategy

_COLUMNS = ("Size", "EntryBar", "ExitBar", "EntryPrice", "ExitPrice", "SL", "TP", "PnL")


class BacktestReport:
    """What the backtests of one host script came to, and what was warned of meanwhile."""

    def __init__(self) -> None:
        random.seed(20)
        np.random.seed(20)  # noqa: NPY002 - the global generator is what must not be touched
        self.runs: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        self._caught = warnings.catch_warnings(record=True)
        self._warnings = self._caught.__enter__()
        warnings.simplefilter("always")

    def add(self, name: str, stats: Any, scale: float = 1.0) -> None:
        """Add a finished backtest; ``scale`` is the unit of a `FractionalBacktest`."""
        self._add(name, stats._strategy, scale)
        self.runs[-1] |= {
            "final_equity": repr(float(stats["Equity Final [$]"])),
            "curve": _digest(stats._equity_curve["Equity"].to_numpy(float)),
            "trades": _trades(stats._trades),
            "commissions": repr(float(stats.get("Commissions [$]", 0.0))),
        }

    def add_unfinished(self, name: str, strategy: Strategy, error: BaseException) -> None:
        """Add a backtest that an exception ended."""
        self._add(name, strategy, 1.0)
        self.runs[-1] |= {
            "error": f"{type(error).__name__}: {error}",
            "trades": [_closed(one) for one in strategy.closed_trades],
        }

    def _add(self, name: str, strategy: Any, scale: float) -> None:
        broker = strategy._broker
        run = {
            "name": name,
            "strategy": type(strategy).__name__,
            "told": str(strategy),
            "cash": repr(float(broker._cash)),
            "equity": repr(float(broker.equity)),
            "open_trades": [_open(one, scale) for one in broker.trades],
            "waiting": [repr(order) for order in broker.orders],
            "warnings": [
                [str(one.message), one.category.__name__, Path(one.filename).name, one.lineno]
                for one in self._warnings
            ],
        }
        self._warnings.clear()
        self.runs.append(run)

    def write(self, path: str | None = None) -> None:
        """Write it all to ``path``, by default the script's first argument."""
        self._caught.__exit__(None, None, None)
        state = np.random.get_state()  # noqa: NPY002 - the global one, as above
        document = {
            "runs": self.runs,
            "random": _digest(random.getstate(), repr(state)),
            **self.more,
        }
        text = json.dumps(document, indent=1, sort_keys=True)
        Path(path or sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def _trades(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {column: repr(row[column]) for column in (*_COLUMNS, "Commission")}
        | {"EntryTime": str(row["EntryTime"]), "ExitTime": str(row["ExitTime"])}
        | {"Tag": str(row["Tag"])}
        for row in frame.astype({"Size": float}).to_dict("records")
    ]


def _closed(trade: Any) -> dict[str, Any]:
    return {
        "Size": repr(float(trade.size)),
        "EntryPrice": repr(float(trade.entry_price)),
        "ExitPrice": repr(float(trade.exit_price)),
        "EntryTime": str(trade.entry_time),
        "ExitTime": str(trade.exit_time),
        "PnL": repr(float(trade.pl)),
        "Commission": repr(float(trade._commissions)),
    }


def _open(trade: Any, scale: float) -> dict[str, Any]:
    return {
        "Size": repr(trade.size * scale),
        "EntryPrice": repr(float(trade.entry_price / scale)),
        "EntryTime": str(trade.entry_time),
        "PnL": repr(float(trade.pl)),
        "Tag": str(trade.tag),
    }


def _digest(*values: Any) -> str:
    total = hashlib.sha256()
    for value in values:
        total.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return total.hexdigest()[:16]
