"""The rows of table ``trades``: each round trip with what led to it, what it cost, what it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import trimmed
from fillpath.analytics.excursions import Excursion, excursions
from fillpath.analytics.execution_rows import signal_strength
from fillpath.analytics.executions import OrderExecution, OrderKey
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.market_prices import MarketPrices
from fillpath.analytics.order_reasons import MARKET
from fillpath.analytics.output import plain_decimal
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.trade_costs import trade_costs

RegimeAt = Callable[[str, str, int], str | None]
"""The regime of a portfolio's symbol in force at a sequence."""
_COLUMNS: Final = (
    "portfolio trade_id entry_sequence position_id account_id strategy symbol venue direction "
    "quantity open_quantity entry_time exit_time holding_time entry_price exit_price realized_pnl "
    "unrealized_pnl commission currency entry_trace_id entry_span_id exit_trace_id exit_span_id "
    "entry_signal entry_signal_strength entry_signal_trace_id entry_signal_span_id entry_regime "
    "exit_regime exit_reason entry_order_id exit_order_id entry_decision_price "
    "entry_arrival_price exit_decision_price exit_arrival_price cost_currency delay_cost "
    "impact_cost shortfall best_price worst_price favourable_excursion adverse_excursion "
    "entry_latency exit_latency fills"
)
_NO_ORDER: Final[Mapping[str, Any]] = dict.fromkeys(
    (
        "signal_name",
        "signal_strength",
        "signal_value",
        "signal_trace_id",
        "signal_span_id",
        "market_start",
    )
)


def no_regime(_portfolio: str, _symbol: str, _sequence: int) -> str | None:
    """Know of no regime."""


@dataclass(frozen=True, slots=True)
class TradeContext:
    """What trades are seen in the light of.

    Attributes:
        prices: Prices of the market.
        executions: Every order that has a side.
        lone_fills: Fills that name no order, as orders of their own, by sequence.
        fill_starts: Wall clock of each fill, by sequence.
        actions: The splits of the run.
        regime_at: Regimes of the market.
        by_order: The executions by portfolio and client order id.
    """

    prices: MarketPrices
    executions: Sequence[OrderExecution]
    lone_fills: Mapping[int, OrderExecution]
    fill_starts: Mapping[int, int]
    actions: CorporateActions
    regime_at: RegimeAt = no_regime
    by_order: dict[OrderKey, OrderExecution] = field(init=False)

    def __post_init__(self) -> None:
        keyed = {
            (one.order["portfolio"], one.order["client_order_id"]): one for one in self.executions
        }
        object.__setattr__(self, "by_order", keyed)

    def order_of(self, fill: FillEvent) -> OrderExecution | None:
        """The order that a fill belongs to."""
        if fill.client_order_id is None:
            return self.lone_fills.get(fill.ref.sequence)
        return self.by_order.get((fill.ref.portfolio, fill.client_order_id))

    def began(self, fill: FillEvent) -> int | None:
        """Where the order of a fill began, if that is known."""
        order = self.order_of(fill)
        return order.facts["sequence"] if order else None


def trade_rows(trips: Sequence[RoundTrip], context: TradeContext) -> TableRows:
    """Make the rows, in the order of the trips."""
    found = excursions(context.prices, trips, context.began, context.actions)
    rows = (_row(trip, one, context) for trip, one in zip(trips, found, strict=True))
    return TableRows(_COLUMNS.split(), list(rows))


def _row(trip: RoundTrip, excursion: Excursion | None, context: TradeContext) -> tuple[Any, ...]:
    entry, leave = trip.opened_by, trip.closed_by
    closed = leave if leave and not trip.is_open else None
    exit_price = trip.exit_price
    costs = trade_costs(trip, context.order_of)
    entered_by = context.order_of(entry)
    left_by = context.order_of(leave) if leave else None
    facts = entered_by.facts if entered_by else _NO_ORDER
    extremes = (
        (excursion.best_price, excursion.worst_price, excursion.favourable, excursion.adverse)
        if excursion
        else (None,) * 4
    )
    return (
        entry.ref.portfolio,
        trip.trade_id,
        entry.ref.sequence,
        trip.position_id,
        entry.account_id,
        entry.strategy or None,
        entry.symbol or None,
        entry.venue or None,
        trip.direction,
        trimmed(trip.entered, 0),
        trimmed(trip.open_quantity, 0),
        entry.ref.event_time,
        closed.ref.event_time if closed else None,
        _holding_time(entry, closed),
        trimmed(trip.entry_price, 0),
        None if exit_price is None else trimmed(exit_price, 0),
        trip.realized,
        trip.unrealized,
        trip.commission,
        trip.currency,
        entry.ref.trace_id,
        entry.ref.span_id,
        leave.ref.trace_id if leave else None,
        leave.ref.span_id if leave else None,
        facts["signal_name"],
        signal_strength(facts),
        facts["signal_trace_id"],
        facts["signal_span_id"],
        _regime(entry, context),
        _regime(closed, context) if closed else None,
        ((left_by.reason if left_by else None) or MARKET) if closed else None,
        entry.client_order_id,
        leave.client_order_id if leave else None,
        costs.entry.decision_price,
        costs.entry.arrival_price,
        costs.exit.decision_price,
        costs.exit.arrival_price,
        costs.currency or None,
        costs.delay,
        costs.impact,
        costs.shortfall,
        *extremes,
        _latency(entry, entered_by, context),
        _latency(leave, left_by, context) if leave else None,
        list(_fills(trip)),
    )


def _holding_time(entry: FillEvent, closed: FillEvent | None) -> int | None:
    if closed is None or closed.ref.event_time is None or entry.ref.event_time is None:
        return None
    return closed.ref.event_time - entry.ref.event_time


def _regime(fill: FillEvent, context: TradeContext) -> str | None:
    return context.regime_at(fill.ref.portfolio, fill.symbol, fill.ref.sequence)


def _latency(fill: FillEvent, order: OrderExecution | None, context: TradeContext) -> int | None:
    start = order.facts["market_start"] if order else None
    end = context.fill_starts.get(fill.ref.sequence)
    return None if start is None or end is None else end - start


def _fills(trip: RoundTrip) -> Iterator[dict[str, Any]]:
    legs: Iterable[tuple[str, FillEvent, Decimal]] = (
        *(("entry", fill, quantity) for fill, quantity in trip.entries),
        *(("exit", fill, quantity) for fill, quantity in trip.exits),
    )
    for leg, fill, quantity in sorted(legs, key=lambda one: one[1].ref.sequence):
        yield {
            "leg": leg,
            "sequence": fill.ref.sequence,
            "client_order_id": fill.client_order_id,
            "quantity": plain_decimal(quantity),
            "price": plain_decimal(fill.price),
            "event_time": fill.ref.event_time,
            "trace_id": fill.ref.trace_id,
            "span_id": fill.ref.span_id,
        }
