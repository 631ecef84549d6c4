"""Records NautilusTrader 2.x's market data, each publication once, at the cost of a tuple.

The engine hands every subscriber an object of its own, so the same data are known by being equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.emitter import Emitter
from fillpath.instrumentation.engine_run import EngineRun, Instrument
from fillpath.instrumentation.nautilus_rust_events import instrument_of
from fillpath.instrumentation.open_event import Handle
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME

_MOST_DIGITS: Final = 9
"""Digits behind the point, up to which a double prints every usual price and size as it was."""

_OF_A_BAR: Final = (
    semconv.Bar.OPEN,
    semconv.Bar.HIGH,
    semconv.Bar.LOW,
    semconv.Bar.CLOSE,
    semconv.Bar.VOLUME,
)
_OF_A_QUOTE: Final = (
    semconv.Tick.BID,
    semconv.Tick.ASK,
    semconv.Tick.BID_SIZE,
    semconv.Tick.ASK_SIZE,
)
_OF_A_TRADE: Final = (semconv.Tick.PRICE, semconv.Tick.SIZE)


def _numbers_of_bar(bar: Any) -> tuple[Any, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume


def _numbers_of_quote(quote: Any) -> tuple[Any, ...]:
    return quote.bid_price, quote.ask_price, quote.bid_size, quote.ask_size


def _numbers_of_trade(trade: Any) -> tuple[Any, ...]:
    return trade.price, trade.size


def _no_numbers(_: Any) -> tuple[Any, ...]:
    return ()


def _doubles_of_bar(bar: Any) -> tuple[float, ...]:
    return (
        bar.open.as_double(),
        bar.high.as_double(),
        bar.low.as_double(),
        bar.close.as_double(),
        bar.volume.as_double(),
    )


def _doubles_of_quote(quote: Any) -> tuple[float, ...]:
    return (
        quote.bid_price.as_double(),
        quote.ask_price.as_double(),
        quote.bid_size.as_double(),
        quote.ask_size.as_double(),
    )


def _doubles_of_trade(trade: Any) -> tuple[float, ...]:
    return trade.price.as_double(), trade.size.as_double()


_DOUBLES: Final[dict[Callable[[Any], tuple[Any, ...]], Callable[[Any], tuple[float, ...]]]] = {
    _numbers_of_bar: _doubles_of_bar,
    _numbers_of_quote: _doubles_of_quote,
    _numbers_of_trade: _doubles_of_trade,
    _no_numbers: _no_numbers,
}
"""The same numbers as doubles, read without a loop: every bar and tick comes through here."""


def _decimals(numbers: Callable[[Any], tuple[Any, ...]], data: Any) -> tuple[Any, ...]:
    return tuple(one.as_decimal() for one in numbers(data))


class Feed:
    """What all data of one kind and instrument have in common, and the last of them.

    Attributes:
        event_type: Their kind.
        instrument: What they are about.
        handle: Names the last of them as a cause.
        time: Simulated time of the last; None if it has none.
    """

    __slots__ = (
        "emit",
        "event_type",
        "handle",
        "instrument",
        "last",
        "numbers",
        "seen",
        "time",
    )

    def __init__(
        self,
        event_type: str,
        instrument: Instrument,
        emit: Emitter,
        numbers: Callable[[Any], tuple[Any, ...]],
        first: Any,
    ) -> None:
        self.event_type = event_type
        self.instrument = instrument
        self.emit = emit
        is_exact = all(one.precision <= _MOST_DIGITS for one in numbers(first))
        self.numbers = _DOUBLES[numbers] if is_exact else functools.partial(_decimals, numbers)
        self.last: Any = None
        self.seen: list[int] = []
        self.handle: Handle | None = None
        self.time: int | None = None


class MarketRecorder:
    """Records market data of one run.

    Args:
        run: Takes the events.
    """

    def __init__(self, run: EngineRun) -> None:
        self._run = run
        self._feeds: dict[Any, Feed] = {}

    def bar(self, bar: Any, who: int) -> Feed:
        """Record a bar, unless it is the one that others were given; gives its feed.

        Args:
            bar: The engine's.
            who: Whom the engine gives it to; 0 is somebody who may have been given it already.
        """
        bar_type = bar.bar_type
        feed = self._feeds.get(bar_type)
        if feed is None:
            texts = {semconv.Bar.TYPE: str(bar_type)}
            feed = self._feeds[bar_type] = self._feed(
                EventType.BAR, bar_type.instrument_id, _OF_A_BAR, _numbers_of_bar, bar, texts
            )
        return self._take(feed, bar, who)

    def quote(self, quote: Any, who: int) -> Feed:
        """Record a quote; see `bar`."""
        return self._tick(quote, who, EventType.TICK, _OF_A_QUOTE, _numbers_of_quote)

    def trade(self, trade: Any, who: int) -> Feed:
        """Record a trade of the market; see `bar`."""
        return self._tick(trade, who, EventType.TICK, _OF_A_TRADE, _numbers_of_trade)

    def book(self, book: Any, who: int) -> Feed:
        """Record a change of an order book, without its levels; see `bar`."""
        return self._tick(book, who, EventType.BOOK, (), _no_numbers)

    def _tick(
        self,
        data: Any,
        who: int,
        event_type: str,
        keys: tuple[str, ...],
        numbers: Callable[[Any], tuple[Any, ...]],
    ) -> Feed:
        key = keys, data.instrument_id
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._feed(
                event_type, data.instrument_id, keys, numbers, data
            )
        return self._take(feed, data, who)

    def _feed(
        self,
        event_type: str,
        instrument_id: Any,
        keys: tuple[str, ...],
        numbers: Callable[[Any], tuple[Any, ...]],
        first: Any,
        texts: dict[str, Any] | None = None,
    ) -> Feed:
        instrument = instrument_of(instrument_id)
        emit = self._run.tracer.emitter(
            event_type,
            portfolio=self._run.portfolio,
            symbol=instrument.symbol,
            venue=instrument.venue,
            fields=keys,
            texts=texts,
        )
        return Feed(event_type, instrument, emit, numbers, first)

    def _take(self, feed: Feed, data: Any, who: int) -> Feed:
        if feed.last is not None and feed.last == data and not (who and who in feed.seen):
            feed.seen.append(who)
            return feed
        time = data.ts_event
        is_time = 0 < time < -NO_TIME
        feed.time = time if is_time else None
        feed.handle = feed.emit(time if is_time else NO_TIME, None, *feed.numbers(data))
        feed.last = data
        feed.seen = [who]
        if feed.handle is not None:
            self._run.market = feed.handle
        return feed
