"""The rows of the tables about signals: each by itself, by strength, and by horizon."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import duckdb
import numpy as np

from fillpath.analytics.price_feeds import Floats, Integers, PriceFeed, PriceFeeds
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.signal_decay import (
    HORIZONS,
    Forecasts,
    decay_rows,
    forward_returns,
    places_in,
)
from fillpath.analytics.signal_outcomes import (
    Holdings,
    SignalEvent,
    order_states,
    outcome_of,
    read_breached,
    read_signal_orders,
    read_signals,
    reason_of,
)
from fillpath.analytics.signal_strength import Judged, added, strength_rows

_COLUMNS: Final = {
    "signals": (
        "portfolio sequence strategy symbol name value event_time outcome trace_id span_id "
        "strength price reason pnl currency returns"
    ),
    "signal_strength": (
        "portfolio strategy name bucket low high signals traded hits hit_rate hit_rate_low "
        "hit_rate_high pnl currency trace_id"
    ),
    "signal_decay": (
        "portfolio strategy name horizon signals information_coefficient low high p_value hit_rate "
        "mean_return"
    ),
}
_SIGNS: Final = {"BUY": 1, "SELL": -1}
_DIGITS: Final = 15
"""Decimal digits that a double keeps."""

_Group = tuple[str, str | None, str | None]


def signal_tables(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    *,
    orders: TableRows,
    fills: TableRows,
    trips: Iterable[RoundTrip],
    feeds: PriceFeeds,
) -> dict[str, TableRows]:
    """Make the rows of the tables ``signals``, ``signal_strength`` and ``signal_decay``.

    Without the extra ``statistics`` the last two have none.

    Args:
        connection: Has the view ``spans`` and the table ``order_causes``.
        run_id: The run.
        orders: The rows of table ``orders``.
        fills: The rows of table ``fills``.
        trips: Every round trip of the ledger.
        feeds: Every price of the run.
    """
    signals = read_signals(connection, run_id)
    of_signals = read_signal_orders(connection, run_id)
    breached = read_breached(connection, run_id)
    states = order_states(orders.columns, orders.rows)
    holdings = _holdings(fills)
    entered: dict[str, list[RoundTrip]] = {}
    for trip in trips:
        key = (trip.opened_by.ref.portfolio, trip.opened_by.client_order_id or "")
        if key in of_signals.nearest:
            entered.setdefault(of_signals.nearest[key], []).append(trip)
    placed = _placed(signals, feeds)
    returns = _returns(placed)
    rows = []
    judged: dict[_Group, list[Judged]] = {}
    for signal in signals:
        its_orders = [
            states[key] for key in of_signals.by_signal.get(signal.span_id, ()) if key in states
        ]
        profits = _profits(entered.get(signal.span_id, ()))
        closed = _profits(one for one in entered.get(signal.span_id, ()) if not one.is_open)
        currency = next(iter(profits), None)
        price, its_returns = returns.get(signal.sequence, (None, {}))
        reason = reason_of(
            signal,
            its_orders,
            breached=signal.span_id in breached,
            held=holdings.before(signal),
        )
        rows.append(
            (
                *(signal.portfolio, signal.sequence, signal.strategy, signal.symbol, signal.name),
                *(signal.value, signal.event_time, outcome_of(its_orders), signal.trace_id),
                *(signal.span_id, signal.strength, price, reason),
                *(None if currency is None else profits[currency], currency, its_returns),
            )
        )
        if signal.strength is not None:
            judged.setdefault(_group(signal), []).append(
                Judged(signal.strength, signal.trace_id, profits, closed)
            )
    tables: dict[str, list[tuple[Any, ...]]] = {
        "signals": rows,
        "signal_strength": [],
        "signal_decay": [],
    }
    if importlib.util.find_spec("scipy") is not None:
        tables["signal_strength"] = [
            (*group, *row) for group, its in judged.items() for row in strength_rows(its)
        ]
        tables["signal_decay"] = list(_decay(placed, judged))
    return {name: TableRows(_COLUMNS[name].split(), made) for name, made in tables.items()}


def _group(signal: SignalEvent) -> _Group:
    return signal.portfolio, signal.strategy, signal.name


def _holdings(fills: TableRows) -> Holdings:
    names = ("portfolio", "strategy", "symbol", "sequence", "side", "quantity")
    places = [fills.columns.index(name) for name in names]
    holdings = Holdings()
    for row in fills.rows:
        portfolio, strategy, symbol, sequence, side, quantity = (row[place] for place in places)
        signed = _SIGNS[str(side)] * Decimal(str(quantity))
        holdings.fill(
            str(portfolio), str(strategy or ""), str(symbol or ""), int(str(sequence)), signed
        )
    return holdings


def _profits(trips: Iterable[RoundTrip]) -> dict[str, Decimal]:
    """Add up what trips came to, commission taken off, by currency."""
    return added(
        (trip.currency, trip.realized + (trip.unrealized or 0) - trip.commission) for trip in trips
    )


def _placed(
    signals: Sequence[SignalEvent], feeds: PriceFeeds
) -> dict[_Group, list[tuple[PriceFeed, list[SignalEvent], Integers]]]:
    """Place the signals of each name among the prices of each instrument."""
    together: dict[_Group, dict[int, tuple[PriceFeed, list[SignalEvent]]]] = {}
    for signal in signals:
        if signal.symbol is None:
            continue
        feed = feeds.main(signal.portfolio, signal.symbol, signal.venue)
        if feed is not None:
            of_group = together.setdefault(_group(signal), {})
            of_group.setdefault(id(feed), (feed, []))[1].append(signal)
    return {
        group: [
            (feed, those, places_in(feed, [one.sequence for one in those]))
            for feed, those in of_group.values()
        ]
        for group, of_group in together.items()
    }


def _returns(
    placed: Mapping[_Group, Iterable[tuple[PriceFeed, Sequence[SignalEvent], Integers]]],
) -> dict[int, tuple[Decimal | None, dict[str, float]]]:
    """Give the price in force at each signal and the returns from there, by its sequence."""
    found = {}
    for of_group in placed.values():
        for feed, those, places in of_group:
            by_horizon = {
                str(horizon): forward_returns(feed.prices, places, horizon).tolist()
                for horizon in HORIZONS
            }
            for number, (signal, place) in enumerate(zip(those, places.tolist(), strict=True)):
                price = None if place < 0 else Decimal(f"{feed.prices[place]:.{_DIGITS}g}")
                returns = {
                    horizon: its[number]
                    for horizon, its in by_horizon.items()
                    if not math.isnan(its[number])
                }
                found[signal.sequence] = (price, returns)
    return found


def _decay(
    placed: Mapping[_Group, Iterable[tuple[PriceFeed, Sequence[SignalEvent], Integers]]],
    judged: Iterable[_Group],
) -> Iterator[tuple[Any, ...]]:
    for group in judged:
        forecasts = [
            Forecasts(_strengths(those), places, feed.prices)
            for feed, those, places in placed.get(group, ())
        ]
        for row in decay_rows(forecasts):
            yield (
                *group,
                *(row.horizon, row.signals, row.information_coefficient, row.low, row.high),
                *(row.p_value, row.hit_rate, row.mean_return),
            )


def _strengths(signals: Iterable[SignalEvent]) -> Floats:
    return np.array(
        [np.nan if one.strength is None else one.strength for one in signals], dtype=np.float64
    )
