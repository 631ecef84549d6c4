"""HEDGING: several positions of one strategy in one instrument at the same time.

Long and short at once, each with its own exit; partial closes by position id; positions
named by the venue for one strategy, and virtual ones that the engine names for another
(which asks for HEDGING itself) and flips; everything closed at the end but one. A third
leaves orders that only reduce, which the venue cuts down and cancels with the position.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from host_market import (
    SIM,
    ScriptedStrategy,
    add_margin_venue,
    fx,
    quiet_engine,
    quotes,
    walk,
)
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import (
    OmsType,
    OrderSide,
    OrderType,
    TrailingOffsetType,
    TriggerType,
)
from nautilus_trader.model.identifiers import InstrumentId, PositionId, Venue
from nautilus_trader.model.objects import Quantity

NETTING_VENUE = Venue("NET")
BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Hedged(ScriptedStrategy):
    """Holds both sides."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            10: lambda: self.market(BUY, 100_000),
            20: lambda: self.market(SELL, 60_000),
            30: lambda: self.market(BUY, 40_000),
            40: self.bracket,
            60: lambda: self.reduce(0, 30_000),
            80: lambda: self.reduce(0, 70_000),
            100: lambda: self.reduce(0, 60_000),
            120: lambda: self.market(SELL, 25_000),
            # More than the position: what is left over opens a new one.
            140: lambda: self.reduce(0, 90_000, only=False),
        }

    def instrument_id(self) -> InstrumentId:
        return InstrumentId.from_str("GBP/USD.SIM")

    def market(self, side: OrderSide, size: int, **extra: Any) -> None:
        order = self.order_factory.market(
            self.instrument.id, side, Quantity.from_int(size), **extra
        )
        self.submit_order(order)

    def bracket(self) -> None:
        bid = self.cache.quote_tick(self.instrument.id).bid_price.as_double()
        self.submit_order_list(
            self.order_factory.bracket(
                instrument_id=self.instrument.id,
                order_side=SELL,
                quantity=Quantity.from_int(35_000),
                entry_order_type=OrderType.MARKET,
                sl_trigger_price=self.instrument.make_price(bid * 1.002),
                tp_price=self.instrument.make_price(bid * 0.998),
            )
        )

    def reduce(self, index: int, size: int, *, only: bool = True) -> None:
        """Trade against the oldest positions that are open."""
        position = self.cache.positions_open(strategy_id=self.id)[index]
        side = SELL if position.is_long else BUY
        order = self.order_factory.market(
            self.instrument.id, side, Quantity.from_int(size), reduce_only=only
        )
        self.submit_order(order, position_id=position.id)


class Virtual(ScriptedStrategy):
    """Asks for HEDGING on a venue that nets, names a position itself, and flips."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            15: lambda: self.market(BUY, 50_000, None),
            25: lambda: self.market(BUY, 20_000, None),
            35: lambda: self.market(SELL, 45_000, PositionId("P-MINE")),
            95: lambda: self.market(BUY, 65_000, PositionId("P-MINE")),
            150: self.flip_first,
            200: lambda: self.close_all_positions(self.instrument.id),
        }

    def instrument_id(self) -> InstrumentId:
        return InstrumentId.from_str("GBP/USD.NET")

    def market(self, side: OrderSide, size: int, position_id: PositionId | None) -> None:
        order = self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        self.submit_order(order, position_id=position_id)

    def flip_first(self) -> None:
        position = self.cache.positions_open(strategy_id=self.id)[0]
        self.market(SELL if position.is_long else BUY, 80_000, position.id)


class Leaver(ScriptedStrategy):
    """Protects one of two positions by orders that only reduce, and takes it down by others."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            40: lambda: self.market(BUY, 10_000),
            41: self.protect,
            44: lambda: self.market(BUY, 5_000),
            48: lambda: self.market(SELL, 3_000, self.protected),
            110: lambda: self.market(SELL, 7_000, self.protected),
        }

    def instrument_id(self) -> InstrumentId:
        return InstrumentId.from_str("GBP/USD.SIM")

    def market(self, side: OrderSide, size: int, position_id: PositionId | None = None) -> None:
        order = self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        self.submit_order(order, position_id=position_id)

    def protect(self) -> None:
        make, instrument = self.order_factory, self.instrument
        bid = self.cache.quote_tick(instrument.id).bid_price.as_double()
        common: tuple[Any, ...] = instrument.id, SELL, Quantity.from_int(10_000)
        (position,) = self.cache.positions_open(strategy_id=self.id)
        self.protected = position.id
        for order in (
            make.limit(*common, instrument.make_price(bid * 1.1), reduce_only=True),
            make.stop_market(*common, instrument.make_price(bid * 0.9), reduce_only=True),
            make.trailing_stop_market(
                *common,
                trailing_offset=Decimal("0.10000"),
                trailing_offset_type=TrailingOffsetType.PRICE,
                trigger_type=TriggerType.BID_ASK,
                reduce_only=True,
            ),
        ):
            self.submit_order(order, position_id=position.id)


def main() -> None:
    """Run it."""
    engine = quiet_engine("HEDGE-001")
    add_margin_venue(engine, SIM, oms_type=OmsType.HEDGING)
    add_margin_venue(engine, NETTING_VENUE)
    for venue, seed in ((SIM, 7), (NETTING_VENUE, 8)):
        instrument = fx("GBP/USD", venue)
        engine.add_instrument(instrument)
        engine.add_data(quotes(instrument, walk(260, seed=seed, start=1.27, step=0.0006)))
    engine.add_strategy(Hedged(StrategyConfig()))
    engine.add_strategy(Virtual(StrategyConfig(oms_type="HEDGING")))
    engine.add_strategy(Leaver(StrategyConfig()))
    run_host(engine)


if __name__ == "__main__":
    main()
