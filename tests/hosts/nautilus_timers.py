"""Orders that no market data caused: timers, alerts, the start and the stop of a strategy.

A timer submits and cancels orders, a one-off alert turns the position round, `on_start`
already trades on the first price, and `on_stop` cancels everything and closes the position.
The instrument is a futures contract with a multiplier of 50 and a fee per contract.
"""

from __future__ import annotations

from datetime import timedelta

from host_market import MONDAY_NS, SECOND_NS, add_margin_venue, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.backtest.models import PerContractFeeModel
from nautilus_trader.common.events import TimeEvent
from nautilus_trader.core.datetime import unix_nanos_to_dt
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AssetClass, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import FuturesContract, Instrument
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

GLBX = Venue("GLBX")
DAY_NS = 86_400 * SECOND_NS


class Clockwork(Strategy):
    """Trades by the clock."""

    def on_start(self) -> None:
        self.instrument = self.cache.instruments()[0]
        self.seen = 0
        self.rounds = 0
        self.subscribe_quote_ticks(self.instrument.id)
        # There is no market yet: the order waits at the venue for the first quote.
        self.buy(1)
        self.clock.set_timer("rebalance", timedelta(minutes=7), callback=self.on_rebalance)
        self.clock.set_timer("heartbeat", timedelta(seconds=45))
        self.clock.set_time_alert(
            "turn round",
            unix_nanos_to_dt(MONDAY_NS + 3_000 * SECOND_NS),
            callback=self.on_turn_round,
        )

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self.seen += 1
        if self.seen == 1:
            self.buy(2)

    def on_event(self, event: object) -> None:
        # A timer without a callback of its own arrives here.
        if isinstance(event, TimeEvent) and self.clock.timestamp_ns() % (600 * SECOND_NS) == 0:
            self.buy(1)

    def on_rebalance(self, event: TimeEvent) -> None:
        self.rounds += 1
        self.cancel_all_orders(self.instrument.id)
        quote = self.cache.quote_tick(self.instrument.id)
        for side, price, sign in (
            (OrderSide.BUY, quote.bid_price, -1),
            (OrderSide.SELL, quote.ask_price, 1),
        ):
            level = price.as_double() + sign * (4 + self.rounds % 3)
            self.submit_order(
                self.order_factory.limit(
                    self.instrument.id,
                    side,
                    Quantity.from_int(1 + self.rounds % 2),
                    self.instrument.make_price(level),
                )
            )

    def on_turn_round(self, event: TimeEvent) -> None:
        self.clock.cancel_timer("heartbeat")
        position = self.cache.positions_open(strategy_id=self.id)[0]
        side = OrderSide.SELL if position.is_long else OrderSide.BUY
        quantity = Quantity.from_int(2 * int(position.quantity))
        self.submit_order(self.order_factory.market(self.instrument.id, side, quantity))

    def buy(self, contracts: int) -> None:
        self.submit_order(
            self.order_factory.market(
                self.instrument.id, OrderSide.BUY, Quantity.from_int(contracts)
            )
        )

    def on_stop(self) -> None:
        self.cancel_all_orders(self.instrument.id)
        self.close_all_positions(self.instrument.id)


def march_future() -> Instrument:
    """Fifty dollars a point, a quarter of a point a tick."""
    return FuturesContract(
        instrument_id=InstrumentId(Symbol("ESH4"), GLBX),
        raw_symbol=Symbol("ESH4"),
        asset_class=AssetClass.INDEX,
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.25"),
        multiplier=Quantity.from_int(50),
        lot_size=Quantity.from_int(1),
        underlying="ES",
        activation_ns=MONDAY_NS - 90 * DAY_NS,
        expiration_ns=MONDAY_NS + 74 * DAY_NS,
        ts_event=0,
        ts_init=0,
    )


def main() -> None:
    """Run it."""
    engine = quiet_engine("CLOCK-001")
    add_margin_venue(engine, GLBX, fee_model=PerContractFeeModel(Money(2.10, USD)))
    instrument = march_future()
    engine.add_instrument(instrument)
    prices = walk(600, seed=7, start=4_800.0, step=0.0003)
    engine.add_data(quotes(instrument, prices, size=50, every_ns=10 * SECOND_NS))
    engine.add_strategy(Clockwork())
    run_host(engine)


if __name__ == "__main__":
    main()
