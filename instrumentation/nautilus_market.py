"""Reads NautilusTrader's market data at the least cost: there is more of it than of all the rest.

What the events of one instrument have in common is looked up once. A price is read as the integer
that its digits are, by way of a float: a number of at most 15 digits survives that, because three
roundings of 2**-53 each are less than half of its last digit.

The engine makes an id anew each time that it is asked for, so to hash one takes longer than to
compare it with the last. (Ids know how to be equal; to be unequal costs them more: SIM201.)
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
_LIMIT: Final = float(MAX_MANTISSA) ** 2
"""No number whose square is less, alone or among others, has more digits than a record holds."""
_NEAREST: Final = 1.5 * 2.0**52
"""Added and taken away again it leaves the nearest integer, for there is no room for a fraction."""
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
        instrument_id: Of the instrument.
        spec: Of bars, how they are made; None if that does not say which bars they are.
        is_external: Of bars, whether somebody else made them.
    """

    __slots__ = (
        "factors", "instrument_id", "is_external", "place", "precisions", "site", "spec", "texts",
    )  # fmt: skip

    def __init__(self, place: Place, instrument_id: Any) -> None:
        self.place = place
        self.texts: dict[str, Any] = {}
        self.instrument_id = instrument_id
        self.spec: Any = None
        self.is_external = False
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
        self._bars_of: dict[Any, _Source] = {}
        """The last bars of each instrument: a type of bars takes longest to compare."""
        self._quotes: dict[Any, _Source] = {}
        self._trades: dict[Any, _Source] = {}
        self._books: dict[Any, _Source] = {}
        self._last_bars: _Source | None = None
        self._last_quotes: _Source | None = None
        self._last_trades: _Source | None = None
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
        source = self._last_bars
        if source is None or not bar_type.instrument_id == source.instrument_id:  # noqa: SIM201
            source = self._bars_of.get(bar_type.instrument_id)
        if (
            source is None
            or source.spec is None
            or bar_type.spec != source.spec
            or bar_type.is_externally_aggregated() != source.is_external
            or bar_type.is_composite()
        ):
            source = self._source_of_bars(bar_type)
        self._last_bars = source
        a, b, c, d, e = bar.open, bar.high, bar.low, bar.close, bar.volume
        if source.precisions == (a.precision, b.precision, c.precision, d.precision, e.precision):
            fa, fb, fc, fd, fe = source.factors
            a_ = a.as_double() * fa + _NEAREST - _NEAREST
            b_ = b.as_double() * fb + _NEAREST - _NEAREST
            c_ = c.as_double() * fc + _NEAREST - _NEAREST
            d_ = d.as_double() * fd + _NEAREST - _NEAREST
            e_ = e.as_double() * fe + _NEAREST - _NEAREST
            if a_ * a_ + b_ * b_ + c_ * c_ + d_ * d_ + e_ * e_ < _LIMIT:
                placed = source.site, (a_, b_, c_, d_, e_), _NOTHING_LEFT
                time = bar.ts_event
                return self._open_at(
                    source.place, cause, time if 0 < time < -NO_TIME else NO_TIME, placed
                )
        return self._open_slowly(source, bar, cause, _PRICES_OF_A_BAR, (a, b, c, d, e))

    def _source_of_bars(self, bar_type: Any) -> _Source:
        instrument_id = bar_type.instrument_id
        source = self._bars.get(bar_type)
        if source is None:
            source = self._bars[bar_type] = self._source(EventType.BAR, instrument_id)
            source.texts[semconv.Bar.TYPE] = str(bar_type)
            if not bar_type.is_composite():
                source.spec = bar_type.spec
                source.is_external = bar_type.is_externally_aggregated()
        self._bars_of[instrument_id] = source
        return source

    def _open_quote(self, tick: Any, cause: OpenEvent | None) -> OpenEvent:
        instrument_id = tick.instrument_id
        source = self._last_quotes
        if source is None or not instrument_id == source.instrument_id:  # noqa: SIM201
            source = self._quotes.get(instrument_id)
            if source is None:
                source = self._quotes[instrument_id] = self._source(EventType.TICK, instrument_id)
            self._last_quotes = source
        a, b, c, d = tick.bid_price, tick.ask_price, tick.bid_size, tick.ask_size
        if source.precisions == (a.precision, b.precision, c.precision, d.precision):
            fa, fb, fc, fd = source.factors
            a_ = a.as_double() * fa + _NEAREST - _NEAREST
            b_ = b.as_double() * fb + _NEAREST - _NEAREST
            c_ = c.as_double() * fc + _NEAREST - _NEAREST
            d_ = d.as_double() * fd + _NEAREST - _NEAREST
            if a_ * a_ + b_ * b_ + c_ * c_ + d_ * d_ < _LIMIT:
                placed = source.site, (a_, b_, c_, d_, 0.0), _NOTHING_LEFT
                time = tick.ts_event
                return self._open_at(
                    source.place, cause, time if 0 < time < -NO_TIME else NO_TIME, placed
                )
        return self._open_slowly(source, tick, cause, _PRICES_OF_A_QUOTE, (a, b, c, d))

    def _open_trade(self, tick: Any, cause: OpenEvent | None) -> OpenEvent:
        instrument_id = tick.instrument_id
        source = self._last_trades
        if source is None or not instrument_id == source.instrument_id:  # noqa: SIM201
            source = self._trades.get(instrument_id)
            if source is None:
                source = self._trades[instrument_id] = self._source(EventType.TICK, instrument_id)
            self._last_trades = source
        a, b = tick.price, tick.size
        if source.precisions == (a.precision, b.precision):
            fa, fb = source.factors
            a_ = a.as_double() * fa + _NEAREST - _NEAREST
            b_ = b.as_double() * fb + _NEAREST - _NEAREST
            if a_ * a_ + b_ * b_ < _LIMIT:
                placed = source.site, (a_, b_, 0.0, 0.0, 0.0), _NOTHING_LEFT
                time = tick.ts_event
                return self._open_at(
                    source.place, cause, time if 0 < time < -NO_TIME else NO_TIME, placed
                )
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
        return _Source(place, instrument_id)

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
