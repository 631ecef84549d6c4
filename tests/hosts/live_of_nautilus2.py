"""A `LiveNode` with paper execution and a feed of its own; no network.

Two strategies trade a ladder of quotes: market, limit, bracket, modify, cancel, what the risk
engine denies and what the venue rejects, an error in the user's code, an order of an asyncio task
and one of a timer, and a position closed in `on_stop`. The feed waits until all that a quote led to
is done, so each run trades alike but for times, and ids with times in them. With a second argument
``async`` the script's own event loop drives the node.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from nautilus_trader.adapters.sandbox import (
    SandboxExecutionClientConfig,
    SandboxExecutionClientFactory,
)
from nautilus_trader.common import Environment, LoggerConfig, TimeEvent
from nautilus_trader.config import DataClientConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.live import LiveNode
from nautilus_trader.live.clients import DataClientFactory, MarketDataClient
from nautilus_trader.model import (
    AccountType,
    ContingencyType,
    InstrumentId,
    Money,
    OmsType,
    OrderFilled,
    OrderSide,
    OrderType,
    Price,
    Quantity,
    QuoteTick,
    TraderId,
)
from rust_engine import SIM, USD, ScriptedStrategy, pair

BUY, SELL = OrderSide.BUY, OrderSide.SELL
PAIR = pair("EUR/USD")
QUOTES = 120
NODES: list[Any] = []
"""The cache of the node, which itself answers nothing while it runs, and its handle."""
STRATEGIES: list[Scripted] = []
HOLD: set[str] = set()
"""What the feed waits for."""
PASSING = ("INITIALIZED", "SUBMITTED", "PENDING_UPDATE", "PENDING_CANCEL")


def price_of(number: int) -> float:
    """Bid of a quote: up by ten pips in fifty quotes, and down again."""
    place = number % 100
    return 1.1 + 0.00002 * min(place, 100 - place)


class Feed(MarketDataClient):
    """Publishes quotes from memory when both strategies have subscribed to them."""

    async def _connect(self) -> None:
        self._handle_instrument(PAIR)

    async def _disconnect(self) -> None:
        pass

    async def _subscribe_quotes(self, _: Any) -> None:
        self.create_task(self.feed(), "feed")

    async def _unsubscribe_quotes(self, _: Any) -> None:
        pass

    async def feed(self) -> None:
        """Publish them, each when the one before is settled; then stop the node."""
        size = Quantity.from_int(10_000_000)
        for number in range(1, QUOTES + 1):
            bid, now = price_of(number), self.clock.timestamp_ns()
            self._handle_data(
                QuoteTick(PAIR.id, Price(bid, 5), Price(bid + 0.0001, 5), size, size, now, now)
            )
            while not self.is_settled(number):  # noqa: ASYNC110 - the engine sets no event
                await asyncio.sleep(0.001)
        NODES[1].stop()

    def is_settled(self, number: int) -> bool:
        """Whether all have had a quote and no order is on its way."""
        return (
            not HOLD
            and all(one.seen >= number for one in STRATEGIES)
            and not any(
                order.status.name in PASSING and order.parent_order_id is None  # legs may wait
                for order in NODES[0].orders()
            )
        )


class FeedFactory(DataClientFactory):
    """Makes the feed."""

    @staticmethod
    def create(*, name: str, config: DataClientConfig, cache: Any, clock: Any) -> Feed:
        return Feed(name=name, config=config, cache=cache, clock=clock, venue=SIM)


class Scripted(ScriptedStrategy):
    """Has the orders."""

    last: Any = None

    def market(self, side: OrderSide, size: int) -> None:
        self.submit_order(self.order_factory.market(PAIR.id, side, Quantity.from_int(size)))

    def limit(self, side: OrderSide, size: int, price: float, **more: Any) -> None:
        order = self.order_factory.limit(
            PAIR.id, side, Quantity.from_int(size), Price(price, 5), **more
        )
        self.last = order.client_order_id
        self.submit_order(order)


class Ladder(Scripted):
    """Orders of every kind."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            3: lambda: self.market(BUY, 100_000),
            6: lambda: self.market(SELL, 250_000),  # through zero
            9: lambda: self.limit(BUY, 40_000, 1.09),
            11: lambda: self.modify_order(
                self.last, quantity=Quantity.from_int(50_000), price=Price(1.11, 5)
            ),
            14: lambda: self.limit(SELL, 40_000, 1.2),
            16: lambda: self.cancel_order(self.last),
            18: lambda: self.limit(BUY, 20_000, 1.08),
            19: lambda: self.limit(BUY, 30_000, 1.07),
            21: lambda: self.cancel_all_orders(PAIR.id),
            24: lambda: self.limit(BUY, 10_000, 1.2, post_only=True),
            26: self.unknown,
            28: self.fails,
            30: self.bracket,
        }

    def unknown(self) -> None:
        nowhere = InstrumentId.from_str("XXX/USD.SIM")
        self.submit_order(self.order_factory.market(nowhere, BUY, Quantity.from_int(1)))

    def fails(self) -> None:
        self.market(SELL, 10_000)
        raise ValueError("the strategy's own error")

    def bracket(self) -> None:
        self.publish_signal("down", 0.5, self.clock.timestamp_ns())
        bid = price_of(self.seen)
        self.submit_order_list(
            self.order_factory.bracket(
                PAIR.id,
                SELL,
                Quantity.from_int(60_000),
                contingency_type=ContingencyType.OCO,
                entry_order_type=OrderType.LIMIT,
                entry_price=Price(bid + 0.0001, 5),
                sl_trigger_price=Price(bid + 0.0030, 5),
                tp_price=Price(bid - 0.0002, 5),
            )
        )

    def on_stop(self) -> None:
        self.close_all_positions(PAIR.id)


