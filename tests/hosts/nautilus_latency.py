"""Commands under way: a venue that takes its time, and one that answers at once.

At the slow venue an order is accepted and filled while later quotes are processed, outside
the handler that sent it; changes and cancellations overtake fills and come too late. The
prompt venue has no queue: it fills inside `submit_order`, before the call returns. The
strategy reacts to its own fills, so handlers nest.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import SECOND_NS, ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes
from host_market import walk as random_walk
from host_report import run_host
from nautilus_trader.backtest.models import LatencyModel
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderAccepted, OrderFilled
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order

SLOW, PROMPT = Venue("SLOW"), Venue("PROMPT")
BUY, SELL = OrderSide.BUY, OrderSide.SELL
MILLISECOND_NS = 1_000_000


class ChatterConfig(StrategyConfig, frozen=True):
    """Which instrument to trade."""

    traded: InstrumentId


class Chatter(ScriptedStrategy):
    """Sends orders, and answers every fill of an odd size with an order of an even one."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            10: lambda: self.market(BUY, 50_001),
            20: lambda: self.market(SELL, 70_001),
            30: self.limit_near,
            31: self.move_it,
            32: self.withdraw_it,
            40: self.limit_near,
            41: self.withdraw_it,
            42: self.withdraw_it,
            50: self.both_at_once,
            70: lambda: self.market(BUY, 40_001),
            # Sent so late that the slow venue gets it after the last quote.
            100: lambda: self.market(SELL, 30_001),
        }

    def instrument_id(self) -> InstrumentId:
        return self.config.traded

    def market(self, side: OrderSide, size: int) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        )

    def limit_near(self) -> None:
        self.working: Order = self.order_factory.limit(
            self.instrument.id,
            BUY,
            Quantity.from_int(60_001),
            self.cache.quote_tick(self.instrument.id).bid_price,
        )
        self.submit_order(self.working)

    def move_it(self) -> None:
        price = self.cache.quote_tick(self.instrument.id).ask_price
        self.modify_order(self.working, price=price)

    def withdraw_it(self) -> None:
        self.cancel_order(self.working)

    def both_at_once(self) -> None:
        self.market(BUY, 10_001)
        self.limit_near()
        self.cancel_order(self.working)
        self.market(SELL, 20_001)

    def on_order_accepted(self, event: OrderAccepted) -> None:
        self.publish_signal("accepted", str(event.client_order_id), event.ts_event)

    def on_order_filled(self, event: OrderFilled) -> None:
        size = int(event.last_qty)
        if size % 2:
            opposite = SELL if event.order_side == BUY else BUY
            self.market(opposite, (size - 1) // 2 // 2 * 2)


def main() -> None:
    """Run it."""
    engine = quiet_engine("DELAY-001")
    slow = LatencyModel(
        base_latency_nanos=300 * MILLISECOND_NS,
        insert_latency_nanos=2_500 * MILLISECOND_NS,
        update_latency_nanos=200 * MILLISECOND_NS,
        cancel_latency_nanos=1_700 * MILLISECOND_NS,
    )
    add_margin_venue(engine, SLOW, latency_model=slow)
    add_margin_venue(engine, PROMPT, use_message_queue=False)
    for number, venue in enumerate((SLOW, PROMPT)):
        instrument = fx("EUR/USD", venue)
        engine.add_instrument(instrument)
        mids = random_walk(101, seed=7 + number, start=1.08, step=0.0001)
        engine.add_data(quotes(instrument, mids, every_ns=SECOND_NS))
        config = ChatterConfig(traded=instrument.id, order_id_tag=venue.value)
        engine.add_strategy(Chatter(config))
    run_host(engine)


if __name__ == "__main__":
    main()
