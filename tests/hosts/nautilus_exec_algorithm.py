"""Large orders worked by an execution algorithm: TWAP, from the engine's own examples.

The parent order goes to the algorithm, which spawns children by a timer and submits the
parent last. Two run side by side, one to buy and one to sell; a third is cancelled half-way;
a fourth algorithm, made here, spawns limit orders and cuts them off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from host_market import SECOND_NS, ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes
from host_market import walk as random_walk
from host_report import run_host
from nautilus_trader.config import ExecAlgorithmConfig
from nautilus_trader.examples.algorithms.twap import TWAPExecAlgorithm
from nautilus_trader.execution.algorithm import ExecAlgorithm
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import ExecAlgorithmId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order

BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Iceberg(ExecAlgorithm):
    """Shows a quarter of a limit order at a time."""

    def __init__(self) -> None:
        super().__init__(ExecAlgorithmConfig(exec_algorithm_id=ExecAlgorithmId("ICEBERG")))

    def on_order(self, order: Order) -> None:
        quarter = Quantity.from_int(int(order.quantity) // 4)
        for tenths_of_a_pip in range(3):
            price = order.price.as_double() - tenths_of_a_pip * 0.00001
            child = self.spawn_limit(
                primary=order,
                quantity=quarter,
                price=self.cache.instrument(order.instrument_id).make_price(price),
                time_in_force=order.time_in_force,
            )
            self.submit_order(child)
        self.submit_order(order)


class Whale(ScriptedStrategy):
    """Sends orders too large to show."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            10: lambda: self.twap(BUY, 600_000, 60, 5),
            20: lambda: self.twap(SELL, 250_001, 40, 10),
            100: lambda: self.twap(BUY, 900_000, 120, 10),
            130: self.give_up,
            200: self.iceberg,
            230: lambda: self.cancel_all_orders(self.instrument.id),
            240: lambda: self.close_all_positions(self.instrument.id),
        }

    def twap(self, side: OrderSide, size: int, horizon: float, interval: float) -> None:
        self.worked = self.market(
            side, size, "TWAP", {"horizon_secs": horizon, "interval_secs": interval}
        )
        self.submit_order(self.worked)

    def market(self, side: OrderSide, size: int, algorithm: str, params: dict[str, Any]) -> Order:
        return self.order_factory.market(
            self.instrument.id,
            side,
            Quantity.from_int(size),
            exec_algorithm_id=ExecAlgorithmId(algorithm),
            exec_algorithm_params=params,
        )

    def give_up(self) -> None:
        self.cancel_order(self.worked)

    def iceberg(self) -> None:
        self.submit_order(
            self.order_factory.limit(
                self.instrument.id,
                SELL,
                Quantity.from_int(400_000),
                self.cache.quote_tick(self.instrument.id).ask_price,
                exec_algorithm_id=ExecAlgorithmId("ICEBERG"),
            )
        )


def main() -> None:
    """Run it."""
    engine = quiet_engine("WHALE-001")
    add_margin_venue(engine)
    instrument = fx()
    engine.add_instrument(instrument)
    mids = random_walk(300, seed=7, start=1.08, step=0.00005)
    engine.add_data(quotes(instrument, mids, every_ns=2 * SECOND_NS))
    engine.add_exec_algorithm(TWAPExecAlgorithm())
    engine.add_exec_algorithm(Iceberg())
    engine.add_strategy(Whale())
    run_host(engine)


if __name__ == "__main__":
    main()
