"""Three engines of one trader in one process: two alive at once, a third after them.

All are called TWIN-001 and give their orders the same ids. The first two run in turns of one
batch of data each; the third starts when they are gone. Their markets differ.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import HostReport
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.objects import Quantity


class Swing(ScriptedStrategy):
    """Reverses every thirty quotes."""

    def script(self) -> dict[int, Callable[[], None]]:
        return dict.fromkeys(range(10, 300, 30), self.reverse)

    def reverse(self) -> None:
        side = OrderSide.BUY if self.seen % 60 == 10 else OrderSide.SELL
        size = 100_000 if self.seen == 10 else 200_000
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        )


def make(seed: int) -> tuple[BacktestEngine, list[QuoteTick]]:
    """An engine without data yet, and its data."""
    engine = quiet_engine("TWIN-001")
    add_margin_venue(engine)
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_strategy(Swing())
    return engine, quotes(instrument, walk(240, seed=seed, start=1.08, step=0.0003))


def main() -> None:
    """Run it."""
    twins = [make(seed) for seed in (7, 8)]
    reports = [HostReport(), HostReport()]
    for report, (engine, _) in zip(reports, twins, strict=True):
        report.watch(engine)
    for first in range(0, 240, 80):
        for engine, data in twins:
            engine.add_data(data[first : first + 80])
            engine.run(streaming=True)
            engine.clear_data()
    for report, (engine, _) in zip(reports, twins, strict=True):
        engine.end()
        report.add(engine)
        engine.dispose()

    third, data = make(9)
    third.add_data(data)
    late = HostReport()
    late.watch(third)
    third.run()
    late.add(third)
    third.dispose()
    late.runs[:0] = [run for report in reports for run in report.runs]
    late.write()


if __name__ == "__main__":
    main()
