"""A strategy with several parameters, each in a worker: METHOD WAY [VALUE]….

METHOD is a start method. WAY says who makes the workers: `executor`, `pool`, `process` (one for
each), `nested` (a worker that has workers), `threads` (all of them in one worker), or `optstrategy`
(backtrader does it). A negative value kills its worker half-way. Prints what each came to.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import random
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import backtrader as bt

DAYS = 60


class Prices(bt.feeds.DataBase):  # type: ignore[misc, unused-ignore]  # no types
    """A walk, the same for all."""

    def start(self) -> None:
        """Begin again."""
        super().start()
        self.count, self.price, self.chance = 0, 100.0, random.Random(3)

    def _load(self) -> bool:
        if self.count == DAYS:
            return False
        self.count += 1
        self.price *= 1 + self.chance.uniform(-0.02, 0.02)
        day = dt.datetime(2024, 1, 1) + dt.timedelta(days=self.count)  # noqa: DTZ001
        self.l.datetime[0] = bt.date2num(day)
        for line in (self.l.open, self.l.high, self.l.low, self.l.close):
            line[0] = self.price
        self.l.volume[0] = 1
        return True


class Crossing(bt.Strategy):  # type: ignore[misc, unused-ignore]  # no types
    """Holds while the price is above its mean."""

    params = (("fast", 5),)

    def __init__(self) -> None:
        """Follow the mean."""
        self.mean = bt.ind.SMA(period=abs(self.p.fast))

    def next(self) -> None:
        """Hold or not."""
        if self.p.fast < 0 and len(self) == DAYS // 2:
            time.sleep(0.2)  # what is younger than some milliseconds may be lost
            os.kill(os.getpid(), signal.SIGKILL)
        if self.data.close[0] > self.mean[0] and not self.position:
            self.buy(size=10)
        elif self.data.close[0] < self.mean[0] and self.position:
            self.close()


def backtest(fast: int) -> float:
    """Try one value."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Prices(), name="ACME")
    cerebro.addstrategy(Crossing, fast=fast)
    cerebro.run()
    return round(float(cerebro.broker.getvalue()), 2)


def in_threads(values: list[int]) -> list[float]:
    """Try several at one time."""
    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(backtest, values))


def in_workers(method: str, values: list[int]) -> list[float]:
    """Try each in a worker."""
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        return list(pool.map(backtest, values))


def optimised(method: str, values: list[int]) -> list[int]:
    """Have backtrader try them."""
    multiprocessing.set_start_method(method)
    cerebro = bt.Cerebro(stdstats=False, maxcpus=2)
    cerebro.adddata(Prices(), name="ACME")
    cerebro.optstrategy(Crossing, fast=values)
    return [tried.p.fast for (tried,) in cerebro.run()]


def main(method: str, way: str, values: list[int]) -> Any:
    """Try all of them."""
    context: Any = multiprocessing.get_context(method)
    if way == "executor":
        return in_workers(method, values)
    if way == "pool":
        with context.Pool(2) as pool:
            return pool.map(backtest, values, chunksize=1)
    if way == "optstrategy":
        return optimised(method, values)
    if way == "process":
        processes = [context.Process(target=backtest, args=(value,)) for value in values]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]
    with ProcessPoolExecutor(1, context) as one:
        if way == "nested":
            return one.submit(in_workers, method, values).result()
        return one.submit(in_threads, values).result()


if __name__ == "__main__":
    came_to = main(sys.argv[1], sys.argv[2], [int(value) for value in sys.argv[3:]])
    sys.stdout.write(f"{came_to}\n")
