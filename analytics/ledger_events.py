"""What the ledger reads: fills, and what the engine says about positions and accounts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import duckdb

from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Account, EventType
from fillpath.instrumentation.semconv import Fill as FillKeys
from fillpath.instrumentation.semconv import Position as PositionKeys

_PATHS: Final = {
    "commission_currency": FillKeys.COMMISSION_CURRENCY,
    "multiplier": FillKeys.MULTIPLIER,
    "settlement_currency": FillKeys.SETTLEMENT_CURRENCY,
    "is_inverse": FillKeys.IS_INVERSE,
    "base_currency": FillKeys.BASE_CURRENCY,
    "account_id": Account.ID,
    "position_side": PositionKeys.SIDE,
    "position_quantity": PositionKeys.QUANTITY,
    "realized_pnl": PositionKeys.REALIZED_PNL,
    "position_currency": PositionKeys.CURRENCY,
    "account_type": Account.TYPE,
    "account_base_currency": Account.BASE_CURRENCY,
    "balances": Account.BALANCES,
}
_SIGNS: Final = {"BUY": 1, "SELL": -1}
_POSITION_SIGNS: Final = {"LONG": 1, "SHORT": -1, "FLAT": 0}


@dataclass(frozen=True, slots=True)
class SpanRef:
    """Which span says it, and when.

    Attributes:
        portfolio: Namespace.
        sequence: Place in the run.
        event_time: Simulated time, ns; ``None`` if the host gave none.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
    """

    portfolio: str
    sequence: int
    event_time: int | None
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class FillEvent:
    """One execution, with what its instrument says about money.

    Attributes:
        ref: Its span.
        sign: 1 for BUY, -1 for SELL.
        quantity: Executed quantity, positive.
        price: Price of one unit, in `currency`.
        commission: Positive is a cost.
        currency: Currency of the price.
        commission_currency: Currency of the commission.
        settlement_currency: Currency in which profit settles.
        base_currency: First currency of a pair, else ``None``.
        multiplier: Units of the underlying in one contract.
        is_inverse: Whether profit is in the base currency, by the reciprocal of the price.
        strategy: The engine's id of the strategy; empty if unknown.
        symbol: Empty if unknown.
        venue: Empty if unknown.
        fill_id: The venue's id of the execution.
        client_order_id: The engine's id of the order.
        position_id: The engine's id of the position.
        account_id: The engine's id of the account.
    """

    ref: SpanRef
    sign: int
    quantity: Decimal
    price: Decimal
    commission: Decimal
    currency: str
    commission_currency: str
    settlement_currency: str
    base_currency: str | None
    multiplier: Decimal
    is_inverse: bool
    strategy: str
    symbol: str
    venue: str
    fill_id: str | None
    client_order_id: str | None
    position_id: str | None
    account_id: str | None


@dataclass(frozen=True, slots=True)
class PositionEvent:
    """A position as the engine keeps it after a fill.

    Attributes:
        ref: Its span.
        event_type: `POSITION_OPEN`, `POSITION_CHANGE` or `POSITION_CLOSE`.
        position_id: The engine's id.
        symbol: The instrument.
        quantity: Signed size after the event; ``None`` if not told.
        realized_pnl: Profit of this cycle so far, commissions in `currency` taken off.
        currency: Currency of the profit.
    """

    ref: SpanRef
    event_type: str
    position_id: str
    symbol: str
    quantity: Decimal | None
    realized_pnl: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of an account.

    Attributes:
        total: All of it.
        free: What can be used; ``None`` if not told.
        locked: What is reserved; ``None`` if not told.
    """

    total: Decimal
    free: Decimal | None
    locked: Decimal | None


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """An account as the engine states it.

    Attributes:
        ref: Its span.
        account_id: The engine's id.
        account_type: `CASH`, `MARGIN`, `BETTING`, or empty.
        base_currency: The one currency the account is kept in, if it is.
        balances: By currency.
    """

    ref: SpanRef
    account_id: str
    account_type: str
    base_currency: str | None
    balances: Mapping[str, Balance]


LedgerEvent = FillEvent | PositionEvent | AccountEvent


@dataclass(frozen=True, slots=True)
class UnreadableFill:
    """A fill without side, quantity or price: nothing can be reckoned from it.

    Attributes:
        ref: Its span.
    """

    ref: SpanRef


def read_ledger_events(
    connection: duckdb.DuckDBPyConnection, run_id: str
) -> Iterator[LedgerEvent | UnreadableFill]:
    """Read fills, positions and account states of a run from the view ``spans``, in order."""
    parameters = {name: json_path(key) for name, key in _PATHS.items()}
    cursor = connection.execute(read_sql("ledger_events"), parameters | {"run_id": run_id})
    names = [column[0] for column in cursor.description or ()]
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            event = _event(dict(zip(names, row, strict=True)))
            if event is not None:
                yield event


def _event(row: dict[str, Any]) -> LedgerEvent | UnreadableFill | None:
    ref = SpanRef(
        row["portfolio"], row["sequence"], row["event_time"], row["trace_id"], row["span_id"]
    )
    kind = row["event_type"]
    if kind == EventType.FILL:
        return _fill(ref, row)
    if kind == EventType.PORTFOLIO:
        return _account(ref, row)
    if row["position_id"] is None:
        return None
    sign = _POSITION_SIGNS.get(row["position_side"] or "")
    size = _decimal(row["position_quantity"])
    return PositionEvent(
        ref=ref,
        event_type=kind,
        position_id=row["position_id"],
        symbol=row["symbol"] or "",
        quantity=None if sign is None or size is None else sign * abs(size),
        realized_pnl=_decimal(row["realized_pnl"]),
        currency=row["position_currency"],
    )


def _fill(ref: SpanRef, row: dict[str, Any]) -> FillEvent | UnreadableFill:
    sign = _SIGNS.get(row["side"] or "")
    if sign is None or row["quantity"] is None or row["price"] is None:
        return UnreadableFill(ref)
    is_inverse = row["is_inverse"] == "true"
    price_currency = row["currency"] or ""
    usual = row["base_currency"] if is_inverse and row["base_currency"] else price_currency
    settlement = row["settlement_currency"] or usual
    return FillEvent(
        ref=ref,
        sign=sign,
        quantity=row["quantity"],
        price=row["price"],
        commission=row["commission"] if row["commission"] is not None else Decimal(0),
        currency=price_currency,
        commission_currency=row["commission_currency"] or settlement,
        settlement_currency=settlement,
        base_currency=row["base_currency"],
        multiplier=_decimal(row["multiplier"]) or Decimal(1),
        is_inverse=is_inverse,
        strategy=row["strategy"] or "",
        symbol=row["symbol"] or "",
        venue=row["venue"] or "",
        fill_id=row["fill_id"],
        client_order_id=row["client_order_id"],
        position_id=row["position_id"],
        account_id=row["account_id"],
    )


def _account(ref: SpanRef, row: dict[str, Any]) -> AccountEvent | None:
    balances = {}
    for balance in json.loads(row["balances"] or "[]", parse_float=Decimal):
        total = _decimal(balance.get("total"))
        if balance.get("currency") and total is not None:
            balances[str(balance["currency"])] = Balance(
                total, _decimal(balance.get("free")), _decimal(balance.get("locked"))
            )
    if not balances:
        return None
    return AccountEvent(
        ref=ref,
        account_id=row["account_id"] or "",
        account_type=row["account_type"] or "",
        base_currency=row["account_base_currency"],
        balances=balances,
    )


def _decimal(digits: Any) -> Decimal | None:
    return None if digits is None else Decimal(str(digits))
