"""Fractions of a coin, which doubles cannot add up exactly, and three feeds that have no name."""

from __future__ import annotations

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


def main() -> None:
    """Run on three feeds."""
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
    report.write()


if __name__ == "__main__":
    main()
