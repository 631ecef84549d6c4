"""The kinds of event that the stream of a bar strategy has: sorts, symbols, strategies, sides."""

from __future__ import annotations

from typing import Final, NamedTuple

from fillpath.instrumentation.semconv import Bar, EventType, Fill, Order, Position, Signal
from fillpath.instrumentation.spool import Field, FieldKind
from real_prices import EUR_USD

SYMBOLS: Final = (
    "AAPL", "FB", "GOOG", "IBM", "MSFT", EUR_USD, "AAPL.X", "GOOG.X", "IBM.X", "MSFT.X",
)  # fmt: skip
"""Those with an X take other blocks of the same stock."""
AVERAGES: Final = ((10, 50), (20, 100), (30, 150), (50, 200), (100, 400))
"""Bars in the fast and the slow moving average of each strategy."""
MOMENTUM: Final = "feature.momentum"
DEVIATION: Final = "feature.deviation"

_MARKET: Final = (Order.TYPE, "MARKET")
_POSITIONS: Final = ((EventType.POSITION_OPEN, "LONG"), (EventType.POSITION_CLOSE, "FLAT"))


class Kind(NamedTuple):
    """A site: what many events of the stream have in common.

    `texts` are attributes with the same value on all of them, `fields` their numbers in order.
    """

    event_type: str
    symbol: str
    strategy: str | None
    venue: str
    fields: tuple[Field, ...]
    texts: tuple[tuple[str, str], ...] = ()


def price_scale(symbol: str) -> int:
    """Digits after the point that a symbol is quoted in."""
    return 5 if symbol == EUR_USD else 2


def kinds_by_sort() -> dict[str, list[Kind]]:
    """All kinds, in the order of symbols, then strategies, then sides."""
    sorts: dict[str, list[Kind]] = {
        sort: [] for sort in ("bar", "features", "signal", "order", "fill", "position")
    }
    for symbol in SYMBOLS:
        venue = "XFOR" if symbol == EUR_USD else "XNAS"
        prices = (_price(key, symbol) for key in (Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE))
        fields = (*prices, _whole(Bar.VOLUME))
        sorts["bar"].append(Kind(EventType.BAR, symbol, None, venue, fields))
        for fast, slow in AVERAGES:
            of_strategy = _of_strategy(symbol, f"Crossing-{fast}-{slow}", venue)
            for sort, kinds in of_strategy.items():
                sorts[sort] += kinds
    return sorts


def _of_strategy(symbol: str, strategy: str, venue: str) -> dict[str, list[Kind]]:
    def kind(event_type: str, fields: list[Field], *texts: tuple[str, str]) -> Kind:
        return Kind(event_type, symbol, strategy, venue, tuple(fields), texts)

    value = [Field(Signal.VALUE, FieldKind.INTEGER), Field(Signal.STRENGTH)]
    fill = [
        _whole(Fill.QUANTITY),
        _price(Fill.PRICE, symbol),
        Field(Fill.COMMISSION, FieldKind.DECIMAL, 2),
    ]
    held = [_whole(Position.QUANTITY), _price(Position.AVERAGE_OPEN_PRICE, symbol)]
    sides = [(Order.SIDE, side) for side in ("BUY", "SELL")]
    sent, filled = (Order.STATUS, "SUBMITTED"), (Order.STATUS, "FILLED")
    dollars = (Fill.CURRENCY, "USD")
    return {
        "features": [kind(EventType.FEATURES, [Field(MOMENTUM), Field(DEVIATION)])],
        "signal": [kind(EventType.SIGNAL, value, (Signal.NAME, "crossing"))],
        "order": [
            kind(EventType.ORDER, [_whole(Order.QUANTITY)], side, _MARKET, sent) for side in sides
        ],
        "fill": [kind(EventType.FILL, fill, side, _MARKET, filled, dollars) for side in sides],
        "position": [
            kind(event_type, held, (Position.SIDE, side), (Position.CURRENCY, "USD"))
            for event_type, side in _POSITIONS
        ],
    }


def _whole(key: str) -> Field:
    return Field(key, FieldKind.DECIMAL, 0)


def _price(key: str, symbol: str) -> Field:
    return Field(key, FieldKind.DECIMAL, price_scale(symbol))
