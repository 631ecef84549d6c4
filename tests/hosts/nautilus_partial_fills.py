"""Orders larger than the market: many fills an order, at several prices.

Quotes with a small size on the touch; a book with three levels; bars and trades that carry
little volume; slippage and missed limits from a seeded fill model; a bracket whose entry
fills in pieces; a large order that is cut down and cancelled while it is filling.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from host_market import (
    MINUTE_NS,
    MONDAY_NS,
    SECOND_NS,
    ScriptedStrategy,
    add_margin_venue,
    fx,
    quiet_engine,
    quotes,
    trades,
    walk,
)
from host_report import run_host
from nautilus_trader.backtest.models import FillModel
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas
from nautilus_trader.model.enums import (
    BookAction,
    BookType,
    ContingencyType,
    OrderSide,
    OrderType,
    RecordFlag,
)
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

TOUCH, BOOK, TAPE = Venue("TOUCH"), Venue("BOOK"), Venue("TAPE")
BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Oversized(ScriptedStrategy):
    """Trades against quotes whose size is a fraction of its orders."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            5: lambda: self.limit(BUY, 10, 37_500),
            20: lambda: self.market(SELL, 12_500),
            30: self.bracket,
            120: lambda: self.limit(SELL, -1, 60_000),
            123: self.cut_down,
            126: lambda: self.cancel_all_orders(self.instrument.id),
            150: lambda: self.limit(BUY, -3, 45_000),
            220: lambda: self.cancel_all_orders(self.instrument.id),
            225: lambda: self.close_all_positions(self.instrument.id),
        }

    def instrument_id(self) -> InstrumentId:
        return InstrumentId.from_str("EUR/USD.TOUCH")

    def price(self, ticks: int) -> Any:
        quote = self.cache.quote_tick(self.instrument.id)
        return self.instrument.make_price(quote.bid_price.as_double() + ticks * 0.00001)

    def limit(self, side: OrderSide, ticks: int, size: int) -> None:
        self.working = self.order_factory.limit(
            self.instrument.id, side, Quantity.from_int(size), self.price(ticks)
        )
        self.submit_order(self.working)

    def market(self, side: OrderSide, size: int) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        )

    def cut_down(self) -> None:
        if self.working.is_open:
            smaller = self.working.filled_qty.as_double() + 5_000
            self.modify_order(self.working, quantity=self.instrument.make_qty(smaller))

    def bracket(self) -> None:
        self.submit_order_list(
            self.order_factory.bracket(
                instrument_id=self.instrument.id,
                order_side=BUY,
                quantity=Quantity.from_int(33_333),
                contingency_type=ContingencyType.OUO,
                entry_order_type=OrderType.LIMIT,
                entry_price=self.price(4),
                sl_trigger_price=self.price(-120),
                tp_price=self.price(60),
                tp_post_only=False,
            )
        )


class BookSweeper(Strategy):
    """Takes several levels of a book at once."""

    def on_start(self) -> None:
        self.instrument = self.cache.instrument(InstrumentId.from_str("EUR/USD.BOOK"))
        self.seen = 0
        self.subscribe_order_book_deltas(self.instrument.id, BookType.L2_MBP)

    def on_order_book_deltas(self, deltas: OrderBookDeltas) -> None:
        self.seen += 1
        if self.seen % 10 == 5:
            side = BUY if self.seen % 20 == 5 else SELL
            size = Quantity.from_int(24_000 + 100 * self.seen)
            self.submit_order(self.order_factory.market(self.instrument.id, side, size))


class TapeReader(ScriptedStrategy):
    """Rests a limit where a thin tape of trades runs through it."""

    def on_start(self) -> None:
        self.instrument = self.cache.instrument(InstrumentId.from_str("EUR/USD.TAPE"))
        self.seen = 0
        self.subscribe_trade_ticks(self.instrument.id)

    def on_trade_tick(self, tick: Any) -> None:
        self.seen += 1
        if self.seen % 60 == 10:
            side = BUY if self.seen % 120 == 10 else SELL
            self.cancel_all_orders(self.instrument.id)
            self.submit_order(
                self.order_factory.limit(
                    self.instrument.id, side, Quantity.from_int(9_000), tick.price
                )
            )


def book_updates(instrument: Instrument, mids: list[float]) -> list[OrderBookDeltas]:
    """A fresh book of three levels a side for every price."""
    random = Random(11)
    result = []
    for index, mid in enumerate(mids):
        now = MONDAY_NS + index * MINUTE_NS
        deltas = [OrderBookDelta.clear(instrument.id, index, now, now)]
        for level in range(3):
            for side, sign in ((BUY, -1), (SELL, 1)):
                order = BookOrder(
                    side=side,
                    price=instrument.make_price(mid + sign * 0.00001 * (1 + 2 * level)),
                    size=instrument.make_qty(random.randrange(5_000, 12_000)),
                    order_id=0,
                )
                is_last = level == 2 and side == SELL
                flags = RecordFlag.F_LAST if is_last else 0
                deltas.append(
                    OrderBookDelta(instrument.id, BookAction.ADD, order, flags, index, now, now)
                )
        result.append(OrderBookDeltas(instrument.id, deltas))
    return result


def main() -> None:
    """Run it."""
    engine = quiet_engine("PARTS-001")
    add_margin_venue(engine, BOOK, book_type=BookType.L2_MBP)
    add_margin_venue(engine, TAPE, trade_execution=True)
    # Every fill model seeds the global generator, those the engine makes for a venue without
    # one with a random seed. So this one is made last.
    chance = FillModel(prob_fill_on_limit=0.4, prob_slippage=0.5, random_seed=42)
    add_margin_venue(engine, TOUCH, fill_model=chance)
    touch, book, tape = (fx("EUR/USD", venue) for venue in (TOUCH, BOOK, TAPE))
    for instrument in (touch, book, tape):
        engine.add_instrument(instrument)
    engine.add_data(quotes(touch, walk(240, seed=7, start=1.1, step=0.00008), size=10_000))
    engine.add_data(book_updates(book, walk(120, seed=8, start=1.1, step=0.0001)))
    tape_prices = walk(600, seed=9, start=1.1, step=0.00002)
    engine.add_data(trades(tape, tape_prices, size=2_500, every_ns=10 * SECOND_NS))
    engine.add_strategy(Oversized(StrategyConfig(order_id_tag="TOUCH")))
    engine.add_strategy(BookSweeper(StrategyConfig(order_id_tag="BOOK")))
    engine.add_strategy(TapeReader(StrategyConfig(order_id_tag="TAPE")))
    run_host(engine)


if __name__ == "__main__":
    main()
