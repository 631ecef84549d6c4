"""Reads backtrader's orders, feeds and clocks: what each says, in fillpath's words."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.kept_parameters import kept

_EPOCH: Final = dt.date(1970, 1, 1).toordinal()
_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
_DOUBT_US: Final = 5
"""Half of what a double can tell apart, in microseconds, at the engine's count of days."""

# By the engine's numbers, which are the same for every broker.
STATUS_WORDS: Final = (
    "INITIALIZED",  # Created
    "SUBMITTED",
    "ACCEPTED",
    "PARTIALLY_FILLED",
    "FILLED",  # Completed
    "CANCELED",
    "EXPIRED",
    "REJECTED",  # Margin
    "REJECTED",
)
CREATED, PARTIAL, COMPLETED, CANCELED, EXPIRED, MARGIN, REJECTED = 0, 3, 4, 5, 6, 7, 8
_TYPE_WORDS: Final = (
    "MARKET",
    "MARKET",  # Close
    "LIMIT",
    "STOP_MARKET",
    "STOP_LIMIT",
    "TRAILING_STOP_MARKET",
    "TRAILING_STOP_LIMIT",
    "HISTORICAL",
)
_CLOSE, _LIMIT, _STOP, _STOP_LIMIT, _TRAIL, _TRAIL_LIMIT = range(1, 7)
_TRIGGERED: Final = (_STOP, _STOP_LIMIT, _TRAIL, _TRAIL_LIMIT)
SIGNAL_WORDS: Final = {
    1: "LONGSHORT",
    2: "LONG",
    3: "LONG_INV",
    4: "LONG_ANY",
    5: "SHORT",
    6: "SHORT_INV",
    7: "SHORT_ANY",
    8: "LONGEXIT",
    9: "LONGEXIT_INV",
    10: "LONGEXIT_ANY",
    11: "SHORTEXIT",
    12: "SHORTEXIT_INV",
    13: "SHORTEXIT_ANY",
}
"""What a signal is for, by the engine's numbers."""
_UNITS: Final = {1: "tick", 2: "us", 3: "s", 4: "m", 5: "d", 6: "w", 7: "M", 8: "y"}


def time_of(days: float) -> int | None:
    """Give nanoseconds since the epoch for the engine's time, which is a double that counts days.

    Such a time is right to ten microseconds; one as near to a whole second as that is that second.
    """
    try:
        whole = int(days)
        micros = round((days - whole) * _DAY_US)
    except (TypeError, ValueError, OverflowError):
        return None
    if whole <= 0:
        return None
    past = micros % _SECOND_US
    if past <= _DOUBT_US:
        micros -= past
    elif past >= _SECOND_US - _DOUBT_US:
        micros += _SECOND_US - past
    return ((whole - _EPOCH) * _DAY_US + micros) * 1_000


def feed_names(feeds: Sequence[Any]) -> list[str]:
    """Name every feed as what is traded; backtrader keeps a position for each, so names differ.

    It is the name that the host gave it, or that of its file. A feed that is made of another one
    has that one's name and the length of its bars, such as ``EURUSD 4h``.
    """
    names: list[str] = []
    taken: set[str] = set()
    by_feed: dict[int, str] = {}
    for number, feed in enumerate(feeds):
        name = str(getattr(feed, "_name", "") or "")
        if not name:
            source = by_feed.get(id(getattr(feed, "data", None)))
            name = f"{source} {_interval(feed)}" if source else f"data{number}"
        unique, again = name, itertools.count(2)
        while unique in taken:
            unique = f"{name}#{next(again)}"
        taken.add(unique)
        by_feed[id(feed)] = unique
        names.append(unique)
    return names


def _interval(feed: Any) -> str:
    """The length of a feed's bars, such as ``15m`` or ``1d``."""
    unit, count = int(feed._timeframe), int(feed._compression)
    if unit == 4 and count % 60 == 0:
        return f"{count // 60}h"
    return f"{count}{_UNITS.get(unit, '')}"


def strategy_names(strategies: Sequence[Any]) -> dict[int, str]:
    """Name every strategy by its class, with a number where a class runs several times; by `id`."""
    names = _numbered([type(strategy).__name__ for strategy in strategies])
    return {id(strategy): name for strategy, name in zip(strategies, names, strict=True)}


