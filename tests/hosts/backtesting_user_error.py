"""A strategy that raises between two orders of the same bar; the process ends by it.

With a second argument ``caught`` it ends well.
"""

from __future__ import annotations

import sys

from backtesting import Backtest, Strategy
from backtesting.test import GOOG
from host_backtests import BacktestReport


class TooFewBars(Exception):
    """What the strategy raises."""


class Careless(Strategy):
    """Trades every ten bars, and stumbles over the forty-fifth."""

    last: Careless

    def init(self) -> None:
        Careless.last = self

    def next(self) -> None:
        if len(self.data) % 10 == 0:
            self.buy(size=1)
        if len(self.data) % 15 == 0:
            self.position.close()
        if len(self.data) == 45:
            self.buy(size=2)
            raise TooFewBars(f"only {len(self.data)} bars")


def main() -> None:
    """Run it."""
    report = BacktestReport()
    try:
        Backtest(GOOG, Careless).run()
    except TooFewBars as stumble:
        report.add_unfinished("careless", Careless.last, stumble)
        report.write()
        if sys.argv[2:] != ["caught"]:
            raise


if __name__ == "__main__":
    main()
