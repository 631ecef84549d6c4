"""A strategy that raises in `on_bar`, between two orders of the same handler.

The engine lets the exception through. The script writes the report of what had happened by
then and lets it through as well: the process ends with a traceback and exit status 1. With a
second argument ``caught`` it ends well.
"""

from __future__ import annotations

import sys

from host_market import add_margin_venue, bars, fx, quiet_engine, walk
from host_report import HostReport
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

PAIR = InstrumentId.from_str("EUR/USD.SIM")
BAR_TYPE = BarType.from_str(f"{PAIR}-1-MINUTE-LAST-EXTERNAL")


class TooFewBars(Exception):
    """What the strategy raises."""


class Careless(Strategy):
    """Trades every ten bars, and stumbles over the forty-fifth."""

    def on_start(self) -> None:
        self.seen = 0
        self.subscribe_bars(BAR_TYPE)

    def on_bar(self, bar: Bar) -> None:
        self.seen += 1
        if self.seen % 10 == 0:
            self.buy()
        if self.seen == 45:
            self.publish_signal("stumble", self.seen, bar.ts_event)
            self.buy()
            raise TooFewBars(f"only {self.seen} bars")

    def buy(self) -> None:
        order = self.order_factory.market(PAIR, OrderSide.BUY, Quantity.from_int(50_000))
        self.submit_order(order)


def main() -> None:
    """Run it."""
    engine = quiet_engine("OOPS-001")
    add_margin_venue(engine)
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_data(bars(instrument, BAR_TYPE, walk(400, seed=7, start=1.08, step=0.0002)))
    engine.add_strategy(Careless())
    report = HostReport()
    report.watch(engine)
    try:
        engine.run()
    except TooFewBars as stumble:
        report.add(engine, error=str(stumble))
        report.write()
        if sys.argv[2:] != ["caught"]:
            raise


if __name__ == "__main__":
    main()
