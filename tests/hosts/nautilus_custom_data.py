"""Causes at one remove: bars the engine builds, data and signals that actors publish.

Trades become one-minute bars inside the engine, and those become five-minute bars. An actor
publishes a custom data object at every five-minute bar; a second actor turns some of them
into a signal; the strategy trades on the signal, in a handler that saw no market data. A
second strategy trades on the five-minute bars themselves, a third from a bus topic of its own.
"""

from __future__ import annotations

from typing import Any

from host_market import SECOND_NS, add_margin_venue, fx, quiet_engine, trades, walk
from host_report import run_host
from nautilus_trader.common.actor import Actor
from nautilus_trader.config import ActorConfig, StrategyConfig
from nautilus_trader.core.data import Data
from nautilus_trader.model.data import Bar, BarType, DataType
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

PAIR = InstrumentId.from_str("EUR/USD.SIM")
ONE_MINUTE = BarType.from_str(f"{PAIR}-1-MINUTE-LAST-INTERNAL")
FIVE_MINUTES = BarType.from_str(f"{PAIR}-5-MINUTE-LAST-INTERNAL@1-MINUTE-INTERNAL")


class Mood(Data):
    """How the market feels: the change of the last bar in pips."""

    def __init__(self, pips: float, ts_event: int) -> None:
        self.pips = pips
        self._ts_event = ts_event

    @property
    def ts_event(self) -> int:
        return self._ts_event

    @property
    def ts_init(self) -> int:
        return self._ts_event


class Barometer(Actor):
    """Publishes a `Mood` for every five-minute bar."""

    def on_start(self) -> None:
        self.subscribe_bars(ONE_MINUTE)
        self.subscribe_bars(FIVE_MINUTES)

    def on_bar(self, bar: Bar) -> None:
        if bar.bar_type.standard() == FIVE_MINUTES.standard():
            pips = (bar.close.as_double() - bar.open.as_double()) * 10_000
            self.publish_data(DataType(Mood), Mood(round(pips, 2), bar.ts_event))


class Crier(Actor):
    """Turns strong moods into a signal, and into a message on a topic of its own."""

    def on_start(self) -> None:
        self.subscribe_data(DataType(Mood))

    def on_data(self, data: Any) -> None:
        if abs(data.pips) > 2.0:
            self.publish_signal("mood", data.pips, data.ts_event)
            self.msgbus.publish("town.square", {"pips": data.pips})


class Listener(Strategy):
    """Trades with the signal."""

    def on_start(self) -> None:
        self.subscribe_signal("mood")

    def on_signal(self, signal: Any) -> None:
        trade(self, signal.value, 100_000)

    def on_stop(self) -> None:
        self.close_all_positions(PAIR)


class BarReader(Strategy):
    """Trades against the five-minute bars, and asks for the bars it missed."""

    def on_start(self) -> None:
        self.subscribe_bars(FIVE_MINUTES)

    def on_bar(self, bar: Bar) -> None:
        change = bar.open.as_double() - bar.close.as_double()
        if abs(change) > 0.0004:
            trade(self, change, 40_000)


class Passerby(Strategy):
    """Hears what is said in the town square."""

    def on_start(self) -> None:
        self.msgbus.subscribe(topic="town.square", handler=self.hear)

    def hear(self, message: dict[str, float]) -> None:
        if message["pips"] > 3.0:
            trade(self, message["pips"], 25_000)


def trade(strategy: Strategy, direction: float, size: int) -> None:
    """Buy or sell at the market."""
    side = OrderSide.BUY if direction > 0 else OrderSide.SELL
    order = strategy.order_factory.market(PAIR, side, Quantity.from_int(size))
    strategy.submit_order(order)


def main() -> None:
    """Run it."""
    engine = quiet_engine("MOOD-001")
    add_margin_venue(engine, trade_execution=True)
    instrument = fx()
    engine.add_instrument(instrument)
    prices = walk(1_800, seed=7, start=1.08, step=0.00006)
    engine.add_data(trades(instrument, prices, size=1_000_000, every_ns=5 * SECOND_NS))
    engine.add_actor(Barometer(ActorConfig(component_id="Barometer")))
    engine.add_actor(Crier(ActorConfig(component_id="Crier")))
    engine.add_strategy(Listener(StrategyConfig(order_id_tag="1")))
    engine.add_strategy(BarReader(StrategyConfig(order_id_tag="2")))
    engine.add_strategy(Passerby(StrategyConfig(order_id_tag="3")))
    run_host(engine)


if __name__ == "__main__":
    main()
