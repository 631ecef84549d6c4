"""Positions side by side in one instrument, run twice by one engine that is reset in between.

Long and short positions are open at once and closed one by one, by an order for the position, by a
call for it, and partly; one stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nautilus_trader.model import OmsType, OrderSide, PositionOpened, Price, Quantity
from rust_engine import (
    SIM,
    ScriptedStrategy,
    add_margin_venue,
    knowledge,
    pair,
    quiet_engine,
    quotes,
    walk,
    write,
)

EURUSD = pair("EUR/USD")


class Hedger(ScriptedStrategy):
    """Opens positions and remembers them."""

    def on_start(self) -> None:
        self.seen = 0
        self.opened: list[Any] = []
        super().on_start()

    def send(self, side: OrderSide, amount: int, position: int | None = None) -> None:
        order = self.order_factory.market(self.instrument.id, side, Quantity.from_int(amount))
        self.submit_order(order, None if position is None else self.opened[position])

    def stop(self) -> None:
        quote = self.cache.quote(self.instrument.id)
        assert quote is not None
        price = Price(quote.bid_price.as_double() - 0.0006, 5)
        self.submit_order(
            self.order_factory.stop_market(
                self.instrument.id, OrderSide.SELL, Quantity.from_int(70_000), price
            ),
            self.opened[2],
        )

    def on_position_opened(self, event: PositionOpened) -> None:
        self.opened.append(event.position_id)

    def script(self) -> dict[int, Callable[[], None]]:
        def close() -> None:
            position = self.cache.position(self.opened[1])
            assert position is not None
            self.close_position(position)

        return {
            3: lambda: self.send(OrderSide.BUY, 100_000),
            6: lambda: self.send(OrderSide.SELL, 50_000),
            9: lambda: self.send(OrderSide.BUY, 70_000),
            12: lambda: self.send(OrderSide.SELL, 60_000, 0),
            15: close,
            18: self.stop,
            40: lambda: self.send(OrderSide.SELL, 30_000),
        }


def main() -> None:
    """Run it."""
    engine = quiet_engine("HEDGING-001")
    add_margin_venue(engine, oms_type=OmsType.HEDGING)
    engine.add_instrument(EURUSD)
    engine.add_data(quotes(EURUSD, walk(120, seed=5, start=1.1, step=0.0004)))
    engine.add_strategy(Hedger(EURUSD, tag="H"))
    runs = []
    for _ in range(2):
        engine.run()
        runs.append(knowledge(engine, [SIM]))
        engine.reset()
    engine.dispose()
    write(*runs)


if __name__ == "__main__":
    main()
