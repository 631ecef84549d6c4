"""What the ledger reads: fills, cash flows, and what the engine says of positions and accounts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import rounded
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Account, CashFlow, CorporateAction, EventType, Order
from fillpath.instrumentation.semconv import Fill as FillKeys
from fillpath.instrumentation.semconv import Position as PositionKeys

_PATHS: Final = {
    "told_side": Order.SIDE,
    "commission_currency": FillKeys.COMMISSION_CURRENCY,
    "multiplier": FillKeys.MULTIPLIER,
    "settlement_currency": FillKeys.SETTLEMENT_CURRENCY,
    "valuation_method": FillKeys.VALUATION_METHOD,
    "is_inverse": FillKeys.IS_INVERSE,
    "base_currency": FillKeys.BASE_CURRENCY,
    "order_reason": Order.REASON,
    "account_id": Account.ID,
    "position_side": PositionKeys.SIDE,
    "position_quantity": PositionKeys.QUANTITY,
    "realized_pnl": PositionKeys.REALIZED_PNL,
    "position_currency": PositionKeys.CURRENCY,
    "account_type": Account.TYPE,
    "account_base_currency": Account.BASE_CURRENCY,
    "balances": Account.BALANCES,
    "unrealized": Account.UNREALIZED_PNL,
    "contributions": Order.CONTRIBUTIONS,
    "fill_quantity": FillKeys.QUANTITY,
    "fill_price": FillKeys.PRICE,
    "fill_commission": FillKeys.COMMISSION,
    "flow_type": CashFlow.TYPE,
    "flow_amount": CashFlow.AMOUNT,
    "flow_currency": CashFlow.CURRENCY,
    "action_ratio": CorporateAction.RATIO,
}
CASH_FLOW_KINDS: Final = (
    EventType.CASH_FLOW,
    "DIVIDEND",
    "INTEREST",
    "FUNDING",
    "FEE",
    "DEPOSIT",
    "WITHDRAWAL",
)
"""Kinds of event that are cash flows: a host may use the type as the kind."""
TRANSFERS: Final = frozenset({"DEPOSIT", "WITHDRAWAL"})
"""Types of cash flow that are no profit."""
VARIATION_MARGIN: Final = "VARIATION_MARGIN"
"""Type of cash flow that pays a position's profit before it is closed."""
_FUTURES_STYLE: Final = "FUT"
"""FIX 1197 ValuationMethod; `FUTDA` is one of that style too."""
_MOST_MEANT: Final = 12
"""A number that has no more digits once it is rounded to 15 was meant to have so few."""
PLACES_OF_A_DOUBLE: Final = 9
"""A balance in doubles is told to so many places: more are what adding up left."""
_SIGNS: Final = {"BUY": 1, "SELL": -1}
_POSITION_KINDS: Final = frozenset(
    {EventType.POSITION_OPEN, EventType.POSITION_CHANGE, EventType.POSITION_CLOSE}
)
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
        sign: 1 for BUY, -1 for SELL; of a host that names no sides, the sign of its quantity.
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
        contributions: What a netted order is made of: strategies and signed quantities.
        price_factor: What its price has been multiplied by, and its quantity divided, for the
            splits that came after it.
        is_traded: False for what a corporate action came to, whose price is no market's.
        is_margined: Whether the position is paid what it gains as it gains it, by cash flows of
            type `VARIATION_MARGIN`.
        reason: Why it was made, in the host's word; that of an order is with the order.
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
    contributions: tuple[tuple[str, Decimal], ...] = ()
    price_factor: Decimal = Decimal(1)
    is_traded: bool = True
    is_margined: bool = False
    reason: str | None = None

    def with_currency(self, currency: str) -> FillEvent:
        """Fill in the currency of a fill that names none."""
        return replace(
            self,
            currency=self.currency or currency,
            settlement_currency=self.settlement_currency or currency,
            commission_currency=self.commission_currency or currency,
        )


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
        currency: Currency of the profit; empty if the engine names none.
    """

    ref: SpanRef
    event_type: str
    position_id: str
    symbol: str
    quantity: Decimal | None
    realized_pnl: Decimal | None
    currency: str


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of an account.

    Attributes:
        total: All of it.
        free: What can be used; ``None`` if not told.
        locked: What is reserved; ``None`` if not told.
        is_double: Whether the engine reckons in doubles, so that its last digits mean nothing.
    """

    total: Decimal
    free: Decimal | None
    locked: Decimal | None
    is_double: bool = False


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """An account as the engine states it.

    Attributes:
        ref: Its span.
        account_id: The engine's id.
        account_type: `CASH`, `MARGIN`, `BETTING`, or empty.
        base_currency: The one currency the account is kept in, if it is.
        balances: By currency; empty for one that the engine does not name.
        unrealized: Profit of what is open by the engine, by currency, where it tells one.
    """

    ref: SpanRef
    account_id: str
    account_type: str
    base_currency: str | None
    balances: Mapping[str, Balance]
    unrealized: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CashFlowEvent:
    """Money that an account gets or pays without a fill, as the host gives it.

    Attributes:
        ref: Its span.
        flow_type: `DIVIDEND`, `INTEREST`, `FUNDING`, `FEE`, `DEPOSIT`, `WITHDRAWAL`,
            `VARIATION_MARGIN` or others.
        amount: Positive when the account gets it.
        currency: Empty if the host names none.
        account_id: The engine's id of the account, if named.
        strategy: Empty if none.
        symbol: Empty if none.
        venue: Empty if unknown.
    """

    ref: SpanRef
    flow_type: str
    amount: Decimal
    currency: str
    account_id: str | None
    strategy: str
    symbol: str
    venue: str

    @property
    def is_transfer(self) -> bool:
        """Whether it is money that is put in or taken out, no profit."""
        return self.flow_type in TRANSFERS

    @property
    def is_margin(self) -> bool:
        """Whether it pays a position's profit before it is closed, and is none of its own."""
        return self.flow_type == VARIATION_MARGIN


