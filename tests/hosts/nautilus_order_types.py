"""Every order type, changed, cancelled, refused, expired: one strategy, EUR/USD quotes.

Market, limit (resting, marketable, post-only that is rejected), stop-market, stop-limit,
market-if-touched, limit-if-touched, market-to-limit, trailing stops; modify price, quantity
and trigger; cancel one, several and all; reduce-only that is rejected; IOC and FOK; GTD that
expires; an order list; a maker's rebate (negative commission); modify and cancel of an order
that is already closed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from host_market import MINUTE_NS, ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes
from host_market import walk as random_walk
from host_report import run_host
from nautilus_trader.core.datetime import unix_nanos_to_dt
from nautilus_trader.model.enums import OrderSide, TimeInForce, TrailingOffsetType, TriggerType
from nautilus_trader.model.instruments import CurrencyPair, Instrument
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.model.orders import Order, OrderList

BUY, SELL = OrderSide.BUY, OrderSide.SELL


class OrderTypes(ScriptedStrategy):
    """Tries them one after the other, and flattens in between."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            5: self.market_round_trip,
            10: self.resting_limits,
            20: self.change_limits,
            30: self.cancel_some,
            35: self.cancel_rest,
            40: self.marketable_limit,
            42: self.post_only_that_crosses,
            44: self.reduce_only_without_position,
            46: self.flatten,
            50: self.stops,
            70: self.tighten_stop,
            110: self.flatten,
            120: self.touched,
            160: self.flatten,
            170: self.market_then_limit,
            175: self.flatten,
            180: self.trailing_stops,
            260: self.flatten,
            270: self.good_till_date,
            300: self.immediate,
            310: self.list_of_orders,
            330: self.touch_closed_order,
            340: self.flatten,
        }

    def price(self, ticks_from_mid: int) -> Price:
        """A price so many ticks above the middle of the last quote."""
        quote = self.cache.quote_tick(self.instrument.id)
        mid = (quote.bid_price.as_double() + quote.ask_price.as_double()) / 2
        return self.instrument.make_price(mid + ticks_from_mid * 0.00001)

    def limit(self, side: OrderSide, ticks: int, size: int = 100_000, **extra: Any) -> Order:
        """A limit order so many ticks above the middle, submitted."""
        order = self.order_factory.limit(
            self.instrument.id, side, Quantity.from_int(size), self.price(ticks), **extra
        )
        self.submit_order(order)
        return order

    def market(self, side: OrderSide, size: int = 100_000, **extra: Any) -> Order:
        """A market order, submitted."""
        order = self.order_factory.market(
            self.instrument.id, side, Quantity.from_int(size), **extra
        )
        self.submit_order(order)
        return order

    def flatten(self) -> None:
        self.cancel_all_orders(self.instrument.id)
        self.close_all_positions(self.instrument.id)

    def market_round_trip(self) -> None:
        self.market(BUY, 120_000)
        self.closed_order = self.market(SELL, 120_000)

    def resting_limits(self) -> None:
        self.resting = [self.limit(BUY, -400 - 10 * level) for level in range(4)]
        self.resting += [self.limit(SELL, 400 + 10 * level, post_only=True) for level in range(4)]

    def change_limits(self) -> None:
        self.modify_order(self.resting[0], price=self.price(-500))
        self.modify_order(self.resting[1], quantity=Quantity.from_int(50_000))
        self.modify_order(
            self.resting[2], quantity=Quantity.from_int(70_000), price=self.price(-510)
        )
        # Same again: the second change meets an order that is already pending an update.
        self.modify_order(self.resting[0], price=self.price(-520))

    def cancel_some(self) -> None:
        self.cancel_order(self.resting[0])
        self.cancel_orders(self.resting[1:3])

    def cancel_rest(self) -> None:
        self.cancel_all_orders(self.instrument.id, order_side=SELL)
        self.cancel_all_orders(self.instrument.id)

    def marketable_limit(self) -> None:
        self.limit(BUY, 50)

    def post_only_that_crosses(self) -> None:
        self.limit(BUY, 50, post_only=True)

    def reduce_only_without_position(self) -> None:
        self.limit(BUY, 100, reduce_only=True)

    def stops(self) -> None:
        quantity = Quantity.from_int(100_000)
        self.tight_stop = self.order_factory.stop_market(
            self.instrument.id, SELL, quantity, self.price(-300)
        )
        self.submit_order(self.tight_stop)
        self.submit_order(
            self.order_factory.stop_limit(
                self.instrument.id, BUY, quantity, self.price(30), self.price(15)
            )
        )
        self.submit_order(
            self.order_factory.stop_limit(
                self.instrument.id, SELL, quantity, self.price(-10), self.price(-15)
            )
        )
        # In the market already, so the venue refuses it.
        self.submit_order(
            self.order_factory.stop_market(self.instrument.id, BUY, quantity, self.price(-50))
        )

    def tighten_stop(self) -> None:
        if self.tight_stop.is_open:
            self.modify_order(self.tight_stop, trigger_price=self.price(-20))

    def touched(self) -> None:
        quantity = Quantity.from_int(80_000)
        self.submit_order(
            self.order_factory.market_if_touched(self.instrument.id, BUY, quantity, self.price(-12))
        )
        self.submit_order(
            self.order_factory.limit_if_touched(
                self.instrument.id, SELL, quantity, self.price(14), self.price(12)
            )
        )

    def market_then_limit(self) -> None:
        self.submit_order(
            self.order_factory.market_to_limit(
                self.instrument.id, BUY, Quantity.from_int(1_500_000)
            )
        )

    def trailing_stops(self) -> None:
        self.market(BUY, 200_000)
        quantity = Quantity.from_int(100_000)
        self.submit_order(
            self.order_factory.trailing_stop_market(
                self.instrument.id,
                SELL,
                quantity,
                trailing_offset=Decimal("0.00030"),
                trailing_offset_type=TrailingOffsetType.PRICE,
                trigger_type=TriggerType.BID_ASK,
                reduce_only=True,
            )
        )
        self.submit_order(
            self.order_factory.trailing_stop_limit(
                self.instrument.id,
                SELL,
                quantity,
                limit_offset=Decimal("0.00010"),
                trailing_offset=Decimal("0.00040"),
                trailing_offset_type=TrailingOffsetType.PRICE,
                trigger_type=TriggerType.BID_ASK,
                reduce_only=True,
            )
        )

    def good_till_date(self) -> None:
        now = unix_nanos_to_dt(self.clock.timestamp_ns())
        for minutes in (5, 12):
            self.limit(
                BUY,
                -600,
                time_in_force=TimeInForce.GTD,
                expire_time=now + timedelta(minutes=minutes),
            )

    def immediate(self) -> None:
        self.limit(BUY, -50, time_in_force=TimeInForce.IOC)
        self.limit(BUY, 50, size=1_300_000, time_in_force=TimeInForce.IOC)
        self.limit(SELL, -50, size=5_000_000, time_in_force=TimeInForce.FOK)

    def list_of_orders(self) -> None:
        quantity = Quantity.from_int(30_000)
        orders = [
            self.order_factory.limit(self.instrument.id, BUY, quantity, self.price(-5)),
            self.order_factory.limit(self.instrument.id, SELL, quantity, self.price(5)),
            self.order_factory.limit(self.instrument.id, BUY, quantity, self.price(-700)),
        ]
        self.submit_order_list(
            OrderList(order_list_id=self.order_factory.generate_order_list_id(), orders=orders)
        )

    def touch_closed_order(self) -> None:
        self.modify_order(self.closed_order, quantity=Quantity.from_int(90_000))
        self.cancel_order(self.closed_order)


def eur_usd_with_rebate() -> Instrument:
    """EUR/USD that pays half a basis point to those who make the market."""
    values = CurrencyPair.to_dict(fx())
    return CurrencyPair.from_dict(values | {"maker_fee": "-0.00005", "taker_fee": "0.00007"})


def main() -> None:
    """Run it."""
    engine = quiet_engine()
    add_margin_venue(engine)
    instrument = eur_usd_with_rebate()
    engine.add_instrument(instrument)
    mids = random_walk(400, seed=7, start=1.08, step=0.0001)
    engine.add_data(quotes(instrument, mids, every_ns=MINUTE_NS))
    engine.add_strategy(OrderTypes())
    run_host(engine)


if __name__ == "__main__":
    main()
