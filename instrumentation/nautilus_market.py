"""Reads NautilusTrader's market data at the least cost: there is more of it than of all the rest.

What the events of one instrument have in common is looked up once. A price is read as the integer
that its digits are, by way of a float: a number of at most 15 digits survives that, because three
roundings of 2**-53 each are less than half of its last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from nautilus_trader.model.data import (
    Bar,
    OrderBookDelta,
    OrderBookDeltas,
    OrderBookDepth10,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.objects import Price

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import OpenEvent, Place
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import MAX_MANTISSA, NO_TIME

MARKET_DATA: Final = (Bar, QuoteTick, TradeTick, OrderBookDelta, OrderBookDeltas, OrderBookDepth10)
"""Messages that come from the market; an engine's simulated time moves with them."""

_PRICES_OF_A_BAR: Final = (
    semconv.Bar.OPEN,
    semconv.Bar.HIGH,
    semconv.Bar.LOW,
    semconv.Bar.CLOSE,
    semconv.Bar.VOLUME,
)
_PRICES_OF_A_QUOTE: Final = (
    semconv.Tick.BID,
    semconv.Tick.ASK,
    semconv.Tick.BID_SIZE,
    semconv.Tick.ASK_SIZE,
)
_PRICES_OF_A_TRADE: Final = (semconv.Tick.PRICE, semconv.Tick.SIZE)
_LIMIT: Final = float(MAX_MANTISSA)
_UNIT: Final[int] = Price(1, 0).raw
"""What the engine's integers are parts of."""
_MAX_PRECISION: Final = len(str(_UNIT)) - 1
_NOTHING_LEFT: Final[dict[str, Any]] = {}


