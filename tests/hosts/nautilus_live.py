"""A `TradingNode` with live engines, paper execution and a feed of its own; no network.

Three strategies and an execution algorithm trade a ladder of prices: market, limit, bracket,
modify, cancel, what the risk engine denies and what the venue rejects, TWAP, a bar of the engine's
own making, an order of an asyncio task and one of a timer, and a position closed in `on_stop`.

Where the wall clock decides when something is ordered, the feed stands still until it is filled, so
every run trades alike but for times, and ids with times in them. At the end there is a burst of
quotes: an order of its first one waits in the engine's queues for its last.
With a second argument ``stumble`` a strategy raises in a handler, and the engine stops in order;
with ``fall`` the engine ends the process at once, as it does unless it is told otherwise.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from host_market import SIM, ScriptedStrategy, fx
from host_report import HostReport
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.factory import SandboxLiveExecClientFactory
from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.config import (
    LiveDataClientConfig,
    LiveDataEngineConfig,
    LiveExecEngineConfig,
    LoggingConfig,
    StrategyConfig,
    TradingNodeConfig,
)
from nautilus_trader.examples.algorithms.twap import TWAPExecAlgorithm
from nautilus_trader.live.data_client import LiveMarketDataClient
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import Bar, BarType, QuoteTick
from nautilus_trader.model.enums import ContingencyType, OrderSide, TriggerType
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import ClientId, ExecAlgorithmId, TraderId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.trading.strategy import Strategy

BUY, SELL = OrderSide.BUY, OrderSide.SELL
PAIR = fx()
BARS = BarType.from_str(f"{PAIR.id}-20-TICK-BID-INTERNAL")
QUOTES = 240
BURST = 300


def price_of(number: int) -> float:
    """Bid of a quote: up by 20 pips in a hundred quotes, and down again."""
    place = number % 200
    return 1.1 + 0.00002 * min(place, 200 - place)


class Feed(LiveMarketDataClient):
    """Publishes quotes from memory, when somebody has subscribed to them."""

    waiting_for: set[str]

    async def _connect(self) -> None:
        self.waiting_for = set()
        self._handle_data(PAIR)

    async def _disconnect(self) -> None:
        pass

    async def _subscribe_quote_ticks(self, _: object) -> None:
        self._feeding = self._loop.create_task(self.feed())

    async def feed(self) -> None:
        """Publish them, each when the engines have settled the one before; a burst; then stop."""
        for number in range(1, QUOTES + 1):
            self.publish(number)
            await self.settle()
        for _ in range(BURST):
            self.publish(QUOTES + 1)
        await self.settle()
        NODES[0].stop()

    def publish(self, number: int) -> None:
        """Hand a quote to the data engine's queue."""
        bid, now = price_of(number), self._clock.timestamp_ns()
        size = PAIR.make_qty(10_000_000)
        self._handle_data(
            QuoteTick(
                PAIR.id, PAIR.make_price(bid), PAIR.make_price(bid + 0.0001), size, size, now, now
            )
        )

    async def settle(self) -> None:
        """Wait until all that a quote led to has gone through the engines' queues."""
        for _ in range(25):
            await asyncio.sleep(0)
        while HOLD:  # noqa: ASYNC110 - asyncio's events know one thread; a timer has another
            await asyncio.sleep(0.001)


HOLD: set[str] = set()
"""What the feed waits for."""
NODES: list[TradingNode] = []


class FeedFactory(LiveDataClientFactory):
    """Makes the feed."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: Any, msgbus: Any, cache: Any, clock: Any
    ) -> Feed:
        provider = InstrumentProvider()
        provider.add(PAIR)
        return Feed(loop, ClientId(name), SIM, msgbus, cache, clock, provider, config)


class Scripted(ScriptedStrategy):
    """Orders of every kind, at given quotes."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            5: lambda: self.market(BUY, 100_000),
            12: lambda: self.market(SELL, 100_000),
            15: lambda: self.limit(BUY, 40_000, 1.09),
            18: self.raise_limit,
            22: lambda: self.limit(SELL, 40_000, 1.2),
            25: lambda: self.cancel_order(self.last),
            28: lambda: self.cancel_order(self.last),  # too late
            30: lambda: self.limit(BUY, 10_000, 1.09),
            31: lambda: self.limit(BUY, 20_000, 1.08),
            34: lambda: self.cancel_all_orders(self.instrument.id),
            36: lambda: self.market(SELL, 50_000),
            40: self.bracket,
            90: lambda: self.limit(BUY, 10_000, 1.09999999),  # more digits than the pair has
            92: self.stop_in_the_market,
            95: self.post_only_in_the_market,
            110: lambda: self.market(SELL, 250_000),
            111: lambda: self.market(BUY, 400_000),  # through zero
            112: lambda: self.market(SELL, 150_000),
            115: lambda: self.market(BUY, 30_000),
            QUOTES + 1: lambda: self.market(SELL, 10_000),
        }

    def market(self, side: OrderSide, size: int) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, side, Quantity.from_int(size))
        )

    def limit(self, side: OrderSide, size: int, price: float) -> None:
        digits = 8 if round(price, 5) != price else 5
        self.last = self.order_factory.limit(
            self.instrument.id, side, Quantity.from_int(size), Price(price, digits)
        )
        self.submit_order(self.last)

    def raise_limit(self) -> None:
        """Into the market, so that it fills."""
        self.modify_order(self.last, price=Price(1.11, 5), quantity=Quantity.from_int(50_000))
        self.publish_signal("raised", 1.11, self.clock.timestamp_ns())

    def bracket(self) -> None:
        self.publish_signal("up", 0.5, self.clock.timestamp_ns())
        price = self.instrument.make_price
        bid = price_of(self.seen)
        orders = self.order_factory.bracket(
            self.instrument.id,
            BUY,
            Quantity.from_int(60_000),
            sl_trigger_price=price(bid - 0.0005),
            tp_price=price(bid + 0.0006),
            contingency_type=ContingencyType.OCO,
        )
        self.submit_order_list(orders)

    def stop_in_the_market(self) -> None:
        self.submit_order(
            self.order_factory.stop_market(
                self.instrument.id,
                BUY,
                Quantity.from_int(10_000),
                Price(1.05, 5),
                trigger_type=TriggerType.DEFAULT,
            )
        )

    def post_only_in_the_market(self) -> None:
        self.submit_order(
            self.order_factory.limit(
                self.instrument.id, BUY, Quantity.from_int(10_000), Price(1.2, 5), post_only=True
            )
        )

    def on_stop(self) -> None:
        """Leave with nothing."""
        self.close_all_positions(self.instrument.id)


