"""Two strategies on one pair, every type of order that basana has, and all that becomes of them.

Partial fills by volume, a bracket whose second leg is cancelled by the first one's fill, orders
that are cancelled by the user or for want of liquidity, refused for their digits or the balance,
fills in the same bar, fees with a minimum, a plain function as handler, and an open position at
the end.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

import basana as bs
from basana.backtesting import fees, liquidity
from basana.backtesting.exchange import Exchange, OrderEvent
from host_basana import USD, Report, day_bars, numbered

PAIR = bs.Pair("AAPL", "USD")
BUY, SELL = bs.OrderOperation.BUY, bs.OrderOperation.SELL


class Bracketed:
    """Buys, and then waits with a stop and a limit order, of which one cancels the other."""

    def __init__(self, exchange: Exchange, report: Report) -> None:
        self.exchange = exchange
        self.report = report
        self.bars = numbered()
        self.entry: str | None = None
        self.legs: list[str] = []

    async def on_bar(self, event: bs.BarEvent) -> None:
        count = next(self.bars)
        if count % 25 == 3 and self.entry is None and not self.legs:
            self.entry = (await self.exchange.create_market_order(BUY, PAIR, Decimal(50))).id

    async def on_order(self, event: OrderEvent) -> None:
        order = event.order
        if order.id == self.entry and not order.is_open and order.fill_price:
            self.entry = None
            stop = round(order.fill_price * Decimal("0.97"), 2)
            target = round(order.fill_price * Decimal("1.02"), 2)
            # The shares of one leg are on hold for it, so the other one has a few of its own.
            amount = order.amount_filled // 2
            one = await self.exchange.create_stop_order(SELL, PAIR, amount, stop)
            two = await self.exchange.create_limit_order(SELL, PAIR, amount, target)
            self.legs = [one.id, two.id]
        elif order.id in self.legs and not order.is_open:
            self.legs.remove(order.id)
            if order.amount_filled and self.legs:
                (other,) = self.legs
                await self.exchange.cancel_order(other)


class Various:
    """Does something else at each of its bars."""

    def __init__(self, exchange: Exchange, report: Report) -> None:
        self.exchange = exchange
        self.report = report
        self.bars = numbered()
        self.far: str = ""

    async def on_bar(self, event: bs.BarEvent) -> None:
        close = event.bar.close
        create = self.exchange
        match next(self.bars):
            case 2:
                await create.create_market_order(BUY, PAIR, Decimal(150))
            case 5:  # in parts: more than a bar's share of the volume
                price = round(close * Decimal("1.05"), 2)
                await create.create_limit_order(BUY, PAIR, Decimal(600), price)
            case 20:
                stop, limit = round(close * Decimal("1.01"), 2), round(close * Decimal("1.03"), 2)
                await create.create_stop_limit_order(BUY, PAIR, Decimal(40), stop, limit)
            case 22:
                await create.create_market_order(BUY, PAIR, Decimal(2000))
            case 23:
                await self.refused(create.create_limit_order(BUY, PAIR, Decimal(10**6), close))
            case 24:
                await self.refused(create.create_market_order(BUY, PAIR, Decimal("0.5")))
                await self.refused(
                    create.create_limit_order(SELL, PAIR, Decimal(1), Decimal("99.999"))
                )
            case 25:
                price = round(close / 2, 2)
                self.far = (await create.create_limit_order(BUY, PAIR, Decimal(7), price)).id
            case 28:
                await create.cancel_order(self.far)
                await self.refused(create.cancel_order(self.far))
            case 40:  # both are filled in the next bar
                await create.create_market_order(SELL, PAIR, Decimal(60))
                await create.create_market_order(BUY, PAIR, Decimal(20))
            case 60:
                price = round(close * Decimal("0.995"), 2)
                await create.create_limit_order(SELL, PAIR, Decimal(300), price)
            case 90:
                stop = round(close * Decimal("0.97"), 2)
                await create.create_stop_order(SELL, PAIR, Decimal(30), stop)

    async def refused(self, request: object) -> None:
        try:
            await request  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - the very error is what is compared
            said = str(error).replace(self.far, "FAR") if self.far else str(error)
            self.report.note(f"{type(error).__name__}: {said}")


async def main() -> None:
    report = Report()
    dispatcher = bs.backtesting_dispatcher()
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(100_000)},
        liquidity_strategy_factory=lambda: liquidity.VolumeShareImpact(Decimal("0.002")),
        fee_strategy=fees.Percentage(Decimal("0.1"), min_fee=Decimal(1)),
        default_pair_info=USD,
    )
    exchange.add_bar_source(day_bars("AAPL"))
    various, bracketed = Various(exchange, report), Bracketed(exchange, report)
    exchange.subscribe_to_bar_events(PAIR, various.on_bar)
    exchange.subscribe_to_bar_events(PAIR, bracketed.on_bar)
    exchange.subscribe_to_order_events(bracketed.on_order)
    days = numbered()

    async def every_tenth_day(event: bs.BarEvent) -> None:
        if next(days) % 10 == 0:
            await exchange.create_market_order(BUY, PAIR, Decimal(1))

    exchange.subscribe_to_bar_events(PAIR, every_tenth_day)
    await dispatcher.run()
    await report.add(exchange)
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
