"""One dollar account, instruments that settle in other currencies: every fill converts.

USD/JPY (P&L and commission in yen), GBP/JPY (a cross that needs two rates), EUR/GBP, and
EUR/USD which needs none; plus an account whose base currency is none of those it trades.
"""

from __future__ import annotations

from collections.abc import Callable

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
from nautilus_trader.model.currencies import AUD
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Money, Quantity

ALT = Venue("ALT")

MARKETS = {
    "USD/JPY.SIM": (141.0, 0.0005),
    "GBP/JPY.SIM": (179.5, 0.0006),
    "EUR/GBP.SIM": (0.868, 0.0004),
    "EUR/USD.SIM": (1.1, 0.0004),
    "GBP/USD.SIM": (1.27, 0.0005),
    "USD/JPY.ALT": (141.0, 0.0005),
    "AUD/USD.ALT": (0.68, 0.0006),
}


class RoundTripsConfig(StrategyConfig, frozen=True):
    """Which instrument, and how many units at a time."""

    traded: InstrumentId
    size: int


class RoundTrips(ScriptedStrategy):
    """Buys and sells, in two parts each, now long and now short."""

    def script(self) -> dict[int, Callable[[], None]]:
        size = self.config.size
        plan = (size, size // 3, -size, -(size // 3), -size, size // 2, size - size // 2)
        return {10 + 20 * index: self.trade(signed) for index, signed in enumerate(plan)}

    def instrument_id(self) -> InstrumentId:
        return self.config.traded

    def trade(self, signed: int) -> Callable[[], None]:
        def send() -> None:
            side = OrderSide.BUY if signed > 0 else OrderSide.SELL
            quantity = Quantity.from_int(abs(signed))
            self.submit_order(self.order_factory.market(self.instrument.id, side, quantity))

        return send


def main() -> None:
    """Run it."""
    engine = quiet_engine("WORLD-001")
    add_margin_venue(engine, SIM)
    add_margin_venue(engine, ALT, base_currency=AUD, starting_balances=[Money(500_000, AUD)])
    for number, (name, (start, step)) in enumerate(MARKETS.items()):
        instrument_id = InstrumentId.from_str(name)
        instrument = fx(instrument_id.symbol.value, instrument_id.venue)
        engine.add_instrument(instrument)
        engine.add_data(quotes(instrument, walk(200, seed=20 + number, start=start, step=step)))
        config = RoundTripsConfig(
            traded=instrument_id, size=100_003 + 1_111 * number, order_id_tag=f"{number:03d}"
        )
        engine.add_strategy(RoundTrips(config))
    run_host(engine)


if __name__ == "__main__":
    main()
