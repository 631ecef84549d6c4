"""What came of each signal: its orders, or why there were none. `docs/signals.md` has the rules."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import ZERO
from fillpath.analytics.signal_strength import strength_of
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Signal

FILLED: Final = "filled"
PARTLY_FILLED: Final = "partly filled"
WORKING: Final = "working"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
REJECTED_BY_RISK: Final = "rejected by risk"
REJECTED_BY_VENUE: Final = "rejected by venue"
ALREADY_POSITIONED: Final = "already positioned"
FLAT: Final = "flat"
NO_ORDER: Final = "no order"
REASONS: Final = (
    FILLED,
    PARTLY_FILLED,
    WORKING,
    CANCELLED,
    EXPIRED,
    REJECTED_BY_RISK,
    REJECTED_BY_VENUE,
    ALREADY_POSITIONED,
    FLAT,
    NO_ORDER,
)
"""Everything that can come of a signal."""
USED: Final = (FILLED, PARTLY_FILLED, WORKING)
"""What came of signals that led to something; the other reasons say why one led to nothing."""

_PATHS: Final = {
    "signal_name": Signal.NAME,
    "signal_value": Signal.VALUE,
    "signal_strength": Signal.STRENGTH,
}
# What stopped the orders of a signal, the first cause first: one refused takes others with it.
_STOPPED_BY: Final = {
    "DENIED": REJECTED_BY_RISK,
    "REJECTED": REJECTED_BY_VENUE,
    "EXPIRED": EXPIRED,
    "CANCELED": CANCELLED,
    "CANCELLED": CANCELLED,
}

OrderKey = tuple[str, str]
"""Portfolio and the engine's id of an order."""


@dataclass(frozen=True, slots=True)
class SignalEvent:
    """One signal; times are nanoseconds, ids hex."""

    portfolio: str
    sequence: int
    strategy: str | None
    symbol: str | None
    venue: str | None
    side: str | None
    name: str | None
    value: str | None
    strength: float | None
    event_time: int | None
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class OrderState:
    """How an order ended.

    Attributes:
        status: Its last status, in the engine's word.
        quantity: What was ordered; ``None`` if not told.
        filled: What was executed.
    """

    status: str | None
    quantity: Decimal | None
    filled: Decimal

    @property
    def is_filled(self) -> bool:
        """Whether all of it was executed."""
        if self.quantity is None:
            return self.filled > 0 and self.status != "PARTIALLY_FILLED"
        return self.filled >= self.quantity > 0


@dataclass(frozen=True, slots=True)
class SignalOrders:
    """Which orders descend from which signals.

    Attributes:
        by_signal: Orders by the span of the signal.
        nearest: The nearest signal of each order, by its span.
    """

    by_signal: Mapping[str, Sequence[OrderKey]]
    nearest: Mapping[OrderKey, str]


def read_signals(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[SignalEvent]:
    """Read every signal of a run from the view ``spans``, in order."""
    parameters = {name: json_path(key) for name, key in _PATHS.items()}
    cursor = connection.execute(read_sql("signals"), parameters | {"run_id": run_id})
    names = [column[0] for column in cursor.description or ()]
    signals = []
    for row in cursor.fetchall():
        values = dict(zip(names, row, strict=True))
        number = strength_of(values["value"], values["strength"], values["side"])
        signals.append(SignalEvent(**{**values, "strength": number}))
    return signals


def read_signal_orders(connection: duckdb.DuckDBPyConnection, run_id: str) -> SignalOrders:
    """Read which orders descend from which signals; needs the table ``order_causes``."""
    by_signal: dict[str, list[OrderKey]] = {}
    nearest: dict[OrderKey, str] = {}
    rows = connection.execute(read_sql("signal_orders"), {"run_id": run_id}).fetchall()
    for span_id, portfolio, client_order_id in rows:
        key = (portfolio, client_order_id)
        by_signal.setdefault(span_id, []).append(key)
        nearest.setdefault(key, span_id)
    return SignalOrders(by_signal, nearest)


def read_breached(connection: duckdb.DuckDBPyConnection, run_id: str) -> set[str]:
    """Read the spans of the signals from which a RISK_BREACH descends."""
    rows = connection.execute(read_sql("signal_breaches"), {"run_id": run_id}).fetchall()
    return {span_id for (span_id,) in rows}


@dataclass(slots=True)
class Holdings:
    """What each strategy held at any event, reckoned from its fills."""

    _held: dict[tuple[str, str], dict[str, tuple[list[int], list[Decimal]]]] = field(
        default_factory=dict
    )

    def fill(
        self, portfolio: str, strategy: str, symbol: str, sequence: int, signed: Decimal
    ) -> None:
        """Take note of a fill; in the order of events."""
        # A signal without a strategy is about what the whole portfolio holds.
        for whose in {strategy, ""}:
            of_symbol = self._held.setdefault((portfolio, whose), {})
            sequences, sizes = of_symbol.setdefault(symbol, ([], []))
            sizes.append((sizes[-1] if sizes else ZERO) + signed)
            sequences.append(sequence)

    def before(self, signal: SignalEvent) -> Decimal | None:
        """Give what was held just before a signal, a short position negative.

        Of the signal's instrument; for a signal without one, 0 if nothing at all was held, else
        None.
        """
        by_symbol = self._held.get((signal.portfolio, signal.strategy or ""), {})
        symbols = by_symbol if signal.symbol is None else [signal.symbol]
        sizes = [_size_before(by_symbol.get(one), signal.sequence) for one in symbols]
        if signal.symbol is not None:
            return sizes[0]
        return None if any(sizes) else ZERO


def _size_before(held: tuple[list[int], list[Decimal]] | None, sequence: int) -> Decimal:
    if held is None:
        return ZERO
    sequences, sizes = held
    place = bisect_left(sequences, sequence)
    return sizes[place - 1] if place else ZERO


def outcome_of(orders: Collection[OrderState]) -> str:
    """Say whether orders followed: ``ordered``, ``no_order`` or ``denied``."""
    if not orders:
        return "no_order"
    return "denied" if all(one.status == "DENIED" for one in orders) else "ordered"


def reason_of(
    signal: SignalEvent, orders: Iterable[OrderState], *, breached: bool, held: Decimal | None
) -> str:
    """Say what came of a signal: one of `REASONS`.

    Args:
        signal: The signal.
        orders: The orders that descend from it.
        breached: Whether a RISK_BREACH descends from it.
        held: What its strategy held of its instrument just before.
    """
    states = list(orders)
    if any(one.is_filled for one in states):
        return FILLED
    if any(one.filled for one in states):
        return PARTLY_FILLED
    every = [(one.status or "").upper() for one in states]
    # The legs of a bracket of which the entry is refused are never sent, and nobody ends them.
    statuses = [status for status in every if status != "INITIALIZED"] or every
    if any(status not in _STOPPED_BY for status in statuses):
        return WORKING
    if breached:
        return REJECTED_BY_RISK
    for status, reason in _STOPPED_BY.items():
        if status in statuses:
            return reason
    if signal.strength is not None and held is not None:
        if signal.strength * float(held) > 0:
            return ALREADY_POSITIONED
        if signal.strength == 0 and not held:
            return FLAT
    return NO_ORDER


def order_states(
    columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> dict[OrderKey, OrderState]:
    """Take the states of orders from the rows of table ``orders``."""
    portfolio, order, status, quantity, filled = (
        columns.index(name)
        for name in ("portfolio", "client_order_id", "status", "quantity", "filled_quantity")
    )
    return {
        (row[portfolio], row[order]): OrderState(row[status], row[quantity], row[filled])
        for row in rows
    }
