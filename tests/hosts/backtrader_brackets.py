"""Brackets, OCO pairs, every type of order, changes, cancellations, expiry, slippage, fees."""

from __future__ import annotations

import datetime as dt

import backtrader as bt
from host_backtrader import TruthReport, feed


class Brackets(bt.Strategy):
    """Buys in brackets, and moves the stop of the second one by cancelling it."""

    def __init__(self) -> None:
        """Follow a mean."""
        self.mean = bt.ind.SMA(period=15)
        self.legs: list[bt.Order] = []
        self.moved = 0

    def next(self) -> None:
        """Enter above the mean."""
        alive = [leg for leg in self.legs if leg.alive()]
        if not alive and not self.position and self.data.close[0] > self.mean[0]:
            price = self.data.close[0]
            self.legs = self.buy_bracket(
                price=price * (1.01 if len(self) % 2 else 0.98),
                limitprice=price * 1.06,
                stopprice=price * 0.97,
                size=10,
                oargs={"valid": dt.timedelta(days=4)},
            )
        elif len(alive) == 2 and self.position and self.moved < 3 and len(self) % 7 == 0:
            self.cancel(alive[0])
            self.moved += 1
        elif not alive and self.position:
            self.legs = [self.close()]  # a cancelled leg takes the other one with it


class Pairs(bt.Strategy):
    """Opens with a stop-limit, closes with an OCO pair of a trailing stop and a limit."""

    params = (("size", 7),)

    def __init__(self) -> None:
        """Nothing is open."""
        self.entry: bt.Order | None = None
        self.exits: list[bt.Order] = []

    def next(self) -> None:
        """Enter on strength, replace an entry that waits too long."""
        if self.position or any(one.alive() for one in self.exits):
            return
        price = self.data.close[0]
        if self.entry is not None and self.entry.alive():
            if len(self) % 5 == 0:
                self.cancel(self.entry)
                self.entry = self.buy(exectype=bt.Order.Limit, price=price * 0.999)
            return
        if len(self) % 11 == 0:
            self.entry = self.buy(
                size=self.p.size,
                exectype=bt.Order.StopLimit,
                price=price * 1.005,
                plimit=price * 1.03,
                valid=self.data.datetime.datetime() + dt.timedelta(days=20),
            )
        elif len(self) % 29 == 0:
            self.entry = self.buy(size=self.p.size, exectype=bt.Order.Close)

    def notify_order(self, order: bt.Order) -> None:
        """Protect what was bought."""
        if order is not None and order.isbuy() and order.status == order.Completed:
            size = order.executed.size
            trail = self.sell(size=size, exectype=bt.Order.StopTrail, trailpercent=0.03)
            price = order.executed.price * 1.05
            limit = self.sell(size=size, exectype=bt.Order.Limit, price=price, oco=trail)
            self.exits = [trail, limit]


def main() -> None:
    """Run both strategies, each on its own data."""
    report = TruthReport()
    for strategy, settings in ((Brackets, {}), (Pairs, {"size": 5})):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feed("GOOG", todate=dt.datetime(2005, 12, 31)), name="GOOG")  # noqa: DTZ001  # backtrader wants naive times
        cerebro.addstrategy(strategy, **settings)
        cerebro.broker.set_cash(50_000)
        cerebro.broker.setcommission(commission=0.001)
        cerebro.broker.set_slippage_perc(0.0005)
        report.run(cerebro)
    report.write()


if __name__ == "__main__":
    main()
