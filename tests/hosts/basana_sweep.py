"""One strategy with several parameters, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path

import basana as bs
from basana.backtesting import liquidity
from basana.backtesting.exchange import Exchange
from host_basana import USD, Report, cross_bars

PAIR = bs.Pair("AAPL", "MSFT")


class Reverting:
    """Buys below the mean of some days and sells above."""

    def __init__(self, exchange: Exchange, days: int, size: Decimal, api_key: str = "x") -> None:
        self._exchange = exchange
        self.api_key = api_key  # as a strategy may have one that trades live, too
        self._days = days
        self.size = size
        self.closes: list[Decimal] = []
        self.is_long = False

    async def on_bar(self, event: bs.BarEvent) -> None:
        self.closes.append(event.bar.close)
        recent = self.closes[-self._days :]
        is_cheap = event.bar.close < sum(recent) / len(recent)
        if len(self.closes) > self._days and is_cheap != self.is_long:
            self.is_long = is_cheap
            side = bs.OrderOperation.BUY if is_cheap else bs.OrderOperation.SELL
            await self._exchange.create_market_order(side, PAIR, self.size)


async def backtest(days: int) -> dict[str, object]:
    dispatcher = bs.backtesting_dispatcher()
    exchange = Exchange(
        dispatcher,
        {"MSFT": Decimal(1000), "AAPL": Decimal(0)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        default_pair_info=USD,
    )
    exchange.add_bar_source(cross_bars("AAPL", "MSFT", 60))
    strategy = Reverting(exchange, days, Decimal(10))
    exchange.subscribe_to_bar_events(PAIR, strategy.on_bar)
    await dispatcher.run(stop_signals=[])
    report = Report()
    await report.add(exchange, days=days)
    return report.runs[0]


def in_a_process(days: int) -> dict[str, object]:
    return asyncio.run(backtest(days))


def main() -> None:
    method = sys.argv[2] if len(sys.argv) > 2 else "fork"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, context) as pool:
        runs = list(pool.map(in_a_process, (3, 8, 15)))
    text = json.dumps({"runs": runs}, indent=1, sort_keys=True)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