class Stumbled(Exception):
    """What a strategy raises, if it is told to."""


class ByBars(Strategy):
    """Turns round at every bar that the engine makes of the quotes, and stays in the market."""

    def on_start(self) -> None:
        self.turns = 0
        self.subscribe_bars(BARS)

    def on_bar(self, bar: Bar) -> None:
        if self.turns == 3 and sys.argv[2:]:
            raise Stumbled("over the fourth bar")
        if self.turns < 11:
            side = SELL if self.turns % 2 else BUY
            self.turns += 1
            self.submit_order(self.order_factory.market(PAIR.id, side, Quantity.from_int(70_000)))


class ByTheClock(ScriptedStrategy):
    """Orders later than it is told to: in a task, by a timer, by an algorithm with timers."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {130: self.in_a_task, 140: self.by_a_timer, 150: self.by_twap, 170: self.sell}

    def in_a_task(self) -> None:
        HOLD.add("task")
        self.task = asyncio.get_running_loop().create_task(self.wait_and_buy())

    async def wait_and_buy(self) -> None:
        await asyncio.sleep(0.02)
        self.buy(11_000)

    def by_a_timer(self) -> None:
        HOLD.add("timer")
        self.clock.set_time_alert(
            "later", self.clock.utc_now() + timedelta(milliseconds=30), callback=self.on_time
        )

    def on_time(self, _: object) -> None:
        self.buy(12_000)

    def by_twap(self) -> None:
        HOLD.add("twap")
        self.buy(
            30_000,
            exec_algorithm_id=ExecAlgorithmId("TWAP"),
            exec_algorithm_params={"horizon_secs": 0.15, "interval_secs": 0.05},
        )

    def sell(self) -> None:
        self.close_all_positions(self.instrument.id)

    def buy(self, size: int, **how: Any) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, BUY, Quantity.from_int(size), **how)
        )

    def on_order_filled(self, event: OrderFilled) -> None:
        held = sum(int(one.quantity) for one in self.cache.positions_open(strategy_id=self.id))
        reached = {11_000: "task", 23_000: "timer", 53_000: "twap"}
        HOLD.discard(reached.get(held, ""))


def build_node() -> TradingNode:
    """A node whose data and executions come from memory."""
    config = TradingNodeConfig(
        trader_id=TraderId("PAPER-001"),
        logging=LoggingConfig(log_level="OFF"),
        data_engine=LiveDataEngineConfig(
            graceful_shutdown_on_exception=sys.argv[2:] == ["stumble"]
        ),
        exec_engine=LiveExecEngineConfig(reconciliation=True),
        data_clients={SIM.value: LiveDataClientConfig()},
        exec_clients={
            SIM.value: SandboxExecutionClientConfig(
                venue=SIM.value,
                starting_balances=["1_000_000 USD"],
                base_currency="USD",
                account_type="MARGIN",
                oms_type="NETTING",
                use_reduce_only=False,  # it knows a fill before the cache knows the position
            )
        },
        timeout_connection=5.0,
        timeout_reconciliation=5.0,
        timeout_portfolio=5.0,
        timeout_disconnection=5.0,
        timeout_post_stop=0.3,
    )
    node = TradingNode(config)
    node.add_data_client_factory(SIM.value, FeedFactory)
    node.add_exec_client_factory(SIM.value, SandboxLiveExecClientFactory)
    node.build()
    for number, kind in enumerate((Scripted, ByBars, ByTheClock)):
        node.trader.add_strategy(kind(StrategyConfig(order_id_tag=f"{number:03}")))
    node.trader.add_exec_algorithm(TWAPExecAlgorithm())
    return node


def main() -> None:
    """Run it until the feed has no more."""
    node = build_node()
    NODES.append(node)
    report = HostReport()
    report.watch(node)
    node.run()
    report.add(node)
    node.dispose()
    report.write()


if __name__ == "__main__":
    main()