def _numbered(classes: Sequence[str]) -> list[str]:
    """Put a number behind each name that is there several times."""
    return [
        f"{name}-{classes[: place + 1].count(name)}" if classes.count(name) > 1 else name
        for place, name in enumerate(classes)
    ]


def parameters_of(tried: Any) -> dict[str, Any]:
    """Give the parameters of the strategies of a run: plain values, by name.

    With several strategies, a name has the strategy's before it, as `strategy_names` has it.

    Args:
        tried: Classes, arguments and keyword arguments, as the engine holds them.
    """
    found: dict[str, Any] = {}
    if not isinstance(tried, tuple | list):
        return found
    names = _numbered([strategy.__name__ for strategy, _, _ in tried])
    for name_of_strategy, (strategy, _, settings) in zip(names, tried, strict=True):
        defaults = strategy.params._getpairs() if hasattr(strategy, "params") else {}
        prefix = f"{name_of_strategy}." if len(tried) > 1 else ""
        own = kept({**defaults, **settings}.items())
        found |= {prefix + name: value for name, value in own.items()}
    return found


def number_meant(number: float) -> Decimal:
    """The number that a double stands for: 0.3 for 0.30000000000000004, any other as it is."""
    plain = float(number)  # numpy's numbers print themselves with their type
    near = Decimal(f"{plain:.15g}")
    return near if len(near.normalize().as_tuple().digits) <= 12 else Decimal(repr(plain))


def profit_of(profit: float, notional: float) -> Decimal:
    """The profit of an execution, without the digits beyond what doubles of its size can hold."""
    size = abs(notional)
    places = 12 if size < 100 or not math.isfinite(size) else 14 - math.floor(math.log10(size))
    return Decimal(repr(round(float(profit), places)))


def amount_of(amount: float) -> float:
    """An amount of money that is a difference of doubles, without the digits that it cannot hold.

    More than twelve places would count as ones that the engine keeps its money to.
    """
    return round(float(amount), 12)


def side_of(order: Any) -> str:
    """``BUY`` or ``SELL``."""
    return "BUY" if order.isbuy() else "SELL"


def type_of(order: Any) -> str:
    """Type of an order, in FIX's words; a broker's own types keep their names."""
    number = order.exectype
    if isinstance(number, int) and 0 <= number < len(_TYPE_WORDS):
        return _TYPE_WORDS[number]
    return str(number).upper()


def attributes_of_new(order: Any) -> dict[str, Any]:
    """What is known of an order when it is made."""
    created, kind = order.created, order.exectype
    price = created.price if kind == _LIMIT else None
    if kind in {_STOP_LIMIT, _TRAIL_LIMIT}:
        price = created.pricelimit
    parent = order.p.parent
    return {
        semconv.Order.SIDE: side_of(order),
        semconv.Order.TYPE: type_of(order),
        semconv.Order.QUANTITY: abs(created.size),
        semconv.Order.PRICE: price,
        semconv.Order.TRIGGER_PRICE: created.price if kind in _TRIGGERED else None,
        semconv.Order.TIME_IN_FORCE: _time_in_force(order),
        semconv.Order.PARENT_ID: None if parent is None else str(parent.ref),
    }


def _time_in_force(order: Any) -> str:
    if order.exectype == _CLOSE:
        return "AT_THE_CLOSE"
    valid = order.p.valid
    if valid is None:
        return "GTC"
    is_day = not valid if isinstance(valid, int | float | dt.timedelta) else False
    return "DAY" if is_day else "GTD"


def told_by_host(order: Any) -> dict[str, Any]:
    """What the host has put into the order's `info` that fillpath has a key for."""
    info: Mapping[str, Any] = order.info
    if not info:
        return {}
    return {
        semconv.Order.REASON: info.get("reason"),
        semconv.Order.CONTRIBUTIONS: info.get("contributions"),
    }


def trigger_of(order: Any) -> float | None:
    """Where a trailing stop has come to."""
    price: float = order.created.price
    return price if order.exectype in {_TRAIL, _TRAIL_LIMIT} else None