@dataclass(frozen=True, slots=True)
class CorporateActionEvent:
    """A split, or shares that came without a fill.

    Attributes:
        ref: Its span.
        ratio: What prices are multiplied by from then on, and quantities divided.
        quantity: Signed size of the position after it; ``None`` if not told.
        cash: What was paid for a fraction, positive when the account gets it.
        currency: Of the cash; empty if the host names none.
        position_id: The engine's id of the position, if named.
        account_id: The engine's id of the account, if named.
        strategy: Empty if none.
        symbol: Empty if none.
        venue: Empty if unknown.
    """

    ref: SpanRef
    ratio: Decimal
    quantity: Decimal | None
    cash: Decimal
    currency: str
    position_id: str | None
    account_id: str | None
    strategy: str
    symbol: str
    venue: str


_Ordered = dict[tuple[str, str | None], tuple[tuple[str, Decimal], ...]]
LedgerEvent = FillEvent | PositionEvent | AccountEvent | CashFlowEvent
ReadEvent = LedgerEvent | CorporateActionEvent


@dataclass(frozen=True, slots=True)
class UnreadableFill:
    """A fill or a cash flow, or its commission, of which there is no number to take.

    Attributes:
        ref: Its span.
        event_type: What it is.
        lacks: What of it cannot be read, as the end of a sentence.
    """

    ref: SpanRef
    event_type: str = EventType.FILL
    lacks: str = "without side, quantity or price: not counted"


def read_ledger_events(
    connection: duckdb.DuckDBPyConnection, run_id: str
) -> Sequence[ReadEvent | UnreadableFill]:
    """Read fills, cash flows, corporate actions, positions and accounts of a run, in order.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
    """
    parameters = {name: json_path(key) for name, key in _PATHS.items()}
    cursor = connection.execute(read_sql("ledger_events"), parameters | {"run_id": run_id})
    names = [column[0] for column in cursor.description or ()]
    ordered: _Ordered = {}
    sideless: list[dict[str, Any]] = []
    events: list[ReadEvent | UnreadableFill] = []
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            values = dict(zip(names, row, strict=True))
            if values["event_type"] == EventType.ORDER:
                order = (values["portfolio"], values["client_order_id"])
                ordered[order] = _contributions(values["contributions"])
            elif values["event_type"] == EventType.FILL and values["told_side"] is None:
                sideless.append(values)
            else:
                events.extend(_events(values, ordered))
    if sideless:
        events.extend(_signed_fills(sideless, ordered))
        events.sort(key=lambda event: event.ref.sequence)
    return events


