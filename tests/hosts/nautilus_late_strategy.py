"""Strategies that come and go during the run: a controller makes, stops and removes them.

All are of classes made by a function; all trade one instrument at a venue that nets, and
close their positions when they are stopped. The venue sizes such a reduce-only order by the
first open position in the instrument, whoever's it is: some are cut down, and positions stay.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from host_market import add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.common.events import TimeEvent
from nautilus_trader.config import ActorConfig, ImportableControllerConfig, StrategyConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.controller import Controller
from nautilus_trader.trading.strategy import Strategy

PAIR = InstrumentId.from_str("EUR/USD.SIM")


def strategy_class(side: OrderSide, size: int, every: int) -> type[Strategy]:
    """A strategy that adds to its position every so many quotes and closes it at the end."""

    class Accumulate(Strategy):
        def on_start(self) -> None:
            self.seen = 0
            self.subscribe_quote_ticks(PAIR)

        def on_quote_tick(self, tick: QuoteTick) -> None:
            self.seen += 1
            if self.seen % every == 0:
                self.submit_order(self.order_factory.market(PAIR, side, Quantity.from_int(size)))

        def on_stop(self) -> None:
            self.close_all_positions(PAIR)

    return Accumulate


class Director(Controller):
    """Puts strategies on and takes them off by the clock."""

    def __init__(self, trader: Any, config: ActorConfig) -> None:
        super().__init__(trader, config)
        self.made: list[Strategy] = []

    def on_start(self) -> None:
        self.clock.set_timer("scene", timedelta(minutes=30), callback=self.on_scene)

    def on_scene(self, event: TimeEvent) -> None:
        number = len(self.made) + 1
        if number > 4:
            self.clock.cancel_timer("scene")
            self.remove_strategy(self.made[0])
            self.stop_strategy(self.made[1])
            return
        side = OrderSide.BUY if number % 2 else OrderSide.SELL
        strategy = strategy_class(side, 10_000 * number, 7 + number)(
            StrategyConfig(order_id_tag=f"S{number}")
        )
        self.made.append(strategy)
        self.create_strategy(strategy)
        if number == 3:
            self.stop_strategy(self.made[0])


def main() -> None:
    """Run it."""
    director = ImportableControllerConfig(
        controller_path="nautilus_late_strategy:Director",
        config_path="nautilus_trader.config:ActorConfig",
        config={"component_id": "Director"},
    )
    engine = quiet_engine("STAGE-001", controller=director)
    add_margin_venue(engine)
    instrument = fx()
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(240, seed=7, start=1.08, step=0.0002)))
    engine.add_strategy(
        strategy_class(OrderSide.BUY, 20_000, 40)(StrategyConfig(order_id_tag="S0"))
    )
    run_host(engine)


if __name__ == "__main__":
    main()
