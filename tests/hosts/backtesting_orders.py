"""All that backtesting.py's broker can do, on the prices that ship with it, as several backtests.

Brackets with market, limit, stop and stop-limit entries, long and short, trailed, resized, taken
off and cancelled; netting and turning through zero; hedging and fills at the close; orders that the
broker drops; relative and whole sizes; leverage; a bankruptcy; exclusive orders; signals with a
trailing stop; fractions of a bitcoin; periods without times; open positions at the end; an order
before the first bar. Then a dozen backtests that do anything at random, under any settings.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy
from backtesting.lib import FractionalBacktest, SignalStrategy, TrailingStrategy, crossover
from backtesting.test import BTCUSD, EURUSD, GOOG
from host_backtests import BacktestReport


def average(values: Any, bars: int) -> Any:
    return pd.Series(values).rolling(bars).mean()


class SmaCross(Strategy):
    """The crossing of two averages, as the engine's own documentation has it."""

    fast = 10
    slow = 30

    def init(self) -> None:
        self.quick = self.I(average, self.data.Close, self.fast)
        self.calm = self.I(average, self.data.Close, self.slow)

    def next(self) -> None:
        if crossover(self.quick, self.calm):
            self.buy()
        elif crossover(self.calm, self.quick):
            self.sell()


class Brackets(Strategy):
    """One bracket after the other, whose entry and direction take turns."""

    def init(self) -> None:
        self.range = self.I(average, self.data.High - self.data.Low, 14, overlay=False)
        self.placed = 0
        self.age = 0

    def next(self) -> None:
        self.age += 1
        price, unit = self.data.Close[-1], self.range[-1]
        for order in self.orders:
            if not order.is_contingent and self.age > 4:
                order.cancel()
        for trade in self.trades:
            ahead = 1 if trade.is_long else -1
            if trade.sl and ahead * (price - trade.entry_price) > 2 * unit:
                trade.sl = price - ahead * 1.2 * unit
            if self.age == 6 and abs(trade.size) > 2:
                trade.close(0.5)
            if self.age == 9:
                trade.tp = None
            if self.age == 15:
                trade.close(0.2)  # of what the other closes before it: never filled
                trade.close()
        if not self.orders and not self.trades:
            self.enter(price, unit)

    def enter(self, price: float, unit: float) -> None:
        kind, self.age = self.placed % 5, 0
        ahead = 1 if self.placed % 3 else -1
        place = self.buy if ahead > 0 else self.sell
        self.placed += 1
        levels: dict[str, float] = [
            {},
            {"limit": price - ahead * 0.3 * unit},
            {"stop": price + ahead * 0.3 * unit},
            {"stop": price + ahead * 0.2 * unit, "limit": price + ahead * 0.5 * unit},
            {"limit": price - ahead * 9 * unit},
        ][kind]
        stop, profit = price - ahead * 3 * unit, price + ahead * 2.5 * unit
        if kind == 4:
            stop, profit = price - ahead * 11 * unit, price - ahead * 7 * unit
        size: float = 7 if self.placed % 2 else 0.4
        place(size=size, sl=stop, tp=profit, tag=f"bracket {kind}", **levels)


class Flips(Strategy):
    """Adds up small trades and turns all of them by one large order; sometimes asks too much."""

    def init(self) -> None:
        self.calm = self.I(average, self.data.Close, 20)

    def next(self) -> None:
        step = len(self.data) % 40
        above = self.data.Close[-1] > self.calm[-1]
        if step in {2, 5, 8}:
            (self.buy if above else self.sell)(size=3)
        elif step == 20:
            size = max(1, 2 * abs(int(self.position.size)))
            (self.sell if self.position.size > 0 else self.buy)(size=size)
        elif step == 25:
            (self.buy if above else self.sell)(size=100_000)
        elif step == 27:
            self.buy(size=0.00001)
        elif step == 30 and self.position:
            self.position.close(0.5)


class Hedged(Strategy):
    """Long and short at the same time, each with a tag of its own."""

    def init(self) -> None:
        self.calm = self.I(average, self.data.Close, 50)
        self.buy(size=100, tag="before the first bar")

    def next(self) -> None:
        step = len(self.data) % 60
        if step == 1:
            self.buy(size=1000, tag="long")
        elif step == 11:
            self.sell(size=1500, tag="short")
        elif step == 21:
            for trade in self.trades:
                if trade.is_long:
                    trade.close(0.3)
        elif step == 31:
            for trade in self.trades[:1]:
                trade.close()
        elif step == 41:
            self.position.close()


class Ruined(Strategy):
    """Sells a rising share with borrowed money until nothing is left."""

    def init(self) -> None:
        pass

    def next(self) -> None:
        if len(self.data) % 20 == 3:
            self.sell(size=8)


class Signals(SignalStrategy, TrailingStrategy):
    """The library's strategies together: a vector of signals, and a stop that trails."""

    def init(self) -> None:
        super().init()
        self.quick = self.I(average, self.data.Close, 10)
        self.calm = self.I(average, self.data.Close, 25)
        above = np.where(self.quick > self.calm, 1.0, 0.0)
        self.set_signal(0.5 * np.diff(above, prepend=0.0).clip(0), np.diff(above, prepend=0.0) < 0)
        self.set_trailing_sl(4)


