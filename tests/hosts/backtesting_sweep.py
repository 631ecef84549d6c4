"""Parameters tried over a pool of processes, and one strategy on several markets at once.

The workers' results travel back by pickling; the best run is repeated in this process. A result is
pickled here as well, and read back. The second argument is the start method, `fork` by itself.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys

import backtesting
from backtesting import Backtest
from backtesting.lib import MultiBacktest
from backtesting.test import BTCUSD, EURUSD, GOOG
from backtesting_orders import SmaCross
from host_backtests import BacktestReport


def two_processes(*args: object, **kwargs: object) -> object:
    """Make the pool that the engine asks for, with two workers on any machine."""
    method = sys.argv[2] if len(sys.argv) > 2 else "fork"
    return multiprocessing.get_context(method).Pool(2)


def main() -> None:
    """Run it."""
    pool, backtesting.Pool = backtesting.Pool, two_processes
    report = BacktestReport()
    share = GOOG.iloc[:500]
    share.attrs["symbol"] = "GOOG"
    backtest = Backtest(share, SmaCross, commission=0.002, finalize_trades=True)
    best, heatmap = backtest.optimize(
        fast=[5, 10, 15], slow=[20, 30], maximize="Equity Final [$]", return_heatmap=True
    )
    report.add("best", best)
    report.more["heatmap"] = {str(key): repr(float(value)) for key, value in heatmap.items()}
    markets = MultiBacktest([EURUSD.iloc[:400], BTCUSD], SmaCross, cash=1e6, finalize_trades=True)
    ends = markets.run(fast=4).loc["Equity Final [$]"]
    report.more["markets"] = [repr(float(value)) for value in ends]
    backtesting.Pool = pool
    again = pickle.loads(pickle.dumps(best))  # noqa: S301 - our own
    report.add("read back", again)
    report.write()


if __name__ == "__main__":
    main()
