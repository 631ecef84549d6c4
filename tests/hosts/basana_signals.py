"""Trading signals from strategies to position managers, and all other places for a user's code.

Two instances of one strategy, a signal of several pairs, handlers that fail, a task that a handler
leaves behind, jobs that are scheduled (one of them by a handler, one before the run), a handler of
all events, events of the user's own, an order from before the run, and one from the loop's start.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
from decimal import Decimal

import basana as bs
from basana.backtesting import liquidity
from basana.backtesting.exchange import Exchange, OrderEvent
from basana.core.event_sources.trading_signal import BaseTradingSignal
from host_basana import DAY, USD, Report, day_bars, numbered

AAPL, MSFT = bs.Pair("AAPL", "USD"), bs.Pair("MSFT", "USD")
BUY, SELL = bs.OrderOperation.BUY, bs.OrderOperation.SELL


class Crossing(bs.TradingSignalSource):
    """Is long above the mean of some days, and out of the market below."""

    def __init__(self, dispatcher: bs.EventDispatcher, days: int) -> None:
        super().__init__(dispatcher)
        self.days = days
        self.closes: list[Decimal] = []
        self.is_long = False

    async def on_bar(self, event: bs.BarEvent) -> None:
        self.closes.append(event.bar.close)
        recent = self.closes[-self.days :]
        is_long = event.bar.close > sum(recent) / len(recent)
        if len(self.closes) > self.days and is_long != self.is_long:
            self.is_long = is_long
            position = bs.Position.LONG if is_long else bs.Position.NEUTRAL
            self.push(bs.TradingSignal(event.when, position, event.bar.pair))


class Basket(bs.TradingSignalSource):
    """Says the same of two pairs at once."""

    def __init__(self, dispatcher: bs.EventDispatcher) -> None:
        super().__init__(dispatcher)
        self.bars = numbered()

    async def on_bar(self, event: bs.BarEvent) -> None:
        day = next(self.bars)
        if day in {30, 70}:
            signal = BaseTradingSignal(event.when)
            position = bs.Position.LONG if day == 30 else bs.Position.NEUTRAL
            signal.add_pair(AAPL, position)
            signal.add_pair(MSFT, position)
            self.push(signal)


class PositionManager:
    """Turns signals into orders of a fixed size."""

    def __init__(self, exchange: Exchange, size: int) -> None:
        self.exchange = exchange
        self.size = Decimal(size)

    async def on_signal(self, signal: BaseTradingSignal) -> None:
        for pair, position in signal.get_pairs():
            side = BUY if position is bs.Position.LONG else SELL
            await asyncio.sleep(0)
            await self.exchange.create_market_order(side, pair, self.size)


class Alarm(bs.Event):
    """An event of the user's own."""

    def __init__(self, when: dt.datetime, level: int) -> None:
        super().__init__(when)
        self.level = level


class Careless:
    """Fails after an order, leaves tasks behind, schedules itself, and publishes alarms."""

    def __init__(self, dispatcher: bs.EventDispatcher, exchange: Exchange) -> None:
        self.dispatcher = dispatcher
        self.exchange = exchange
        self.alarms = bs.FifoQueueEventSource()
        self.bars = numbered()
        self.tasks: list[asyncio.Task[object]] = []
        self.open: set[str] = set()

    async def on_bar(self, event: bs.BarEvent) -> None:
        match next(self.bars):
            case 10:
                await self.exchange.create_market_order(BUY, MSFT, Decimal(3))
                raise ValueError("stumbled after an order")
            case 20:
                task = asyncio.create_task(self.later())
                self.tasks.append(task)
            case 40:
                job = functools.partial(self.job, 5)
                self.dispatcher.schedule(event.when + 3 * DAY, job)
            case 50:
                self.alarms.push(Alarm(event.when, 7))

    async def later(self) -> None:
        await asyncio.sleep(0)
        await self.exchange.create_market_order(BUY, MSFT, Decimal(4))

    async def job(self, amount: int) -> None:
        await self.exchange.create_market_order(SELL, MSFT, Decimal(amount))

    async def before_all(self) -> None:
        await self.exchange.create_market_order(BUY, MSFT, Decimal(2))

    async def on_alarm(self, event: Alarm) -> None:
        await self.exchange.create_market_order(BUY, MSFT, Decimal(event.level))

    async def on_start(self) -> None:
        await self.exchange.create_limit_order(BUY, MSFT, Decimal(1), Decimal(20))

    async def on_order(self, event: OrderEvent) -> None:
        if event.order.is_open:
            self.open.add(event.order.id)
        else:
            self.open.discard(event.order.id)


async def main() -> None:
    logging.disable(logging.CRITICAL)  # basana logs what a handler raises
    report = Report()
    dispatcher = bs.backtesting_dispatcher()
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(10_000), "AAPL": Decimal(0), "MSFT": Decimal(10)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        default_pair_info=USD,
    )
    exchange.add_bar_source(day_bars("AAPL"))
    exchange.add_bar_source(day_bars("MSFT", seconds=1))
    manager, large = PositionManager(exchange, 10), PositionManager(exchange, 25)
    fast, slow, basket = Crossing(dispatcher, 5), Crossing(dispatcher, 20), Basket(dispatcher)
    wiring: list[tuple[Crossing | Basket, bs.Pair, PositionManager]]
    wiring = [(fast, AAPL, manager), (slow, AAPL, large), (basket, MSFT, manager)]
    for priority, (source, pair, receiver) in enumerate(wiring, start=2):
        source.priority = priority  # else their order is that of their addresses
        exchange.subscribe_to_bar_events(pair, source.on_bar)
        source.subscribe_to_trading_signals(receiver.on_signal)
    careless = Careless(dispatcher, exchange)
    exchange.subscribe_to_bar_events(MSFT, careless.on_bar)
    exchange.subscribe_to_order_events(careless.on_order)
    dispatcher.subscribe(careless.alarms, careless.on_alarm)
    seen: dict[str, int] = {}

    async def count(event: bs.Event) -> None:
        name = type(event).__name__
        seen[name] = seen.get(name, 0) + 1

    dispatcher.subscribe_all(count)
    dispatcher.subscribe_event_loop_started(careless.on_start)
    first = dt.datetime(2004, 1, 20, tzinfo=dt.UTC)
    dispatcher.schedule(first, careless.before_all)
    await exchange.create_limit_order(BUY, AAPL, Decimal(5), Decimal(30))
    await dispatcher.run()
    await asyncio.gather(*careless.tasks)
    await report.add(exchange, seen=dict(sorted(seen.items())))
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
