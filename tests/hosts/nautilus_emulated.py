"""Orders that the engine holds itself and releases when their trigger is met.

Emulated stop, limit, stop-limit, trailing stop and a whole emulated bracket; one changed
and one cancelled while held; GTD orders whose expiry the strategy manages.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from host_market import ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.core.datetime import unix_nanos_to_dt
from nautilus_trader.model.enums import (
    OrderSide,
    OrderType,
    TimeInForce,
    TrailingOffsetType,
    TriggerType,
)
from nautilus_trader.model.objects import Price, Quantity

BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Emulated(ScriptedStrategy):
    """Submits one after the other."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            5: self.stops_and_limits,
            15: self.change_one,
            20: self.cancel_one,
            90: self.flatten,
            100: self.trailing,
            180: self.flatten,
            190: self.bracket,
            290: self.flatten,
            300: self.good_till_date,
            340: self.flatten,
        }

    def price(self, ticks: int) -> Price:
        bid = self.cache.quote_tick(self.instrument.id).bid_price.as_double()
        return self.instrument.make_price(bid + ticks * 0.00001)

    def extra(self) -> dict[str, Any]:
        return {"emulation_trigger": TriggerType.BID_ASK}

    def stops_and_limits(self) -> None:
        size, pair = Quantity.from_int(70_000), self.instrument.id
        factory, extra = self.order_factory, self.extra()
        self.stop_buy = factory.stop_market(pair, BUY, size, self.price(25), **extra)
        self.far_limit = factory.limit(pair, SELL, size, self.price(500), **extra)
        for order in (
            self.stop_buy,
            self.far_limit,
            factory.limit(pair, BUY, size, self.price(-20), **extra),
            factory.stop_limit(pair, SELL, size, self.price(-32), self.price(-30), **extra),
            factory.market_if_touched(pair, SELL, size, self.price(35), **extra),
        ):
            self.submit_order(order)

    def change_one(self) -> None:
        if not self.stop_buy.is_closed:
            self.modify_order(self.stop_buy, trigger_price=self.price(15))

    def cancel_one(self) -> None:
        self.cancel_order(self.far_limit)

    def trailing(self) -> None:
        size = Quantity.from_int(110_000)
        self.submit_order(self.order_factory.market(self.instrument.id, SELL, size))
        self.submit_order(
            self.order_factory.trailing_stop_market(
                self.instrument.id,
                BUY,
                size,
                trailing_offset=Decimal("0.00025"),
                trailing_offset_type=TrailingOffsetType.PRICE,
                trigger_type=TriggerType.BID_ASK,
                reduce_only=True,
                **self.extra(),
            )
        )

    def bracket(self) -> None:
        self.submit_order_list(
            self.order_factory.bracket(
                instrument_id=self.instrument.id,
                order_side=BUY,
                quantity=Quantity.from_int(90_000),
                entry_order_type=OrderType.LIMIT,
                entry_price=self.price(-3),
                sl_trigger_price=self.price(-60),
                tp_price=self.price(40),
                **self.extra(),
            )
        )

    def good_till_date(self) -> None:
        expires = unix_nanos_to_dt(self.clock.timestamp_ns()) + timedelta(minutes=9)
        for ticks, extra in ((-300, self.extra()), (-310, {})):
            self.submit_order(
                self.order_factory.limit(
                    self.instrument.id,
                    BUY,
                    Quantity.from_int(50_000),
                    self.price(ticks),
                    time_in_force=TimeInForce.GTD,
                    expire_time=expires,
                    **extra,
                )
            )

    def flatten(self) -> None:
        self.cancel_all_orders(self.instrument.id)
        self.close_all_positions(self.instrument.id)


def main() -> None:
    """Run it."""
    engine = quiet_engine("EMUL-001")
    add_margin_venue(engine, support_gtd_orders=False)
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(360, seed=7, start=1.08, step=0.00012)))
    config = StrategyConfig(manage_contingent_orders=True, manage_gtd_expiry=True)
    engine.add_strategy(Emulated(config))
    run_host(engine)


if __name__ == "__main__":
    main()
