"""Fills within the bar of the decision, timers, a calendar, histories, several kinds of running."""

from __future__ import annotations

import datetime as dt
from typing import Any

import backtrader as bt
from host_backtrader import TruthReport, feed

UNTIL = dt.datetime(2005, 12, 31)  # noqa: DTZ001  # backtrader wants naive times


class AtTheOpen(bt.Strategy):
    """Decides before the open, and is filled at it."""

    def next_open(self) -> None:
        """Buy or sell at this bar's open."""
        if len(self.data) % 9 == 0:
            self.close() if self.position else self.buy(size=10)

    def stop(self) -> None:
        """Leave an order behind that nothing executes any more."""
        self.sell(size=1)


class AtTheClose(bt.Strategy):
    """Is filled at the close on which it decides."""

    def next(self) -> None:
        """Hold every other week."""
        if len(self) % 5 == 0:
            self.close() if self.position else self.sell(size=10)


class Timed(bt.Strategy):
    """Trades in timers only."""

    def start(self) -> None:
        """Set the strategy's own timer."""
        self.add_timer(bt.timer.SESSION_START, monthdays=[1], monthcarry=True)
        self.add_timer(bt.timer.SESSION_START, monthdays=[15], monthcarry=True, cheat=True)

    def notify_timer(self, timer: Any, when: Any, *args: Any, **kwargs: Any) -> None:
        """Turn the position."""
        del timer, when, args, kwargs
        self.close() if self.position else self.buy(size=4)


def engine(strategy: type[bt.Strategy], **settings: Any) -> bt.Cerebro:
    """An engine of one strategy."""
    cerebro = bt.Cerebro(**settings)
    cerebro.adddata(feed("GOOG", todate=UNTIL), name="GOOG")
    cerebro.addstrategy(strategy)
    cerebro.broker.set_cash(20_000.0)
    cerebro.broker.setcommission(
        commission=0.05, commtype=bt.CommInfoBase.COMM_FIXED, stocklike=True
    )
    return cerebro


def main() -> None:
    """Run them."""
    report = TruthReport()
    report.run(engine(AtTheOpen, cheat_on_open=True))
    report.run(engine(AtTheOpen, cheat_on_open=True, runonce=False, preload=False))
    closing = engine(AtTheClose)
    closing.broker.set_coc(True)
    report.run(closing, oldsync=True)
    timed = engine(Timed, quicknotify=True, tradehistory=True)
    timed.addcalendar(bt.TradingCalendar(holidays=[dt.datetime(2005, 7, 4)]))  # noqa: DTZ001  # the same
    report.run(timed)
    history = engine(bt.Strategy)
    orders = [["2004-09-01", 10, 100.5], ["2004-11-01", -25, 190.0], ["2005-03-01", 15, 187.0]]
    history.add_order_history(orders, notify=True)
    report.run(history)
    report.write()


if __name__ == "__main__":
    main()
