"""Two strategies on one data and one on another: one broker nets them, through zero, short too.

Shorts pay interest, the account gets a deposit, one order has too little cash.
"""

from __future__ import annotations

import datetime as dt

import backtrader as bt
from host_backtrader import TruthReport, feed


class Crossing(bt.Strategy):
    """Long above its mean, short below: flips through zero with every crossing."""

    params = (("period", 20), ("stake", 30))

    def __init__(self) -> None:
        """Follow the crossings."""
        self.cross = bt.ind.CrossOver(self.data.close, bt.ind.SMA(period=self.p.period))

    def next(self) -> None:
        """Turn at a crossing."""
        if self.cross[0] > 0:
            self.order_target_size(target=self.p.stake)
        elif self.cross[0] < 0:
            self.order_target_size(target=-self.p.stake)
        if len(self) == 300:
            self.broker.add_cash(2_500)
        if len(self) == 310:
            self.buy(size=1_000_000)


class Accumulating(bt.Strategy):
    """Buys a little every fortnight and sells half of it now and then, whatever the others do."""

    def next(self) -> None:
        """Buy, or sell."""
        if len(self) % 10 == 0:
            self.buy(size=7)
        if len(self) % 45 == 0:
            self.sell(size=13)
        if len(self.datas) > 1 and len(self) % 33 == 0:
            self.sell(self.data1, size=3)


class Balancing(bt.Strategy):
    """Keeps a part of the account's value in the second instrument."""

    def next(self) -> None:
        """Rebalance each month."""
        if len(self) % 21 == 0:
            share = 0.1 if len(self) % 2 else 0.2
            self.order_target_percent(self.data1, target=share)


def main() -> None:
    """Run the three together, vectorised and step by step."""
    report = TruthReport()
    for runonce in (True, False):
        cerebro = bt.Cerebro()
        to = dt.datetime(2006, 3, 31)  # noqa: DTZ001  # backtrader wants naive times
        cerebro.adddata(feed("GOOG", todate=to), name="GOOG")
        cerebro.adddata(feed("GOOG", todate=to), name="TWIN")
        cerebro.addstrategy(Crossing)
        cerebro.addstrategy(Crossing, period=50, stake=11)
        cerebro.addstrategy(Accumulating)
        cerebro.broker.set_cash(100_000.0)
        cerebro.broker.setcommission(commission=0.0007, interest=0.03)
        report.run(cerebro, runonce=runonce)
    cerebro = bt.Cerebro()
    since, to = dt.datetime(2012, 1, 1), dt.datetime(2013, 3, 1)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("GOOG", fromdate=since, todate=to), name="GOOG")
    cerebro.adddata(feed("BTCUSD", fromdate=since, todate=to), name="BTC")
    cerebro.addstrategy(Crossing)
    cerebro.addstrategy(Balancing)
    cerebro.addsizer(bt.sizers.FixedSize, stake=3)
    cerebro.broker.set_cash(50_000.0)
    cerebro.broker.set_fundmode(fundmode=True)
    report.run(cerebro)
    cerebro = bt.Cerebro()
    cerebro.adddata(feed("GOOG", fromdate=since, todate=to), name="GOOG")
    cerebro.addstrategy(Accumulating)
    report.run(cerebro, exactbars=1)
    report.write()


if __name__ == "__main__":
    main()
