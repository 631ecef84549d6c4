"""Pairs that are booked in other digits than their currencies have, and fees of two currencies.

The prices of one share in another serve as those of `ETH` in `BTC`: with two digits of BTC, with
eight, by a tick size, by significant digits.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

import basana as bs
from basana.backtesting import fees, liquidity
from basana.backtesting.exchange import Exchange
from host_basana import Report, cross_bars, numbered

PAIR = bs.Pair("ETH", "BTC")
TICKS = {"base_tick_size": Decimal("0.001"), "quote_tick_size": Decimal("0.0005")}
DIGITS = {
    "coarse": bs.PairInfo(3, 2),
    "fine": bs.PairInfo(8, 8),
    "tick": bs.PairInfo(0, 0, precision_mode=bs.PrecisionMode.TICK_SIZE, **TICKS),
    "significant": bs.PairInfo(5, 3, precision_mode=bs.PrecisionMode.SIGNIFICANT_DIGITS),
}


class TwoFees(fees.FeeStrategy):
    """Takes a part in what is paid with, and a token besides."""

    def calculate_fees(
        self, order: object, balance_updates: dict[str, Decimal]
    ) -> dict[str, Decimal]:
        paid = abs(balance_updates.get("BTC", Decimal(0)))
        return {"BTC": -paid / 1000, "BNB": Decimal("-0.0007")}


class Turning:
    """Buys twice, sells once, and so on."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.bars = numbered()

    async def on_bar(self, event: bs.BarEvent) -> None:
        day = next(self.bars)
        if day % 3 == 0:
            side = bs.OrderOperation.SELL if day % 9 == 0 else bs.OrderOperation.BUY
            await self.exchange.create_market_order(side, PAIR, Decimal("1.234"))


async def main() -> None:
    report = Report()
    prices = cross_bars("AAPL", "MSFT", 40)
    bars = []
    while (event := prices.pop()) is not None:
        bar = event.bar
        scaled = [p / 20 for p in (bar.open, bar.high, bar.low, bar.close)]
        coins = bs.Bar(bar.begin, PAIR, *scaled, bar.volume, bar.duration)
        bars.append(bs.BarEvent(event.when, coins))
    for name, digits in DIGITS.items():
        dispatcher = bs.backtesting_dispatcher()
        exchange = Exchange(
            dispatcher,
            {"BTC": Decimal("10.12345678"), "BNB": Decimal(1)},
            liquidity_strategy_factory=liquidity.InfiniteLiquidity,
            fee_strategy=TwoFees() if name == "fine" else fees.Percentage(Decimal("0.1")),
            default_pair_info=digits,
        )
        exchange.add_bar_source(bs.FifoQueueEventSource(events=bars))
        exchange.subscribe_to_bar_events(PAIR, Turning(exchange).on_bar)
        await dispatcher.run()
        await report.add(exchange, digits=name)
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
