"""Writes down what an engine itself knows after a backtest, as one JSON document.

A host script makes a `HostReport`, lets it watch each engine before the run, adds the
engine after it, and writes the report to the path given as the script's first argument:

    report = HostReport()
    report.watch(engine)
    engine.run()
    report.add(engine)
    report.write()

or all of that with `run_host`. Every number is a string with the engine's own digits. The
document holds nothing random and no wall-clock time, so two runs of a host write the same
bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.model.enums import (
    account_type_to_str,
    liquidity_side_to_str,
    order_side_to_str,
    order_status_to_str,
    order_type_to_str,
    position_side_to_str,
)
from nautilus_trader.model.events import OrderFilled, PositionClosed
from nautilus_trader.model.objects import Money, Price
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position

WATCHED_TOPICS = (
    "data.*",
    "events.order.*",
    "events.fills.*",
    "events.cancels.*",
    "events.position.*",
    "events.account.*",
)


# What the engine appends to the id of a closed position that it keeps as a snapshot.
_UUID_AT_END = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class HostReport:
    """What the engines of one host script knew at the end of their runs."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self._published: dict[str, Counter[str]] = {}
        self._closed: list[PositionClosed] = []

    def watch(self, engine: BacktestEngine) -> None:
        """Count what the engine publishes from now on, and keep the closed positions."""
        self._published = {topic: Counter() for topic in WATCHED_TOPICS}
        self._closed = []
        bus = engine.kernel.msgbus
        for topic, counter in self._published.items():
            bus.subscribe(topic, _counting_into(counter))
        bus.subscribe("events.position.*", self._keep_closed)

    def add(self, engine: BacktestEngine, error: str | None = None) -> None:
        """Append the state of an engine at the end of a run.

        The counts and closed positions of what was watched last are taken with it. `error`
        is the message of the exception that ended the run, if one did.
        """
        cache = engine.cache
        orders = sorted(cache.orders(), key=lambda order: str(order.client_order_id))
        self.runs.append(
            {
                "trader_id": str(engine.trader_id),
                "iterations": getattr(engine, "iteration", None),  # a live node counts none
                "error": error,
                "orders": [_order(order) for order in orders],
                "fills": [_fill(event) for event in _fills_of(orders)],
                "accounts": [_account(one) for one in sorted(cache.accounts(), key=_id_of)],
                "positions": _positions_report(engine),
                "open_positions": [
                    _open_position(engine, one)
                    for one in sorted(cache.positions_open(), key=_id_of)
                ],
                "realized_pnl": self._realized_pnl(cache.positions_open()),
                "published": {
                    topic: dict(sorted(counter.items()))
                    for topic, counter in self._published.items()
                },
            }
        )
        for counter in self._published.values():
            counter.clear()
        self._closed.clear()

    def write(self, path: str | None = None) -> None:
        """Write the runs to ``path``, by default the script's first argument."""
        text = json.dumps({"runs": self.runs}, indent=1, sort_keys=True)
        Path(path or sys.argv[1]).write_text(text + "\n", encoding="utf-8")

    def _keep_closed(self, event: object) -> None:
        if isinstance(event, PositionClosed):
            self._closed.append(event)

    def _realized_pnl(self, still_open: Iterable[Position]) -> dict[str, dict[str, str]]:
        """The realized P&L of each strategy by currency, commissions taken off.

        From the PositionClosed events, because one version of the engine forgets a NETTING
        position that a fill flips: it is missing from the positions report.
        """
        totals: dict[str, Counter[str]] = {}
        for one in (*self._closed, *still_open):
            amount, currency = str(one.realized_pnl).split()
            by_currency = totals.setdefault(str(one.strategy_id), Counter())
            by_currency[currency] = by_currency[currency] + Decimal(amount)  # type: ignore[assignment]  # any number adds up
        return {
            strategy: {currency: str(total) for currency, total in sorted(by_currency.items())}
            for strategy, by_currency in sorted(totals.items())
        }


def run_host(engine: BacktestEngine) -> None:
    """Run one engine and write its report to the script's first argument."""
    report = HostReport()
    report.watch(engine)
    engine.run()
    report.add(engine)
    engine.dispose()
    report.write()


def _counting_into(counter: Counter[str]) -> Callable[[object], None]:
    def count(message: object) -> None:
        counter[type(message).__name__] += 1

    return count


def _id_of(thing: Any) -> str:
    return str(thing.id)


def _amount(money: Money) -> str:
    return str(money).split()[0]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _fills_of(orders: Iterable[Order]) -> list[OrderFilled]:
    fills = [event for order in orders for event in order.events if isinstance(event, OrderFilled)]
    return sorted(fills, key=_place_of)


