"""Reads basana's events, and remembers under which record each of them is known."""

from __future__ import annotations

import datetime as dt
import re
import weakref
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Final, NamedTuple

from basana.core.enums import Position
from basana.core.event_sources.trading_signal import BaseTradingSignal

from fillpath.instrumentation.engine_run import NOWHERE, Instrument
from fillpath.instrumentation.host_parts import fields_of, is_plain, is_scalar
from fillpath.instrumentation.host_words import OWN_KINDS, OWN_SPACES
from fillpath.instrumentation.open_event import Cause, OpenEvent
from fillpath.instrumentation.semconv import EventType

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_STRENGTHS: Final = {Position.LONG: 1.0, Position.SHORT: -1.0, Position.NEUTRAL: 0.0}
_KINDS: Final = {
    "TradeEvent": EventType.TICK,
    "OrderBookEvent": EventType.BOOK,
    "OrderBookDiffEvent": EventType.BOOK,
    "PartialOrderBookEvent": EventType.BOOK,
}
"""Events of exchanges that are real, by the names of their classes."""
_NEXT_WORD: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where the next word of a class's name begins: `RSINews` is of two."""
_REMEMBERED_BARS: Final = 4096
_PARTS: Final = ("trade", "order_book", "order_book_diff", "bar")


class Recorded(NamedTuple):
    """Under which record an event of basana's is known.

    Attributes:
        cause: The record, to name it as a cause.
        event_type: Its kind.
        event_time: When it happened, in nanoseconds since the epoch.
        instrument: What it is about.
        links: Records of the same event, where it stands for several.
        strategy: Whose opinion it is, if it is a signal.
        by_symbol: The records of a signal of several pairs.
    """

    cause: Cause | None
    event_type: str
    event_time: int
    instrument: Instrument = NOWHERE
    links: tuple[OpenEvent, ...] = ()
    strategy: str | None = None
    by_symbol: Mapping[str | None, OpenEvent] = {}


class RecordedEvents:
    """Events of basana's that have been recorded, for as long as there is a use for them.

    Users may make events that cannot be hashed, so they are known by their addresses.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Recorded]] = {}
        self._bars: dict[int, tuple[Any, Recorded]] = {}
        self._bars_before: dict[int, tuple[Any, Recorded]] = {}

    def get(self, event: Any) -> Recorded | None:
        """Find the record of an event."""
        key = id(event)
        found = self._bars.get(key) or self._known.get(key) or self._bars_before.get(key)
        return None if found is None else found[1]

    def keep_bar(self, event: Any, recorded: Recorded) -> Recorded:
        """Remember the record of a bar until thousands of others have come.

        There are many, and handlers are given each of them at once: a weak reference costs more.
        """
        self._bars[id(event)] = event, recorded
        if len(self._bars) >= _REMEMBERED_BARS:
            self._bars, self._bars_before = {}, self._bars
        return recorded

    def keep(self, event: Any, recorded: Recorded) -> Recorded:
        """Remember the record of an event until the event is gone."""
        key, known = id(event), self._known
        known[key] = weakref.ref(event, lambda _: known.pop(key, None)), recorded
        return recorded


def nanoseconds(when: dt.datetime) -> int:
    """Exact nanoseconds since the epoch of a moment with a time zone."""
    return (when - _EPOCH) // _MICROSECOND * 1000


def kind_of(event: Any) -> str:
    """Kind of an event that is neither bar, signal nor order; the user's word is its class.

    A user's class that is called like one of fillpath's kinds (``FILL``) is none of them, so its
    kind is another word: ``FILL_EVENT``.
    """
    name = type(event).__name__
    if type(event).__module__.startswith("basana."):
        return _KINDS.get(name, name)
    return f"{name}_EVENT" if name in OWN_KINDS else name


def instrument_of(event: Any) -> Instrument:
    """What an event is about, if it names a pair."""
    for owner in (event, *(getattr(event, part, None) for part in _PARTS)):
        pair = getattr(owner, "pair", None)
        if pair is not None:
            return Instrument(str(pair))
    return NOWHERE


def told_fields(event: Any) -> dict[str, Any]:
    """Public fields of an event, by a key for each; its time is the record's own.

    They may be in `__dict__` or in slots, of a dataclass or of any other class. What is a service
    of the host's and no value (a function, an exchange) is left out.
    """
    kind = _NEXT_WORD.sub("_", type(event).__name__).strip("_").lower()
    if kind in OWN_SPACES:
        kind = f"{kind}_event"
    return {
        f"trading.{kind}.{name}": value
        for name, value in fields_of(event).items()
        if name != "when" and not name.startswith("_") and _is_value(value)
    }


def _is_value(value: Any) -> bool:
    """Whether something can be told as it is: a number, a text, a structure of such."""
    is_structure = is_dataclass(value) and not isinstance(value, type)
    is_array = hasattr(value, "dtype") and hasattr(value, "tolist")
    is_known = is_scalar(value) or is_plain(value) or isinstance(value, Mapping)
    return is_known or is_structure or is_array


def opinions(signal: BaseTradingSignal) -> list[tuple[str, str, float | None]]:
    """What a signal says: pairs, the positions to take, and those as numbers from -1 to 1."""
    return [
        (str(pair), str(position), _STRENGTHS.get(position))
        for pair, position in signal.get_pairs()
    ]
