"""A strategy that fails: once so that the host goes on, and once so that the process ends by it."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

import backtrader as bt
from host_backtrader import TruthReport, feed


class Failing(bt.Strategy):
    """Buys, then divides by zero, in the bar handler or when it hears of its order."""

    params = (("in_notify", False),)

    def next(self) -> None:
        """Buy, and fail later."""
        if len(self) in {3, 7}:
            self.buy(size=2)
        if len(self) == 12 and not self.p.in_notify:
            print(1 / 0)  # noqa: T201  # never reached

    def notify_order(self, order: Any) -> None:
        """Fail when the second order is filled."""
        if self.p.in_notify and order.status == order.Completed and len(self) > 6:
            raise ArithmeticError("notified")


def engine(**settings: Any) -> bt.Cerebro:
    """An engine on a few weeks of prices."""
    cerebro = bt.Cerebro(stdstats=False)
    to = dt.datetime(2004, 10, 1)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("GOOG", todate=to), name="GOOG")
    cerebro.addstrategy(Failing, **settings)
    return cerebro


def main() -> None:
    """Fail in three runs, the last of which ends the process if asked to."""
    report = TruthReport()
    report.run(engine())
    report.run(engine(in_notify=True))
    report.write()
    if "--crash" in sys.argv:
        engine().run()


if __name__ == "__main__":
    main()