def _events(values: dict[str, Any], ordered: _Ordered) -> Iterator[ReadEvent | UnreadableFill]:
    event = _event(values)
    order = (values["portfolio"], values["client_order_id"])
    if isinstance(event, FillEvent) and not event.contributions and order in ordered:
        event = replace(event, contributions=ordered[order])
    if event is not None:
        yield event
    if isinstance(event, FillEvent) and _has_unreadable_commission(values):
        yield UnreadableFill(
            event.ref, lacks="with a commission that is no number: counted without it"
        )


def _signed_fills(
    sideless: Sequence[dict[str, Any]], ordered: _Ordered
) -> Iterator[ReadEvent | UnreadableFill]:
    """Read fills without a side, of which the sign of the quantity may be the side.

    That is so where any of the portfolio's is negative: a host whose quantities have no sign has
    no way to tell a sale.
    """
    signed = {values["portfolio"] for values in sideless if (_quantity(values) or 0) < 0}
    for values in sideless:
        side = "SELL" if (_quantity(values) or 0) < 0 else "BUY"
        told = {"side": side} if values["portfolio"] in signed else {}
        yield from _events({**values, **told}, ordered)


def _event(row: dict[str, Any]) -> ReadEvent | UnreadableFill | None:
    ref = SpanRef(
        row["portfolio"], row["sequence"], row["event_time"], row["trace_id"], row["span_id"]
    )
    kind = row["event_type"]
    if kind == EventType.FILL:
        return _fill(ref, row)
    if kind == EventType.PORTFOLIO:
        return _account(ref, row)
    if kind == EventType.CORPORATE_ACTION:
        return _corporate_action(ref, row)
    if kind not in _POSITION_KINDS:
        return _cash_flow(ref, row)
    if row["position_id"] is None:
        return None
    return PositionEvent(
        ref=ref,
        event_type=kind,
        position_id=row["position_id"],
        symbol=row["symbol"] or "",
        quantity=_held(row),
        realized_pnl=_decimal(row["realized_pnl"]),
        currency=row["position_currency"] or "",
    )


def _held(row: dict[str, Any]) -> Decimal | None:
    """The signed size of a position."""
    sign = _POSITION_SIGNS.get(row["position_side"] or "")
    size = _decimal(row["position_quantity"])
    return None if sign is None or size is None else sign * abs(_meant(size))


def _corporate_action(ref: SpanRef, row: dict[str, Any]) -> CorporateActionEvent | UnreadableFill:
    ratio = _decimal(row["action_ratio"] or "1")
    cash = _decimal(row["flow_amount"] or "0")
    if ratio is None or ratio <= 0 or cash is None:
        return UnreadableFill(ref, row["event_type"], "without a ratio: not counted")
    return CorporateActionEvent(
        ref=ref,
        ratio=ratio,
        quantity=_held(row),
        cash=_meant(cash),
        currency=row["flow_currency"] or row["currency"] or "",
        position_id=row["position_id"],
        account_id=row["account_id"],
        strategy=row["strategy"] or "",
        symbol=row["symbol"] or "",
        venue=row["venue"] or "",
    )


def _fill(ref: SpanRef, row: dict[str, Any]) -> FillEvent | UnreadableFill:
    sign = _SIGNS.get(row["side"] or "")
    quantity = _quantity(row)
    price = row["price"] if row["price"] is not None else _decimal(row["fill_price"])
    if sign is None or not quantity or price is None or (quantity < 0 and sign > 0):
        return UnreadableFill(ref)
    commission = row["commission"]
    if commission is None:
        commission = _decimal(row["fill_commission"]) or Decimal(0)
    is_inverse = row["is_inverse"] == "true"
    price_currency = row["currency"] or ""
    usual = row["base_currency"] if is_inverse and row["base_currency"] else price_currency
    settlement = row["settlement_currency"] or usual
    return FillEvent(
        ref=ref,
        sign=sign,
        quantity=abs(_meant(quantity)),
        price=_meant(price),
        commission=_meant(commission),
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
        contributions=_contributions(row["contributions"]),
        is_margined=str(row["valuation_method"] or "").upper().startswith(_FUTURES_STYLE),
        reason=row["order_reason"] or None,
    )


def _quantity(row: Mapping[str, Any]) -> Decimal | None:
    # A number with more digits than the lake's columns hold stays among the attributes.
    return row["quantity"] if row["quantity"] is not None else _decimal(row["fill_quantity"])


