"""Contracts on margin: cash moves with every close, fills are partial, some orders lack margin."""

from __future__ import annotations

import datetime as dt

import backtrader as bt
from host_backtrader import TruthReport, feed

UNTIL = dt.datetime(2017, 5, 25)  # noqa: DTZ001  # backtrader wants naive times


class Swinging(bt.Strategy):
    """Trades contracts around a mean, in sizes that take several bars to fill."""

    params = (("size", 40),)

    def __init__(self) -> None:
        """Follow the mean of the larger bars."""
        self.mean = bt.ind.EMA(self.data1, period=6)
        self.order: bt.Order | None = None

    def next(self) -> None:
        """Follow the price of the larger bars."""
        if self.order is not None and self.order.alive():
            return
        size = self.p.size
        if self.data.close[0] > self.mean[0] * 1.0005:
            self.order = self.order_target_size(target=size)
        elif self.data.close[0] < self.mean[0] * 0.9995:
            self.order = self.order_target_size(target=-size)
        if len(self) % 200 == 0:
            self.buy(size=5_000)  # more than the margin allows


def engine(size: int = 40) -> bt.Cerebro:
    """An engine on hourly bars, and bars of four hours made of them."""
    cerebro = bt.Cerebro(stdstats=False)
    hourly = feed("EURUSD", todate=UNTIL)
    cerebro.adddata(hourly, name="EURUSD")
    resampled = {"timeframe": bt.TimeFrame.Minutes, "compression": 240}
    cerebro.resampledata(hourly, name="EURUSD 4h", **resampled)
    cerebro.addstrategy(Swinging, size=size)
    cerebro.broker.set_cash(100_000.0)
    return cerebro


def main() -> None:
    """Run futures of a fixed margin, of an automatic one, and a leveraged stock."""
    report = TruthReport()
    futures = engine()
    futures.broker.setcommission(commission=1.5, margin=900.0, mult=1_000.0)
    futures.broker.set_filler(bt.broker.fillers.FixedBarPerc(perc=1.0))
    report.run(futures, runonce=False)
    automatic = engine()
    automatic.broker.setcommission(
        commission=0.0001, automargin=50.0, margin=1.0, mult=1_000.0, commtype=0, stocklike=False
    )
    report.run(automatic)
    leveraged = engine(size=20_000)
    leveraged.broker.setcommission(commission=0.00002, leverage=20.0)
    leveraged.broker.set_shortcash(False)
    report.run(leveraged)
    report.write()


if __name__ == "__main__":
    main()
