"""Money that moves without a trade: a venue module books interest on the account every hour.

The balance changes by more than the fills explain; each booking is an account event of its
own that no order caused. Two positions are held through it, one is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from host_market import (
    MINUTE_NS,
    ScriptedStrategy,
    add_margin_venue,
    fx,
    quiet_engine,
    quotes,
    walk,
)
from host_report import run_host
from nautilus_trader.backtest.config import SimulationModuleConfig
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import OmsType, OrderSide
from nautilus_trader.model.objects import Money, Quantity

HOUR_NS = 60 * MINUTE_NS


class HourlyInterest(SimulationModule):
    """Takes a dollar and a cent for every open position, every hour."""

    def __init__(self) -> None:
        super().__init__(SimulationModuleConfig())
        self.last_hour = 0

    def process(self, ts_now: int) -> None:
        hour = ts_now // HOUR_NS
        if hour > self.last_hour:
            held = len(self.cache.positions_open()) if self.last_hour else 0
            self.last_hour = hour
            if held:
                self.exchange.adjust_account(Money(-1.01 * held, USD))

    def log_diagnostics(self, logger: Any) -> None:
        """Nothing to say."""

    def reset(self) -> None:
        self.last_hour = 0


class Holder(ScriptedStrategy):
    """Holds what it buys."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            20: lambda: self.market(OrderSide.BUY, 100_000),
            90: lambda: self.market(OrderSide.SELL, 60_000),
            200: self.close_first,
        }

    def market(self, side: OrderSide, size: int) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        )

    def close_first(self) -> None:
        self.close_position(self.cache.positions_open(strategy_id=self.id)[0])


def main() -> None:
    """Run it."""
    engine = quiet_engine("INTEREST-001")
    add_margin_venue(engine, oms_type=OmsType.HEDGING, modules=[HourlyInterest()])
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(300, seed=7, start=1.08, step=0.0002)))
    engine.add_strategy(Holder())
    run_host(engine)


if __name__ == "__main__":
    main()
