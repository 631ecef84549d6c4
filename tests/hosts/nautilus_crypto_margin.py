"""Margin without a base currency: an inverse perpetual in bitcoin beside a linear one in USDT.

Profit and commission of XBTUSD are in BTC and go with 1/price; makers are paid a rebate.
The account's balances have eight digits. Positions are built, taken from, flipped and left.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider

BUY, SELL = OrderSide.BUY, OrderSide.SELL


class PerpsConfig(StrategyConfig, frozen=True):
    """Which instrument, and the signed sizes to trade; every third as a resting limit."""

    traded: InstrumentId
    sizes: tuple[float, ...]


class Perps(ScriptedStrategy):
    """Trades its sizes in turn."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            10 + 15 * index: self.trade(size, resting=index % 3 == 2)
            for index, size in enumerate(self.config.sizes)
        }

    def instrument_id(self) -> InstrumentId:
        return self.config.traded

    def trade(self, size: float, *, resting: bool) -> Callable[[], None]:
        def send() -> None:
            side = BUY if size > 0 else SELL
            quantity = self.instrument.make_qty(abs(size))
            if resting:
                quote = self.cache.quote_tick(self.instrument.id)
                price = quote.bid_price if side == BUY else quote.ask_price
                order = self.order_factory.limit(self.instrument.id, side, quantity, price)
            else:
                order = self.order_factory.market(self.instrument.id, side, quantity)
            self.submit_order(order)

        return send


def main() -> None:
    """Run it."""
    engine = quiet_engine("PERPS-001")
    plans = [
        (
            TestInstrumentProvider.xbtusd_bitmex(),
            [Money(10, BTC)],
            42_000.0,
            (25_000, 12_345, -7_777, -50_001, 33_333, 40_000, -11_111),
        ),
        (
            TestInstrumentProvider.btcusdt_perp_binance(),
            [Money(250_000, USDT)],
            42_000.0,
            (1.234, 0.777, -0.567, -2.345, 1.001, 0.6, -0.1),
        ),
    ]
    for number, (instrument, balances, start, sizes) in enumerate(plans):
        venue: Venue = instrument.id.venue
        engine.add_venue(
            venue=venue,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            starting_balances=balances,
        )
        engine.add_instrument(instrument)
        prices = walk(140, seed=40 + number, start=start, step=0.0012)
        engine.add_data(quotes(instrument, prices, size=1_000_000 if number == 0 else 100))
        config = PerpsConfig(traded=instrument.id, sizes=sizes, order_id_tag=venue.value)
        engine.add_strategy(Perps(config))
    run_host(engine)


if __name__ == "__main__":
    main()
