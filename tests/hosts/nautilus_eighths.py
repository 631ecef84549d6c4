"""Prices in eighths of a dollar: profits that end in half a cent show where the engine rounds.

A share's eighth is 12.5 cents, so an odd number of shares often earns half a cent. The
account rounds the profit of each fill, half away from zero, and then takes the commission
off; a position rounds its running total, commission included. So the strategies' realized
P&L and the change of the balance are some cents apart, and both are the engine's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from host_market import ScriptedStrategy, add_margin_venue, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity, Instrument
from nautilus_trader.model.objects import Price, Quantity

XNYS = Venue("XNYS")


class PiecemealConfig(StrategyConfig, frozen=True):
    """The side to open on, and the size of a piece."""

    opens: OrderSide
    piece: int


class Piecemeal(ScriptedStrategy):
    """Opens five pieces at once and closes them one by one, over and over."""

    def script(self) -> dict[int, Callable[[], None]]:
        opens = self.config.opens
        closes = OrderSide.SELL if opens == OrderSide.BUY else OrderSide.BUY
        steps: dict[int, Callable[[], None]] = {}
        for first in range(3, 480, 12):
            steps[first] = self.send(opens, 5)
            for number in range(5):
                steps[first + 2 + 2 * number] = self.send(closes, 1)
        return steps

    def send(self, side: OrderSide, pieces: int) -> Callable[[], None]:
        def submit() -> None:
            quantity = Quantity.from_int(pieces * self.config.piece)
            self.submit_order(self.order_factory.market(self.instrument.id, side, quantity))

        return submit


def old_stock() -> Instrument:
    """A stock quoted as they were in the twentieth century."""
    return Equity(
        instrument_id=InstrumentId(Symbol("OLD"), XNYS),
        raw_symbol=Symbol("OLD"),
        currency=USD,
        price_precision=3,
        price_increment=Price.from_str("0.125"),
        lot_size=Quantity.from_int(1),
        taker_fee=Decimal("0.0011"),
        ts_event=0,
        ts_init=0,
    )


def main() -> None:
    """Run it."""
    engine = quiet_engine("EIGHTHS-001")
    add_margin_venue(engine, XNYS)
    instrument = old_stock()
    engine.add_instrument(instrument)
    mids = [round(price * 8) / 8 for price in walk(500, seed=7, start=87.5, step=0.01)]
    engine.add_data(quotes(instrument, mids, size=100_000))
    for opens, piece in ((OrderSide.BUY, 7), (OrderSide.SELL, 13)):
        engine.add_strategy(
            Piecemeal(PiecemealConfig(opens=opens, piece=piece, order_id_tag=opens.name))
        )
    run_host(engine)


if __name__ == "__main__":
    main()
