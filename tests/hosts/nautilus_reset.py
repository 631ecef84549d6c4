"""One engine used again: a run, `reset`, the same run, then other data and strategies.

The first two runs must come out the same, client order ids included, though they are two
runs; the third adds a strategy. The report has three runs.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import HostReport
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.objects import Quantity


class Scalper(ScriptedStrategy):
    """Goes in and out."""

    def script(self) -> dict[int, Callable[[], None]]:
        steps: dict[int, Callable[[], None]] = {}
        for first in range(10, 180, 20):
            steps[first] = self.go_in
            steps[first + 10] = lambda: self.close_all_positions(self.instrument.id)
        return steps

    def go_in(self) -> None:
        side = OrderSide.BUY if self.seen % 40 == 10 else OrderSide.SELL
        self.publish_signal("turn", self.seen, self.clock.timestamp_ns())
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(150_000))
        )

    def on_reset(self) -> None:
        self.seen = 0


def main() -> None:
    """Run it."""
    engine = quiet_engine("AGAIN-001")
    add_margin_venue(engine)
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(200, seed=7, start=1.08, step=0.0003)))
    engine.add_strategy(Scalper(StrategyConfig(order_id_tag="A")))

    report = HostReport()
    report.watch(engine)
    for _ in range(2):
        engine.run()
        report.add(engine)
        engine.reset()

    engine.clear_data()
    engine.add_data(quotes(instrument, walk(150, seed=8, start=1.12, step=0.0003)))
    engine.add_strategy(Scalper(StrategyConfig(order_id_tag="B")))
    engine.run()
    report.add(engine)
    engine.dispose()
    report.write()


if __name__ == "__main__":
    main()
