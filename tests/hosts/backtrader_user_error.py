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


def fail_at(length: int) -> None:
    """Fail late enough for something to have been traded."""
    if length == 12:
        raise ArithmeticError("no handler")


class FailingIndicator(bt.Indicator):
    """Fails while the engine goes through the bars, or when it is made."""

    lines = ("nothing",)
    params = (("when_made", False),)

    def __init__(self) -> None:
        if self.p.when_made:
            raise ArithmeticError("no indicator")

    def next(self) -> None:
        """Say nothing, and fail later."""
        fail_at(len(self))


class WithIndicator(Failing):
    """Has an indicator that fails."""

    params = (("when_made", False),)

    def __init__(self) -> None:
        settings: dict[str, Any] = {"when_made": self.p.when_made}
        self.indicator = FailingIndicator(**settings)


class Unmade(bt.Strategy):
    """Cannot be made, since it calls the engine wrongly."""

    def __init__(self) -> None:
        if not self.data.close.get(size=3):
            raise ArithmeticError("no strategy")


class FailingAnalyzer(bt.Analyzer):
    """Fails when it hears of the value of the account."""

    def notify_cashvalue(self, cash: float, value: float) -> None:
        """Fail later."""
        fail_at(len(self))


class FailingObserver(bt.Observer):
    """Fails when it is to look."""

    lines = ("nothing",)

    def next(self) -> None:
        """Say nothing, and fail later."""
        fail_at(len(self))


class FailingSizer(bt.Sizer):
    """Fails when it is asked for the size of the second order, which a handler has it asked."""

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> int:
        if len(self.strategy) > 12:
            raise ArithmeticError("no size")
        return 1


class Sized(bt.Strategy):
    """Has its orders sized."""

    def next(self) -> None:
        """Buy twice."""
        if len(self) in {3, 14}:
            self.buy()


def engine(strategy: Any = Failing, **settings: Any) -> bt.Cerebro:
    """An engine on a few weeks of prices."""
    cerebro = bt.Cerebro(stdstats=False)
    to = dt.datetime(2004, 10, 1)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("GOOG", todate=to), name="GOOG")
    cerebro.addstrategy(strategy, **settings)
    return cerebro


def engines_that_fail_elsewhere() -> list[bt.Cerebro]:
    """Engines whose failures come from what is no handler, but for the last."""
    analyzed, observed, sized = engine(Sized), engine(Sized), engine(Sized)
    analyzed.addanalyzer(FailingAnalyzer)
    observed.addobserver(FailingObserver)
    sized.addsizer(FailingSizer)
    indicated, unmade = engine(WithIndicator), engine(WithIndicator, when_made=True)
    for one in (indicated, observed):
        one.p.runonce = False
    return [engine(Unmade), unmade, indicated, analyzed, observed, sized]


def main() -> None:
    """Fail in several runs, the last of which ends the process if asked to."""
    report = TruthReport()
    report.run(engine())
    report.run(engine(in_notify=True))
    for one in engines_that_fail_elsewhere():
        report.run(one)
    report.write()
    if "--crash" in sys.argv:
        engine().run()


if __name__ == "__main__":
    main()
