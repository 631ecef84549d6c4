"""Market data and the engine's own truth for the backtrader hosts.

Prices come from files that packages ship, so every run of a host sees the same market. What the
engine knows is written down by an analyzer of backtrader's own kind and by asking its broker at
the end; every number is the `repr` of the engine's float, so two runs of a host write the same
bytes.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from typing import Any

import backtrader as bt


def prices(symbol: str) -> str:
    """Path of a price file that the package `backtesting` ships: GOOG, EURUSD or BTCUSD."""
    found = importlib.util.find_spec("backtesting")
    assert found is not None
    assert found.submodule_search_locations is not None
    return str(Path(found.submodule_search_locations[0]) / "test" / f"{symbol}.csv")


def feed(symbol: str, **settings: Any) -> Any:
    """A feed of one of these files."""
    intraday = symbol == "EURUSD"
    defaults: dict[str, Any] = {
        "dataname": prices(symbol),
        "dtformat": "%Y-%m-%d %H:%M:%S" if intraday else "%Y-%m-%d",
        "timeframe": bt.TimeFrame.Minutes if intraday else bt.TimeFrame.Days,
        "compression": 60 if intraday else 1,
        "openinterest": -1,
    }
    return bt.feeds.GenericCSVData(**(defaults | settings))


class Truth(bt.Analyzer):
    """Notes what the engine tells a strategy: states of orders, executions, closed trades."""

    def create_analysis(self) -> None:
        """Begin with nothing."""
        name = type(self.strategy).__name__
        self.rets: dict[str, Any] = {"strategy": name, "states": [], "fills": [], "trades": []}

    def notify_order(self, order: Any) -> None:
        """Note a state, and what was executed in it."""
        self.rets["states"].append([order.ref, order.getstatusname()])
        self.rets["fills"] += [
            {
                "order": order.ref,
                "symbol": order.data._name,
                "size": repr(float(bit.size)),
                "price": repr(float(bit.price)),
                "commission": repr(float(bit.comm)),
                "pnl": repr(float(bit.pnl)),
                "dt": repr(bit.dt),
            }
            for bit in order.executed.iterpending()
        ]

    def notify_trade(self, trade: Any) -> None:
        """Note a trade when it is closed."""
        if trade.isclosed:
            profit, net = repr(float(trade.pnl)), repr(float(trade.pnlcomm))
            self.rets["trades"].append([trade.data._name, trade.tradeid, profit, net])


class TruthReport:
    """What the engine knew at the end of each run of a host."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []

    def run(self, cerebro: Any, **settings: Any) -> Any:
        """Run an engine, write down what it knows, and give what it returned.

        An exception of the strategy's is written down as well, and swallowed.
        """
        cerebro.addanalyzer(Truth, _name="truth")
        before = random.getstate()
        strategies, error = [], None
        try:
            strategies = cerebro.run(**settings)
        except ArithmeticError as raised:
            error = str(raised)
        self.runs.append(
            {
                "error": error,
                "random": random.getstate() == before,
                "strategies": [one.analyzers.truth.get_analysis() for one in strategies],
                **account(cerebro),
            }
        )
        return strategies

    def write(self) -> None:
        """Write the runs to the script's first argument."""
        text = json.dumps({"runs": self.runs}, indent=1, sort_keys=True)
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def account(cerebro: Any) -> dict[str, Any]:
    """What the broker knows at the end."""
    broker = cerebro.broker
    return {
        "start": repr(float(broker.startingcash)),
        "cash": repr(float(broker.getcash())),
        "value": repr(float(broker.getvalue())),
        "positions": [
            [data._name, repr(float(position.size)), repr(float(position.price))]
            for data, position in broker.positions.items()
        ],
    }