class Later(Scripted):
    """Orders later than it is told to, in a task and by a timer; stays in the market."""

    def script(self) -> dict[int, Callable[[], None]]:
        return {40: self.in_a_task, 50: self.by_a_timer, 60: lambda: self.market(SELL, 5_000)}

    def in_a_task(self) -> None:
        HOLD.add("task")
        self.task = asyncio.get_running_loop().create_task(self.wait_and_buy())

    async def wait_and_buy(self) -> None:
        await asyncio.sleep(0.01)
        self.market(BUY, 11_000)

    def by_a_timer(self) -> None:
        HOLD.add("timer")
        self.clock.set_time_alert_ns(
            "later", self.clock.timestamp_ns() + 20_000_000, callback=self.on_time
        )
        self.clock.set_timer("idle", timedelta(hours=1))

    def on_time(self, _: TimeEvent) -> None:
        self.market(BUY, 12_000)

    def on_order_filled(self, event: OrderFilled) -> None:
        HOLD.discard({11_000: "task", 12_000: "timer"}.get(int(event.last_qty.as_double()), ""))


def build_node() -> LiveNode:
    """A node whose data and executions come from memory."""
    builder = (
        LiveNode.builder("PAPER", TraderId("PAPER-001"), Environment.SANDBOX)
        .with_logging(LoggerConfig(bypass_logging=True))
        .with_reconciliation(False)
        .with_delay_post_stop_secs(1)
        .add_data_client("SIM", FeedFactory, DataClientConfig())
        .add_simulated_exec_client(
            "SIM",
            SandboxExecutionClientFactory(),
            SandboxExecutionClientConfig(
                venue=SIM,
                starting_balances=[Money(1_000_000, USD)],
                base_currency=USD,
                account_type=AccountType.MARGIN,
                oms_type=OmsType.NETTING,
                fee_model=MakerTakerFeeModel(Decimal("0.0003"), Decimal("0.0007")),
            ),
        )
    )
    node = builder.build()
    for strategy in (Ladder(PAIR, tag="L"), Later(PAIR, tag="T")):
        node.add_strategy(strategy)
        STRATEGIES.append(strategy)
    return node


def knowledge(node: LiveNode) -> dict[str, Any]:
    """What the node's cache and portfolio say."""
    account = node.cache.account_for_venue(SIM)
    assert account is not None
    orders: dict[str, Any] = {}
    fills = []
    for order in sorted(node.cache.orders(), key=lambda one: str(one.client_order_id)):
        orders[str(order.client_order_id)] = [
            order.side.name, order.order_type.name, order.status.name, str(order.quantity),
            [type(event).__name__ for event in order.events()],
        ]  # fmt: skip
        fills += [
            [
                str(event.client_order_id), str(event.trade_id), event.order_side.name,
                str(event.last_qty), str(event.last_px), str(event.commission).split()[0],
                str(event.position_id),
            ]
            for event in order.events()
            if type(event).__name__ == "OrderFilled"
        ]  # fmt: skip
    return {
        "orders": orders,
        "fills": fills,
        "balance": str(account.balance_total(USD).as_decimal()),
        "realized": str(node.portfolio.realized_pnls(SIM)[USD].as_decimal()),
    }


def main() -> None:
    """Run it until the feed has no more."""
    node = build_node()
    NODES.extend((node.cache, node.handle()))
    if sys.argv[2:] == ["async"]:

        async def drive() -> None:
            await node.run_async()

        asyncio.run(drive())
    else:
        node.run()
    text = json.dumps(knowledge(node), indent=1)
    node.dispose()
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
