"""A host's words for the fields and kinds of its events, in those of the semantic conventions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from numbers import Real
from typing import Any, Final

from fillpath.instrumentation import semconv

_MAX_KIND: Final = 100
_USUAL_SIDES: Final = frozenset({"BUY", "SELL"})
_SIDES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("B", "BOT", "BOUGHT", "LONG", "COVER"), "BUY"),
    **dict.fromkeys(("BUYTOOPEN", "BUYTOCLOSE", "BUYTOCOVER"), "BUY"),
    **dict.fromkeys(("S", "SLD", "SOLD", "SHORT", "SELLSHORT", "SHORTSELL"), "SELL"),
    **dict.fromkeys(("SELLTOOPEN", "SELLTOCLOSE"), "SELL"),
}
"""What brokers call the sides, without what stands between the words."""
_VENUES_ID: Final = ("venue_order_id", "broker_order_id", "exchange_order_id")
_KNOWN_KEYS: Final[Mapping[str, str]] = {
    "client_order_id": semconv.Order.CLIENT_ID,
    "order_id": semconv.Order.CLIENT_ID,
    "orderid": semconv.Order.CLIENT_ID,
    **dict.fromkeys(_VENUES_ID, semconv.Order.ID),
    "side": semconv.Order.SIDE,
    "direction": semconv.Order.SIDE,
    "order_type": semconv.Order.TYPE,
    "status": semconv.Order.STATUS,
    "limit_price": semconv.Order.PRICE,
    "stop_price": semconv.Order.TRIGGER_PRICE,
    "trigger_price": semconv.Order.TRIGGER_PRICE,
    "time_in_force": semconv.Order.TIME_IN_FORCE,
    "reason": semconv.Order.REJECT_REASON,
    "fill_id": semconv.Fill.ID,
    "trade_id": semconv.Fill.ID,
    "tradeid": semconv.Fill.ID,
    "exec_id": semconv.Fill.ID,
    "execution_id": semconv.Fill.ID,
    "commission": semconv.Fill.COMMISSION,
    "fee": semconv.Fill.COMMISSION,
    "currency": semconv.Fill.CURRENCY,
    "position_id": semconv.Position.ID,
    "venue": semconv.Trading.VENUE,
    "exchange": semconv.Trading.VENUE,
    "open": semconv.Bar.OPEN,
    "high": semconv.Bar.HIGH,
    "low": semconv.Bar.LOW,
    "close": semconv.Bar.CLOSE,
    "volume": semconv.Bar.VOLUME,
    "rule": semconv.Risk.RULE,
    "limit": semconv.Risk.LIMIT,
}
_OF_AN_INSTRUMENT: Final = {
    "multiplier": semconv.Fill.MULTIPLIER,
    "contract_multiplier": semconv.Fill.MULTIPLIER,
    "settlement_currency": semconv.Fill.SETTLEMENT_CURRENCY,
    "valuation_method": semconv.Fill.VALUATION_METHOD,
    "is_inverse": semconv.Fill.IS_INVERSE,
    "base_currency": semconv.Fill.BASE_CURRENCY,
}
_OF_A_POSITION: Final = {
    "side": semconv.Position.SIDE,
    "direction": semconv.Position.SIDE,
    "quantity": semconv.Position.QUANTITY,
    "qty": semconv.Position.QUANTITY,
    "realized_pnl": semconv.Position.REALIZED_PNL,
    "currency": semconv.Position.CURRENCY,
}
_OF_A_REGIME: Final = {
    **dict.fromkeys(("name", "regime", "label", "new_regime", "to_regime"), semconv.Regime.NAME),
    **dict.fromkeys(("previous", "old_regime", "from_regime"), semconv.Regime.PREVIOUS),
}
_OF_A_CASH_FLOW: Final = {
    "type": semconv.CashFlow.TYPE,
    "flow_type": semconv.CashFlow.TYPE,
    "amount": semconv.CashFlow.AMOUNT,
    "currency": semconv.CashFlow.CURRENCY,
    "account_id": semconv.Account.ID,
}
_NUMBERS_OF_SHARES: Final = ("quantity", "qty", "size", "units", "shares", "amount", "volume")
_KEYS_BY_TYPE: Final[Mapping[str, Mapping[str, str]]] = {
    "FILL": {
        **dict.fromkeys(_NUMBERS_OF_SHARES, semconv.Fill.QUANTITY),
        "action": semconv.Order.SIDE,
        "price": semconv.Fill.PRICE,
        "fill_quantity": semconv.Fill.QUANTITY,
        "fill_qty": semconv.Fill.QUANTITY,
        "fill_price": semconv.Fill.PRICE,
        "last_qty": semconv.Fill.QUANTITY,
        "last_px": semconv.Fill.PRICE,
        "account_id": semconv.Account.ID,
        "contributions": semconv.Order.CONTRIBUTIONS,
        **_OF_AN_INSTRUMENT,
    },
    "ORDER": {
        **dict.fromkeys(_NUMBERS_OF_SHARES, semconv.Order.QUANTITY),
        "action": semconv.Order.SIDE,
        "price": semconv.Order.PRICE,
        "decision_price": semconv.Order.DECISION_PRICE,
        "order_reason": semconv.Order.REASON,
        "contributions": semconv.Order.CONTRIBUTIONS,
        **_OF_AN_INSTRUMENT,
    },
    "BAR": {
        "open_price": semconv.Bar.OPEN,
        "high_price": semconv.Bar.HIGH,
        "low_price": semconv.Bar.LOW,
        "close_price": semconv.Bar.CLOSE,
    },
    "SIGNAL": {
        "value": semconv.Signal.VALUE,
        "strength": semconv.Signal.STRENGTH,
        "name": semconv.Signal.NAME,
        "signal": semconv.Signal.NAME,
    },
    "TICK": {
        "price": semconv.Tick.PRICE,
        "size": semconv.Tick.SIZE,
        "last_price": semconv.Tick.PRICE,
        "bid": semconv.Tick.BID,
        "bid_price": semconv.Tick.BID,
        "ask": semconv.Tick.ASK,
        "ask_price": semconv.Tick.ASK,
        "bid_size": semconv.Tick.BID_SIZE,
        "ask_size": semconv.Tick.ASK_SIZE,
    },
    "PORTFOLIO": {
        "account_id": semconv.Account.ID,
        "account_type": semconv.Account.TYPE,
        "base_currency": semconv.Account.BASE_CURRENCY,
        "balances": semconv.Account.BALANCES,
        "unrealized_pnl": semconv.Account.UNREALIZED_PNL,
    },
    # The type of a cash flow may be the kind of its event.
    **dict.fromkeys(
        ("CASH_FLOW", "DIVIDEND", "INTEREST", "FUNDING", "FEE", "DEPOSIT", "WITHDRAWAL"),
        _OF_A_CASH_FLOW,
    ),
    "REGIME_CHANGE": _OF_A_REGIME,
    "CLASSIFICATION": _OF_A_REGIME,
    "RISK_BREACH": {"value": semconv.Risk.VALUE},
    "POSITION_OPEN": _OF_A_POSITION,
    "POSITION_CHANGE": _OF_A_POSITION,
    "POSITION_CLOSE": _OF_A_POSITION,
}

OWN_KINDS: Final = frozenset(
    {*(kind for name, kind in vars(semconv.EventType).items() if name.isupper()), *_KEYS_BY_TYPE}
)
"""Kinds of events that mean something to fillpath."""
OWN_SPACES: Final = frozenset(
    key.split(".")[1]
    for group in vars(semconv).values()
    if isinstance(group, type)
    for key in vars(group).values()
    if isinstance(key, str) and re.fullmatch(r"trading\.\w+\.\w+", key)
)
"""Words that keys of the semantic conventions have after ``trading.``."""


def key_of(kind: str, name: str) -> str:
    """Key of a field of an event of this kind."""
    if "." in name:  # the host speaks the semantic conventions
        return name
    by_kind = _KEYS_BY_TYPE.get(kind, {})
    return by_kind.get(name) or _KNOWN_KEYS.get(name) or own_key(kind, name)


def own_key(kind: str, name: str) -> str:
    """Key of a field that the semantic conventions have no word for."""
    return f"trading.{kind.lower()}.{name}"


@lru_cache(4096)  # a host has few kinds of events
def kind_of(word: str) -> str:
    """Kind of event that a host's word means: `position opened` and `PositionOpened` alike."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-]+", "_", word).upper()[:_MAX_KIND]


def side(value: Any) -> Any:
    """`BUY` or `SELL`; a word that means neither stays as it is."""
    word = value.name if isinstance(value, Enum) else value
    if isinstance(word, str):
        word = word.strip().upper()
        if word in _USUAL_SIDES:
            return word
        return _SIDES.get(re.sub(r"[\s_\-]+", "", word), word)
    if isinstance(word, Real | Decimal) and not isinstance(word, bool):  # numpy's are real ones
        number: Any = word
        with contextlib.suppress(ArithmeticError):  # a Decimal that is not a number
            return "BUY" if number > 0 else "SELL" if number < 0 else value
    return value
