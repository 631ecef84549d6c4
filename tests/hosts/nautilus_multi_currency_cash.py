"""A cash account without a base currency: spot crypto, every fill moves two balances.

Buys and sells BTC/USDT and ETH/USDT with eight-digit balances; limit orders that lock money;
a currency the account did not hold at first (ADA, bought with BTC); an order refused for want
of balance.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.currencies import BTC, ETH, USDT
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider

BINANCE = Venue("BINANCE")
BUY, SELL = OrderSide.BUY, OrderSide.SELL


class SpotConfig(StrategyConfig, frozen=True):
    """Which instrument, and what to trade: signed sizes in units of the base currency."""

    traded: InstrumentId
    sizes: tuple[float, ...]
    use_limits: bool = False


class Spot(ScriptedStrategy):
    """Trades its sizes in turn."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {10 + 12 * index: self.trade(size) for index, size in enumerate(self.config.sizes)}

    def instrument_id(self) -> InstrumentId:
        return self.config.traded

    def trade(self, size: float) -> Callable[[], None]:
        def send() -> None:
            side = BUY if size > 0 else SELL
            quantity = self.instrument.make_qty(abs(size))
            if self.config.use_limits:
                quote = self.cache.quote_tick(self.instrument.id)
                price = quote.bid_price if side == BUY else quote.ask_price
                order = self.order_factory.limit(self.instrument.id, side, quantity, price)
            else:
                order = self.order_factory.market(self.instrument.id, side, quantity)
            self.submit_order(order)

        return send


def main() -> None:
    """Run it."""
    engine = quiet_engine("SPOT-001")
    engine.add_venue(
        venue=BINANCE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        starting_balances=[Money(100_000, USDT), Money(1, BTC), Money(5, ETH)],
    )
    plans = [
        (
            TestInstrumentProvider.btcusdt_binance(),
            42_000.0,
            (0.123457, 0.2, -0.3, 90, -0.5),
            False,
        ),
        (TestInstrumentProvider.ethusdt_binance(), 2_300.0, (1.23457, -2.5, 0.77777, -3.1), True),
        (TestInstrumentProvider.adabtc_binance(), 0.0000123, (5_000, 7_777, -6_000), False),
    ]
    for number, (instrument, start, sizes, use_limits) in enumerate(plans):
        engine.add_instrument(instrument)
        prices = walk(140, seed=30 + number, start=start, step=0.002)
        engine.add_data(quotes(instrument, prices, size=50_000))
        config = SpotConfig(
            traded=instrument.id,
            sizes=sizes,
            use_limits=use_limits,
            order_id_tag=instrument.raw_symbol.value,
        )
        engine.add_strategy(Spot(config))
    run_host(engine)


if __name__ == "__main__":
    main()