def _place_of(fill: OrderFilled) -> tuple[int, str, int]:
    """Sorts fills as they happened: a venue numbers those of each instrument at the end."""
    number = int(str(fill.trade_id).rpartition("-")[2])
    return (fill.ts_event, str(fill.instrument_id), number)


def _order(order: Order) -> dict[str, Any]:
    return {
        "client_order_id": str(order.client_order_id),
        "venue_order_id": _text(order.venue_order_id),
        "strategy_id": str(order.strategy_id),
        "instrument_id": str(order.instrument_id),
        "position_id": _text(order.position_id),
        "side": order_side_to_str(order.side),
        "type": order_type_to_str(order.order_type),
        "status": order_status_to_str(order.status),
        "quantity": str(order.quantity),
        "filled_qty": str(order.filled_qty),
        "events": [type(event).__name__ for event in order.events],
        "reasons": [event.reason for event in order.events if getattr(event, "reason", None)],
    }


def _fill(fill: OrderFilled) -> dict[str, Any]:
    return {
        "client_order_id": str(fill.client_order_id),
        "trade_id": str(fill.trade_id),
        "venue_order_id": str(fill.venue_order_id),
        "strategy_id": str(fill.strategy_id),
        "instrument_id": str(fill.instrument_id),
        "position_id": _text(fill.position_id),
        "account_id": str(fill.account_id),
        "side": order_side_to_str(fill.order_side),
        "order_type": order_type_to_str(fill.order_type),
        "liquidity": liquidity_side_to_str(fill.liquidity_side),
        "last_qty": str(fill.last_qty),
        "last_px": str(fill.last_px),
        "commission": _amount(fill.commission),
        "commission_currency": fill.commission.currency.code,
        "currency": fill.currency.code,
        "ts_event": fill.ts_event,
    }


def _account(account: Any) -> dict[str, Any]:
    starting = account.starting_balances()
    return {
        "account_id": str(account.id),
        "type": account_type_to_str(account.type),
        "base_currency": account.base_currency.code if account.base_currency else None,
        "balances": [
            {
                "currency": currency.code,
                "start": _amount(starting.get(currency, Money(0, currency))),
                "final": _amount(balance.total),
                "free": _amount(balance.free),
                "locked": _amount(balance.locked),
            }
            for currency, balance in sorted(
                account.balances().items(), key=lambda item: str(item[0].code)
            )
        ],
        "commissions": {
            currency.code: _amount(money)
            for currency, money in sorted(
                account.commissions().items(), key=lambda item: str(item[0].code)
            )
        },
        "states": len(account.events),
    }


def _positions_report(engine: BacktestEngine) -> list[dict[str, Any]]:
    table = engine.trader.generate_positions_report()
    columns = (
        "strategy_id",
        "instrument_id",
        "entry",
        "side",
        "quantity",
        "peak_qty",
        "commissions",
        "realized_pnl",
        "is_snapshot",
        "ts_opened",
        "ts_closed",
    )
    rows = [
        {"position_id": _UUID_AT_END.sub("", str(position_id))}
        | {column: str(row[column]) for column in columns}
        for position_id, row in table.iterrows()
    ]
    return sorted(rows, key=lambda row: (row["ts_opened"], row["position_id"], row["ts_closed"]))


def _open_position(engine: BacktestEngine, position: Position) -> dict[str, Any]:
    mark = _mark_price(engine, position)
    return {
        "position_id": str(position.id),
        "strategy_id": str(position.strategy_id),
        "instrument_id": str(position.instrument_id),
        "side": position_side_to_str(position.side),
        "quantity": str(position.quantity),
        "avg_px_open": repr(position.avg_px_open),
        "realized_pnl": str(position.realized_pnl),
        "mark_price": _text(mark),
        "unrealized_pnl": None if mark is None else str(position.unrealized_pnl(mark)),
    }


def _mark_price(engine: BacktestEngine, position: Position) -> Price | None:
    """The price the position could be closed at: by quote, else book, last trade, last bar."""
    quote = engine.cache.quote_tick(position.instrument_id)
    if quote is not None:
        return quote.bid_price if position.is_long else quote.ask_price
    book = engine.cache.order_book(position.instrument_id)
    if book is not None and book.best_bid_price() is not None:
        return book.best_bid_price() if position.is_long else book.best_ask_price()
    trade = engine.cache.trade_tick(position.instrument_id)
    if trade is not None:
        return trade.price
    closes = [engine.cache.bar(kind) for kind in engine.cache.bar_types(position.instrument_id)]
    return max(closes, key=lambda bar: bar.ts_event).close if closes else None
