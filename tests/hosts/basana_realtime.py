"""Live mode with paper money: wall clock, a feed that runs as a producer, handlers side by side.

basana's simulated exchange only lacks a word of its dispatcher to run in real time. What this host
reports does not depend on the clock.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal

import basana as bs
from basana.backtesting import fees, liquidity
from basana.backtesting.exchange import Exchange, OrderEvent
from host_basana import USD, Report, numbered, stock_prices

PAIR = bs.Pair("IBM", "USD")
BARS = 12


class LiveDispatcher(bs.RealtimeDispatcher):
    """What the simulated exchange asks of a dispatcher: whether it can tell the time."""

    now_available = True


class Feed(bs.FifoQueueEventSource, bs.Producer):
    """Sends a bar every few milliseconds, then stops the dispatcher."""

    def __init__(self, dispatcher: bs.EventDispatcher) -> None:
        super().__init__(producer=self)
        self.dispatcher = dispatcher

    async def main(self) -> None:
        for row in stock_prices("IBM", "2004-01-02", BARS):
            now = bs.utc_now()
            prices = [Decimal(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")]
            bar = bs.Bar(now, PAIR, *prices, dt.timedelta(milliseconds=10))
            self.push(bs.BarEvent(now, bar))
            await asyncio.sleep(0.02)
        self.dispatcher.stop()


class Live:
    """Waits in the middle of a handler while the other ones run."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.bars = numbered()
        self.filled = Decimal(0)
        self.idle = 0

    async def on_bar(self, event: bs.BarEvent) -> None:
        day = next(self.bars)
        await asyncio.sleep(0.002)
        if day in {2, 5, 8}:
            side = bs.OrderOperation.SELL if day == 8 else bs.OrderOperation.BUY
            await self.exchange.create_market_order(
                side, PAIR, Decimal(40 if day == 8 else 10 * day)
            )

    async def other_on_bar(self, event: bs.BarEvent) -> None:
        await asyncio.sleep(0.001)

    async def on_order(self, event: OrderEvent) -> None:
        self.filled = max(self.filled, event.order.amount_filled)

    async def on_idle(self) -> None:
        self.idle += 1
        if self.idle == 3:
            await self.exchange.create_limit_order(
                bs.OrderOperation.BUY, PAIR, Decimal(1), Decimal(1)
            )


async def main() -> None:
    report = Report()
    dispatcher = LiveDispatcher(max_concurrent=8)
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(100_000)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        fee_strategy=fees.Percentage(Decimal("0.1")),
        default_pair_info=USD,
    )
    exchange.add_bar_source(Feed(dispatcher))
    live = Live(exchange)
    exchange.subscribe_to_bar_events(PAIR, live.on_bar)
    exchange.subscribe_to_bar_events(PAIR, live.other_on_bar)
    exchange.subscribe_to_order_events(live.on_order)
    dispatcher.subscribe_idle(live.on_idle)
    await dispatcher.run()
    report.note(f"most filled: {live.filled}")
    await report.add(exchange)
    for run in report.runs:
        run["orders"].sort(key=lambda order: (order["type"], order["amount"]))
        for order in run["orders"]:
            for fill in order["fills"]:
                del fill["when"]  # wall clock
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