def _contributions(text: str | None) -> tuple[tuple[str, Decimal], ...]:
    """Read what a netted order is made of; nothing if it cannot be read."""
    given = _json(text)
    pairs: list[tuple[Any, Any]] = []
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list) and all(isinstance(one, Mapping) for one in given):
        pairs = [(one.get("strategy"), one.get("quantity")) for one in given]
    summed: dict[str, Decimal] = {}
    for strategy, quantity in pairs:
        size = _decimal(quantity)
        if size is None:
            return ()
        name = "" if strategy is None else str(strategy)
        summed[name] = summed.get(name, Decimal(0)) + size
    return tuple(summed.items())


def _has_unreadable_commission(row: dict[str, Any]) -> bool:
    """Whether a fill says what it cost in a way that is no number; NaN is no word."""
    word = str(row["fill_commission"] or "").strip().lower()
    if row["commission"] is not None or word in {"", "nan", "none", "null"}:
        return False
    return _decimal(word) is None


def _cash_flow(ref: SpanRef, row: dict[str, Any]) -> CashFlowEvent | UnreadableFill:
    amount = _decimal(row["flow_amount"])
    if amount is None:
        return UnreadableFill(ref, row["event_type"], "without amount: not counted")
    amount = _meant(amount)
    given = row["flow_type"] if row["event_type"] == EventType.CASH_FLOW else row["event_type"]
    flow_type = str(given or "").strip().upper()
    if flow_type == "WITHDRAWAL":
        amount = -abs(amount)
    return CashFlowEvent(
        ref=ref,
        flow_type=flow_type,
        amount=amount,
        currency=row["flow_currency"] or row["currency"] or "",
        account_id=row["account_id"],
        strategy=row["strategy"] or "",
        symbol=row["symbol"] or "",
        venue=row["venue"] or "",
    )


def _account(ref: SpanRef, row: dict[str, Any]) -> AccountEvent | None:
    balances = {}
    given = _json(row["balances"])
    if isinstance(given, Mapping):
        given = [
            {**told, "currency": currency}
            if isinstance(told, Mapping)
            else {"currency": currency, "total": told}
            for currency, told in given.items()
        ]
    for balance in given if isinstance(given, list) else ():
        if not isinstance(balance, Mapping):
            continue
        total = _decimal(balance.get("total"))
        if "currency" in balance and total is not None:
            is_double = isinstance(balance["total"], Decimal)  # exact ones are texts
            if is_double:
                total = rounded(total, PLACES_OF_A_DOUBLE)
            free, locked = _decimal(balance.get("free")), _decimal(balance.get("locked"))
            currency = str(balance["currency"] or "")  # of a host that names none
            balances[currency] = Balance(total, free, locked, is_double)
    if not balances:
        return None
    return AccountEvent(
        ref=ref,
        account_id=row["account_id"] or "",
        account_type=(row["account_type"] or "").upper(),
        base_currency=row["account_base_currency"],
        balances=balances,
        unrealized=_unrealized(row["unrealized"], row["account_base_currency"], balances),
    )


def _unrealized(
    text: str | None, base_currency: str | None, balances: Mapping[str, Balance]
) -> dict[str, Decimal]:
    """Read the open profit that an account states: by currency, or one number in its only one."""
    given = _json(text)
    if isinstance(given, Mapping):
        amounts = {str(currency): _decimal(amount) for currency, amount in given.items()}
        return {currency: amount for currency, amount in amounts.items() if amount is not None}
    only = base_currency or (next(iter(balances)) if len(balances) == 1 else None)
    amount = _decimal(text) if text is not None else None
    return {} if only is None or amount is None else {only: amount}


def _json(text: str | None) -> Any:
    """Read JSON, also where a host has written it into a text; None if it is none."""
    given: Any = text
    for _ in range(2):
        if not isinstance(given, str):
            break
        try:
            given = json.loads(given, parse_float=Decimal)
        except ValueError:
            return None
    return given


def _decimal(digits: Any) -> Decimal | None:
    """Read a number; None if it is none, or not a finite one."""
    if digits is None or isinstance(digits, bool):
        return None
    try:
        number = Decimal(str(digits).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _meant(number: Decimal) -> Decimal:
    """The number that a double stands for: 0.3 for 0.30000000000000004, any other as it is."""
    digits = number.normalize()
    if len(digits.as_tuple().digits) not in (16, 17):
        return number
    near = Context(prec=15).plus(number).normalize()
    return near if len(near.as_tuple().digits) <= _MOST_MEANT else number