class Swing(Strategy):
    """Buys and sells in turn, by a relative size."""

    def init(self) -> None:
        self.calm = self.I(average, self.data.Close, 6)

    def next(self) -> None:
        if crossover(self.data.Close, self.calm):
            self.buy(size=0.5)
        elif crossover(self.calm, self.data.Close):
            self.position.close()


class Paced(Strategy):
    """Buys a share now and then, and sells it half-way to the next."""

    pace = 10

    def init(self) -> None:
        pass

    def next(self) -> None:
        step = len(self.data) % self.pace
        if step == 0:
            self.buy(size=1)
        elif step == self.pace // 2:
            self.position.close()


class AtRandom(Strategy):
    """Does what a generator of its own says."""

    seed = 0

    def init(self) -> None:
        self.random = Random(self.seed)

    def next(self) -> None:
        random, price = self.random, self.data.Close[-1]
        act = random.random()
        if act < 0.3:
            self.place(price)
        elif act < 0.4 and self.trades:
            random.choice(self.trades).close(random.choice([1.0, 0.5, 0.1]))
        elif act < 0.5 and self.orders:
            random.choice(self.orders).cancel()
        elif act < 0.6 and self.trades:
            trade = random.choice(self.trades)
            ahead = 1 if trade.is_long else -1
            trade.sl = random.choice([None, price * (1 - ahead * random.uniform(0.01, 0.05))])
            trade.tp = random.choice([None, price * (1 + ahead * random.uniform(0.01, 0.05))])

    def place(self, price: float) -> None:
        random = self.random
        ahead = random.choice([1, -1])
        levels: dict[str, float] = {}
        if random.random() < 0.4:
            levels["limit"] = price * (1 - ahead * random.uniform(-0.01, 0.02))
        if random.random() < 0.3:
            levels["stop"] = price * (1 + ahead * random.uniform(-0.01, 0.02))
        if random.random() < 0.5:
            levels["sl"] = price * (1 - ahead * random.uniform(0.03, 0.08))
        if random.random() < 0.5:
            levels["tp"] = price * (1 + ahead * random.uniform(0.03, 0.08))
        size = random.choice([1, 2, 5, 13, 0.2, 0.7, 0.001])
        (self.buy if ahead > 0 else self.sell)(size=size, tag=random.choice(["a", "b"]), **levels)


def at_random(seed: int) -> Callable[[], Any]:
    """A backtest under settings that a seed chooses."""
    random = Random(seed)
    first = random.randrange(1800)
    data = GOOG.iloc[first : first + 120]
    backtest = Backtest(
        data,
        AtRandom,
        spread=random.choice([0, 0.001]),
        commission=random.choice([0, 0.002, -0.0005, (1, 0), (0.5, 0.001), per_share]),
        margin=random.choice([1, 0.5, 0.05]),
        trade_on_close=random.random() < 0.3,
        hedging=random.random() < 0.4,
        exclusive_orders=random.random() < 0.2,
        finalize_trades=random.random() < 0.5,
    )
    return lambda: backtest.run(seed=seed)


asked: list[float] = []
"""What the commission was asked for; tracing must not ask once more."""


def per_share(size: float, price: float) -> float:
    """A commission by the share with a least amount."""
    asked.append(size)
    return max(1.0, 0.005 * abs(size))


def backtests() -> dict[str, Callable[[], Any]]:
    """Every backtest by its name, not yet run."""
    euros, share = EURUSD.iloc[:400], GOOG.iloc[:500]
    share.attrs["symbol"] = "GOOG"
    cross = Backtest(GOOG.iloc[:800], SmaCross, commission=0.002, exclusive_orders=True)
    ruin = Backtest(GOOG, Ruined, cash=2_000, margin=0.05, commission=(1.0, 0.001))
    named: dict[str, Callable[[], Any]] = {
        "cross": cross.run,
        "cross again": lambda: cross.run(fast=5, slow=40),
        "brackets": Backtest(share, Brackets, commission=(2, 0.0005), spread=0.0004).run,
        "brackets with leverage": Backtest(
            share.iloc[:300], Brackets, margin=0.2, commission=per_share, finalize_trades=True
        ).run,
        "brackets at the close": Backtest(share.iloc[:300], Brackets, trade_on_close=True).run,
        "flips": Backtest(share.iloc[:300], Flips, margin=0.5, commission=0.001).run,
        "flips at the close": Backtest(
            share.iloc[:300], Flips, trade_on_close=True, finalize_trades=True, commission=-0.0001
        ).run,
        "hedged": Backtest(
            euros, Hedged, hedging=True, spread=0.0002, margin=0.1, finalize_trades=True
        ).run,
        "hedged, open": Backtest(euros.iloc[:205], Hedged, hedging=True, margin=0.1).run,
        "ruined": ruin.run,
        "signals": Backtest(share, Signals, commission=0.001).run,
        "fractions": FractionalBacktest(BTCUSD, Swing, fractional_unit=1e-6, commission=0.001).run,
        "periods": Backtest(
            share.iloc[:300].reset_index(drop=True), Flips, commission=0.001, finalize_trades=True
        ).run,
    }
    return named | {f"at random {seed}": at_random(seed) for seed in range(12)}


def main() -> None:
    """Run them one after the other."""
    report = BacktestReport()
    for name, run in backtests().items():
        report.add(name, run(), scale=1e-6 if name == "fractions" else 1.0)
    report.more["commissions asked for"] = asked
    report.write()


if __name__ == "__main__":
    main()
