"""Netted books in two currencies, on synthetic quotes: nearly everything an order can go through.

Two strategies trade one pair against each other, a third another pair whose profit is in yen. There
are partial fills, flips through zero, changes, cancellations by hand and by all, a refused and a
denied order, an order that expires, timers of both sorts, an error in the user's code, positions
closed by a call, by an order from `on_stop`, and left open.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nautilus_trader.common import TimeEvent
from nautilus_trader.model import (
    Currency,
    InstrumentId,
    Money,
    OrderFilled,
    OrderSide,
    Price,
    Quantity,
    TimeInForce,
)
from rust_engine import (
    MINUTE_NS,
    MONDAY_NS,
    SIM,
    USD,
    ScriptedStrategy,
    add_margin_venue,
    pair,
    quiet_engine,
    quotes,
    run_host,
    walk,
)

EURUSD = pair("EUR/USD")
USDJPY = pair("USD/JPY", 3)


class Trader(ScriptedStrategy):
    """Has the orders that both strategies of the pair use."""

    last: Any = None

    def market(self, side: str, amount: int) -> Callable[[], None]:
        def send() -> None:
            self.submit_order(
                self.order_factory.market(
                    self.instrument.id, OrderSide.from_str(side), Quantity.from_int(amount)
                )
            )

        return send

    def limit(self, side: str, amount: int, away: float, **more: Any) -> Callable[[], None]:
        def send() -> None:
            quote = self.cache.quote(self.instrument.id)
            assert quote is not None
            price = Price(quote.bid_price.as_double() + away, self.instrument.price_precision)
            order = self.order_factory.limit(
                self.instrument.id,
                OrderSide.from_str(side),
                Quantity.from_int(amount),
                price,
                **more,
            )
            self.last = order.client_order_id
            self.submit_order(order)

        return send


class Flips(Trader):
    """Goes from long to short and back, with more than the quotes have at once."""

    def script(self) -> dict[int, Callable[[], None]]:
        def signalled() -> None:
            self.publish_signal("turn", 0.75)
            self.market("SELL", 500_000)()

        def fails() -> None:
            self.market("BUY", 10_000)()
            raise ValueError("the strategy's own error")

        return {
            5: self.market("BUY", 300_000),
            10: signalled,
            15: self.market("BUY", 1_400_000),
            20: lambda: self.close_all_positions(self.instrument.id),
            25: self.limit("SELL", 700_000, 0.0001),
            60: lambda: self.cancel_all_orders(self.instrument.id),
            70: fails,
        }


class Changes(Trader):
    """Changes and cancels orders, has some refused, and is called by the clock."""

    def on_start(self) -> None:
        super().on_start()
        self.clock.set_timer("hourly", timedelta(hours=1), callback=self.on_hour)
        self.clock.set_time_alert_ns("late", MONDAY_NS + 150 * MINUTE_NS)

    def script(self) -> dict[int, Callable[[], None]]:
        def change() -> None:
            quote = self.cache.quote(self.instrument.id)
            assert quote is not None
            self.modify_order(self.last, quantity=Quantity.from_int(60_000), price=quote.ask_price)

        def unknown() -> None:
            nowhere = InstrumentId.from_str("XXX/USD.SIM")
            self.submit_order(
                self.order_factory.market(nowhere, OrderSide.BUY, Quantity.from_int(1))
            )

        return {
            7: self.limit("BUY", 50_000, -0.01),
            12: change,
            18: self.limit("BUY", 50_000, -0.01),
            22: lambda: self.cancel_order(self.last),
            26: self.limit("BUY", 50_000, 0.01, post_only=True),
            30: unknown,
            33: self.limit(
                "SELL", 40_000, 0.05,
                time_in_force=TimeInForce.GTD, expire_time=MONDAY_NS + 50 * MINUTE_NS,
            ),
        }  # fmt: skip

    def on_hour(self, event: TimeEvent) -> None:
        self.market("SELL", 20_000)()

    def on_time_event(self, event: TimeEvent) -> None:
        self.market("BUY", 15_000)()

    def on_order_filled(self, event: OrderFilled) -> None:
        if event.last_qty == Quantity.from_int(15_000):
            self.market("BUY", 5_000)()  # from the handling of a fill

    def on_stop(self) -> None:
        self.close_all_positions(self.instrument.id)


class Yen(Trader):
    """Holds a short position to the end."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {4: self.market("BUY", 200_000), 50: self.market("SELL", 350_000)}


def main() -> None:
    """Run it."""
    engine = quiet_engine("NETTING-001")
    yen = Currency.from_str("JPY")
    add_margin_venue(
        engine,
        base_currency=None,
        starting_balances=[Money(1_000_000, USD), Money(50_000_000, yen)],
    )
    for instrument, seed, start in ((EURUSD, 11, 1.1), (USDJPY, 12, 141.0)):
        engine.add_instrument(instrument)
        prices = walk(240, seed=seed, start=start, step=0.0004)
        engine.add_data(quotes(instrument, prices, size=400_000))
    engine.add_strategy(Flips(EURUSD, tag="A"))
    engine.add_strategy(Changes(EURUSD, tag="B"))
    engine.add_strategy(Yen(USDJPY, tag="C"))
    run_host(engine, SIM)


if __name__ == "__main__":
    main()
