"""NETTING with one account: flips through zero, and two strategies on one instrument.

One strategy turns its position round with a single order, again and again, in odd sizes so
that commissions split unevenly. Another trades against it in the same instrument; a third
adds to and takes from a position before it turns. One ends short.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.objects import Quantity


class PlanConfig(StrategyConfig, frozen=True):
    """Signed market orders in turn, the first at `first`, then every `every` quotes."""

    sizes: tuple[int, ...]
    first: int
    every: int


class Plan(ScriptedStrategy):
    """Sends its market orders by the plan: a positive size buys."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            self.config.first + index * self.config.every: self.step(size)
            for index, size in enumerate(self.config.sizes)
        }

    def step(self, size: int) -> Callable[[], None]:
        def send() -> None:
            side = OrderSide.BUY if size > 0 else OrderSide.SELL
            self.submit_order(
                self.order_factory.market(self.instrument.id, side, Quantity.from_int(abs(size)))
            )

        return send


class Flipper(Plan):
    """Turns its position round."""


class Contrary(Plan):
    """Does the opposite at the same quotes."""


class Pyramid(Plan):
    """Builds a position, takes from it, then turns it round."""


def main() -> None:
    """Run it."""
    engine = quiet_engine("FLIPS-001")
    add_margin_venue(engine)
    instrument = fx("AUD/USD")
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(300, seed=7, start=0.65, step=0.0008)))
    engine.add_strategy(
        Flipper(PlanConfig(sizes=(100_003, -233_331, 171_717, -99_999, 161_000), first=5, every=30))
    )
    engine.add_strategy(
        Contrary(PlanConfig(sizes=(-100_003, 233_331, -171_717, 99_999), first=5, every=30))
    )
    engine.add_strategy(
        Pyramid(
            PlanConfig(
                sizes=(33_337, 44_441, 55_557, -22_223, -12_345, -200_001, 50_021, -7_001),
                first=10,
                every=25,
            )
        )
    )
    run_host(engine)


if __name__ == "__main__":
    main()
