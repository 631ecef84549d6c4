"""Fractions, which doubles cannot add up exactly, and three feeds that have no name."""

from __future__ import annotations

import datetime as dt
import random

import backtrader as bt
from host_backtrader import TruthReport, feed


class Fractions(bt.Strategy):
    """Adds a tenth, then two tenths, then takes three tenths away again."""

    def next(self) -> None:
        """Repeat that, and turn the position now and then."""
        step, data = len(self) % 4, self.datas[len(self) // 40 % len(self.datas)]
        if step == 0:
            self.buy(data, size=0.1)
        elif step == 1:
            self.buy(data, size=0.2)
        elif step == 2:
            self.sell(data, size=0.3 if len(self) % 12 else 0.7)


class Crumbs(bt.Strategy):
    """Holds fractions of shares that are filled one share at a time, and sells them again."""

    params = (("seed", 5),)

    def __init__(self) -> None:
        """Have a generator of its own."""
        self.random = random.Random(self.p.seed)

    def next(self) -> None:
        """Ask for some thousandths more or fewer."""
        if len(self) % 9 == 0:
            self.cancel_all()
            self.order_target_size(target=round(self.random.uniform(-9, 9), 3))

    def cancel_all(self) -> None:
        """Cancel what is still waiting, and sell the rest now and then."""
        for order in self.broker.get_orders_open():
            self.cancel(order)
        if len(self) % 27 == 0:
            self.close()


def crumbs() -> bt.Cerebro:
    """An engine whose broker fills one share, or the rest, in each bar."""
    cerebro = bt.Cerebro(stdstats=False)
    until = dt.datetime(2006, 8, 19)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("GOOG", todate=until), name="GOOG")
    cerebro.addstrategy(Crumbs)
    cerebro.broker.set_filler(bt.broker.fillers.FixedSize(size=1))
    cerebro.broker.setcommission(commission=0.0005, interest=0.05, interest_long=True)
    return cerebro


def main() -> None:
    """Run on three feeds, and on one in crumbs."""
    report = TruthReport()
    cerebro = bt.Cerebro(stdstats=False)
    bitcoin = feed("BTCUSD", timeframe=bt.TimeFrame.Months)
    cerebro.adddata(bitcoin)
    cerebro.adddata(feed("BTCUSD", timeframe=bt.TimeFrame.Months))
    cerebro.resampledata(bitcoin, timeframe=bt.TimeFrame.Months, compression=2)
    cerebro.addstrategy(Fractions)
    cerebro.broker.set_cash(1_000_000.0)
    cerebro.broker.setcommission(commission=0.0003)
    report.run(cerebro)
    report.run(crumbs())
    report.write()


if __name__ == "__main__":
    main()
