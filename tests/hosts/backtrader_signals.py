"""Signals of backtrader's own kind: an indicator that says long or short, and a strategy of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import backtrader as bt
from host_backtrader import TruthReport, feed


class AboveMean(bt.Indicator):
    """How far the price is above its mean."""

    lines: Any = ("signal",)
    params = (("period", 30),)

    def __init__(self) -> None:
        """Difference of price and mean."""
        self.lines.signal = self.data - bt.ind.SMA(period=self.p.period)


class Momentum(bt.Indicator):
    """Whether a short mean runs before a long one."""

    lines: Any = ("signal",)

    def __init__(self) -> None:
        """Difference of two means."""
        self.lines.signal = bt.ind.SMA(period=5) - bt.ind.SMA(period=25)


class Watching(bt.SignalStrategy):
    """A signal strategy with a rule of its own."""

    def __init__(self) -> None:
        """Add a signal."""
        self.signal_add(bt.SIGNAL_LONGSHORT, AboveMean())

    def next(self) -> None:
        """Take something off when it has become too much."""
        if self.position.size > 1 and len(self) % 50 == 0:
            self.sell(size=1)


def main() -> None:
    """Run the strategy that backtrader makes of signals, and one that is written around them."""
    report = TruthReport()
    for strategy in (None, Watching):
        cerebro = bt.Cerebro()
        to = dt.datetime(2005, 12, 31)  # noqa: DTZ001  # backtrader wants naive times
        cerebro.adddata(feed("GOOG", todate=to), name="GOOG")
        if strategy is None:
            cerebro.add_signal(bt.SIGNAL_LONG, AboveMean)
            cerebro.add_signal(bt.SIGNAL_LONGEXIT, Momentum)
        else:
            cerebro.addstrategy(strategy)
        cerebro.addsizer(bt.sizers.PercentSizer, percents=50)
        cerebro.broker.setcommission(commission=0.001)
        report.run(cerebro)
    report.write()


if __name__ == "__main__":
    main()
