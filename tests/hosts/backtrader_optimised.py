"""Parameters tried in processes and in this one, strategies sent back, one engine run twice."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import backtrader as bt
from host_backtrader import Truth, TruthReport, account, feed


class Sloping(bt.Strategy):
    """Holds while the mean rises."""

    params = (("period", 10), ("size", 5))

    def __init__(self) -> None:
        """Follow the mean."""
        self.mean = bt.ind.SMA(period=self.p.period)

    def next(self) -> None:
        """Hold or not."""
        if self.mean[0] > self.mean[-1] and not self.position:
            self.buy(size=self.p.size)
        elif self.mean[0] < self.mean[-1] and self.position:
            self.close()

    def stop(self) -> None:
        """Keep what the account came to."""
        self.value = repr(self.broker.getvalue())


def engine(**settings: Any) -> bt.Cerebro:
    """An engine on a year of prices."""
    cerebro = bt.Cerebro(**settings)
    to = dt.datetime(2005, 1, 31)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(feed("GOOG", todate=to), name="GOOG")
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def main() -> None:
    """Optimise, and run twice."""
    report = TruthReport()
    for settings in ({"maxcpus": 1}, {"maxcpus": 2}, {"maxcpus": 2, "optreturn": False}):
        cerebro = engine(stdstats=False, **settings)
        cerebro.addanalyzer(Truth, _name="truth")
        cerebro.optstrategy(Sloping, period=[5, 10, 20], size=5)
        for (tried,) in cerebro.run():
            truth = tried.analyzers.truth.get_analysis()
            truth["states"] = [status for _, status in truth["states"]]
            for fill in truth["fills"]:
                del fill["order"]  # numbered by whichever process it was
            value = getattr(tried, "value", None)
            told = {"parameters": [tried.p.period, tried.p.size], "value": value}
            report.runs.append({"strategies": [truth], **told})
    twice = engine()
    twice.addstrategy(Sloping)
    report.run(twice)
    (again,) = twice.run()
    report.runs.append({"strategies": [again.analyzers[0].get_analysis()], **account(twice)})
    order = again._orders[-1]  # the strategy's own list of its orders
    copy = pickle.loads(pickle.dumps(order.executed))  # noqa: S301  # made here
    report.runs[-1]["pickled"] = repr(copy.price)
    report.write()


if __name__ == "__main__":
    main()
