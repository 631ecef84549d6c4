"""An execution algorithm that halves orders, an emulated order, a strategy made of a configuration.

The engine makes the latter itself, from the names of its classes.
"""

from __future__ import annotations

from typing import Any

from nautilus_trader.model import (
    ExecAlgorithmId,
    InstrumentId,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    TriggerType,
)
from nautilus_trader.trading import (
    ExecutionAlgorithm,
    ExecutionAlgorithmConfig,
    ImportableStrategyConfig,
    Strategy,
    StrategyConfig,
)
from rust_engine import (
    SIM,
    ScriptedStrategy,
    add_margin_venue,
    named,
    pair,
    quiet_engine,
    quotes,
    run_host,
    walk,
)

EURUSD = pair("EUR/USD")
HALVES = ExecAlgorithmId("HALVES")


class Halves(ExecutionAlgorithm):
    """Sends an order in two halves."""

    def on_order(self, order: Any) -> None:
        half = Quantity.from_int(int(order.quantity.as_double()) // 2)
        for _ in range(2):
            self.submit_order(self.spawn_market(order, half))


class Patient(ScriptedStrategy):
    """Has its orders halved, and waits for a price with the engine's own emulation."""

    def halved(self) -> None:
        self.submit_order(
            self.order_factory.market(
                EURUSD.id, OrderSide.BUY, Quantity.from_int(10_000), exec_algorithm_id=HALVES
            )
        )

    def emulated(self) -> None:
        quote = self.cache.quote(EURUSD.id)
        assert quote is not None
        self.submit_order(
            self.order_factory.limit(
                EURUSD.id,
                OrderSide.BUY,
                Quantity.from_int(10_000),
                Price(quote.bid_price.as_double() - 0.0005, 5),
                emulation_trigger=TriggerType.BID_ASK,
            )
        )

    def script(self) -> dict[int, Any]:
        return {5: self.halved, 9: self.emulated}


class Settings(StrategyConfig):
    """What the engine makes a `Configured` of."""

    def __new__(cls, **_: Any) -> Any:
        return super().__new__(cls, strategy_id=named("C", "Configured").strategy_id)

    def __init__(self, **given: Any) -> None:
        self.amount = given.get("amount", 7_000)


class Configured(Strategy):
    """Buys once."""

    seen = 0

    def on_start(self) -> None:
        self.subscribe_quotes(InstrumentId.from_str("EUR/USD.SIM"))

    def on_quote(self, quote: QuoteTick) -> None:
        self.seen += 1
        if self.seen == 3:
            amount = Quantity.from_int(7_000)
            self.submit_order(self.order_factory.market(EURUSD.id, OrderSide.BUY, amount))


def main() -> None:
    """Run it."""
    engine = quiet_engine("ALGORITHM-001")
    add_margin_venue(engine)
    engine.add_instrument(EURUSD)
    engine.add_data(quotes(EURUSD, walk(60, seed=2, start=1.1, step=0.0004)))
    module = "nautilus2_algorithm"
    engine.add_strategy_from_config(
        ImportableStrategyConfig(f"{module}:Configured", f"{module}:Settings", {"amount": 7_000})
    )
    engine.add_exec_algorithm(Halves(ExecutionAlgorithmConfig(exec_algorithm_id=HALVES)))
    engine.add_strategy(Patient(EURUSD, tag="P"))
    run_host(engine, SIM)


if __name__ == "__main__":
    main()