def exact(number: Any) -> Decimal:
    """A price or a quantity with the digits that the engine prints, the last zeros too."""
    precision = number.precision
    if precision <= _MAX_PRECISION:
        mantissa, below = divmod(number.raw, _UNIT // 10**precision)
        if not below:
            return Decimal(f"{mantissa}E-{precision}")  # no context of the host's rounds this
    decimal: Decimal = number.as_decimal()
    return decimal


class _Source:
    """What all data of one kind and instrument have in common.

    Attributes:
        place: Kind, portfolio and instrument.
        texts: Attributes that are the same for all.
        precisions: Digits behind the point of the numbers that `site` and `factors` are for.
        site: Site of events with such numbers.
        factors: What makes integers of such numbers.
    """

    __slots__ = ("factors", "place", "precisions", "site", "texts")

    def __init__(self, place: Place, texts: dict[str, Any]) -> None:
        self.place = place
        self.texts = texts
        self.precisions: tuple[int, ...] = ()
        self.site = 0
        self.factors: tuple[float, ...] = ()


class MarketReader:
    """Opens the events of market data.

    Args:
        tracer: Who records them.
        portfolio: Their portfolio namespace.
    """

    def __init__(self, tracer: EventTracer, portfolio: str) -> None:
        self._tracer = tracer
        self._open_at = tracer.open_at
        self._portfolio = portfolio
        self._bars: dict[Any, _Source] = {}
        self._quotes: dict[Any, _Source] = {}
        self._trades: dict[Any, _Source] = {}
        self._books: dict[Any, _Source] = {}
        openers: dict[type, Callable[[Any, OpenEvent | None], OpenEvent]] = {
            Bar: self._open_bar,
            QuoteTick: self._open_quote,
            TradeTick: self._open_trade,
            OrderBookDelta: self._open_book,
            OrderBookDeltas: self._open_book,
            OrderBookDepth10: self._open_book,
        }
        self.opener = openers.get
        """Gives what opens the event of a message of a class; None if that is no market data."""

    def _open_bar(self, bar: Any, cause: OpenEvent | None) -> OpenEvent:
        bar_type = bar.bar_type
        source = self._bars.get(bar_type)
        if source is None:
            source = self._source(EventType.BAR, bar_type.instrument_id)
            source.texts[semconv.Bar.TYPE] = str(bar_type)
            self._bars[bar_type] = source
        a, b, c, d, e = bar.open, bar.high, bar.low, bar.close, bar.volume
        if source.precisions == (a.precision, b.precision, c.precision, d.precision, e.precision):
            fa, fb, fc, fd, fe = source.factors
            # Halfway up and down again is the nearest integer, as a float.
            a_ = (a.as_double() * fa + 0.5) // 1
            b_ = (b.as_double() * fb + 0.5) // 1
            c_ = (c.as_double() * fc + 0.5) // 1
            d_ = (d.as_double() * fd + 0.5) // 1
            e_ = (e.as_double() * fe + 0.5) // 1
            if (
                -_LIMIT < a_ < _LIMIT
                and -_LIMIT < b_ < _LIMIT
                and -_LIMIT < c_ < _LIMIT
                and -_LIMIT < d_ < _LIMIT
                and -_LIMIT < e_ < _LIMIT
            ):
                placed = source.site, (a_, b_, c_, d_, e_), _NOTHING_LEFT
                return self._open_at(source.place, cause, time_of(bar), placed)
        return self._open_slowly(source, bar, cause, _PRICES_OF_A_BAR, (a, b, c, d, e))

    def _open_quote(self, tick: Any, cause: OpenEvent | None) -> OpenEvent:
        instrument_id = tick.instrument_id
        source = self._quotes.get(instrument_id)
        if source is None:
            source = self._quotes[instrument_id] = self._source(EventType.TICK, instrument_id)
        a, b, c, d = tick.bid_price, tick.ask_price, tick.bid_size, tick.ask_size
        if source.precisions == (a.precision, b.precision, c.precision, d.precision):
            fa, fb, fc, fd = source.factors
            a_ = (a.as_double() * fa + 0.5) // 1
            b_ = (b.as_double() * fb + 0.5) // 1
            c_ = (c.as_double() * fc + 0.5) // 1
            d_ = (d.as_double() * fd + 0.5) // 1
            if (
                -_LIMIT < a_ < _LIMIT
                and -_LIMIT < b_ < _LIMIT
                and -_LIMIT < c_ < _LIMIT
                and -_LIMIT < d_ < _LIMIT
            ):
                placed = source.site, (a_, b_, c_, d_, 0.0), _NOTHING_LEFT
                return self._open_at(source.place, cause, time_of(tick), placed)
        return self._open_slowly(source, tick, cause, _PRICES_OF_A_QUOTE, (a, b, c, d))

    def _open_trade(self, tick: Any, cause: OpenEvent | None) -> OpenEvent:
        instrument_id = tick.instrument_id
        source = self._trades.get(instrument_id)
        if source is None:
            source = self._trades[instrument_id] = self._source(EventType.TICK, instrument_id)
        a, b = tick.price, tick.size
        if source.precisions == (a.precision, b.precision):
            fa, fb = source.factors
            a_ = (a.as_double() * fa + 0.5) // 1
            b_ = (b.as_double() * fb + 0.5) // 1
            if -_LIMIT < a_ < _LIMIT and -_LIMIT < b_ < _LIMIT:
                placed = source.site, (a_, b_, 0.0, 0.0, 0.0), _NOTHING_LEFT
                return self._open_at(source.place, cause, time_of(tick), placed)
        return self._open_slowly(source, tick, cause, _PRICES_OF_A_TRADE, (a, b))

    def _open_book(self, message: Any, cause: OpenEvent | None) -> OpenEvent:
        instrument_id = message.instrument_id
        source = self._books.get(instrument_id)
        if source is None:
            source = self._books[instrument_id] = self._source(EventType.BOOK, instrument_id)
        return self._open_at(source.place, cause, time_of(message))

    def _source(self, event_type: str, instrument_id: Any) -> _Source:
        place = self._tracer.place(
            event_type,
            portfolio=self._portfolio,
            symbol=instrument_id.symbol.value,
            venue=instrument_id.venue.value,
        )
        return _Source(place, {})

    def _open_slowly(
        self,
        source: _Source,
        message: Any,
        cause: OpenEvent | None,
        keys: tuple[str, ...],
        values: tuple[Any, ...],
    ) -> OpenEvent:
        """Open the first event of its kind, or one with a number that has too many digits."""
        attributes = {**source.texts, **zip_exact(keys, values)}
        placed = self._tracer.placed(source.place, attributes)
        site, _, rest = placed
        if not rest:  # every number has found its place, in the order of the keys
            source.precisions = tuple(value.precision for value in values)
            source.factors = tuple(float(10**precision) for precision in source.precisions)
            source.site = site
        return self._open_at(source.place, cause, time_of(message), placed)


def zip_exact(keys: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, Decimal]:
    """Numbers of the engine's by key, with their digits."""
    return {key: exact(value) for key, value in zip(keys, values, strict=True)}


def time_of(message: Any) -> int:
    """Simulated time of a message; before the first market event it stands at 0, which is none."""
    time: int = message.ts_event
    return time if 0 < time < -NO_TIME else NO_TIME
