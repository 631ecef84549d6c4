"""Currencies with leverage, and futures on them that pay interest: notionals far above the cash."""

from __future__ import annotations

import datetime as dt
import random

import backtrader as bt
import numpy as np
from host_backtrader import TruthReport, feed


class Swinging(bt.Strategy):
    """Trades sizes of many digits, some of numpy's, through zero; one order has no size at all."""

    params = (("seed", 11), ("most", 400_000))

    def __init__(self) -> None:
        """Have a generator of its own."""
        self.random = random.Random(self.p.seed)

    def next(self) -> None:
        """Trade one of the two now and then."""
        if len(self) == 40:
            self.buy(size=float("nan"), exectype=bt.Order.Limit, price=0.1)
        for data in self.datas:
            if self.random.random() < 0.08:
                size = np.float64(self.random.randint(1, self.p.most))
                trade = self.random.choice((self.buy, self.sell))
                trade(data, size=size if self.random.random() < 0.5 else float(size))
            elif self.random.random() < 0.02:
                self.close(data)


def main() -> None:
    """Run with a futures contract beside the currency."""
    report = TruthReport()
    cerebro = bt.Cerebro(stdstats=False)
    until = dt.datetime(2017, 9, 1)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("EURUSD", todate=until), name="EURUSD")
    cerebro.resampledata(feed("EURUSD", todate=until), timeframe=bt.TimeFrame.Days, name="FUTURE")
    cerebro.addstrategy(Swinging)
    cerebro.broker.set_cash(50_000_000.0)
    cerebro.broker.setcommission(commission=0.00003, leverage=30.0, interest=0.02, name="EURUSD")
    cerebro.broker.setcommission(
        commission=1.5, margin=0.1, mult=1000.0, interest=0.05, interest_long=True, name="FUTURE"
    )
    report.run(cerebro)
    report.write()


if __name__ == "__main__":
    main()
