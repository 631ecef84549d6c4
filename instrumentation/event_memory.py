"""Remembers under which event a host's object was recorded, without keeping the object alive."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final, cast

from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.host_parts import is_scalar
from fillpath.instrumentation.open_event import OpenEvent

_MAX_OBJECTS: Final = 65_536
_MAX_IDS: Final = 65_536
_MAX_DELIVERED: Final = 64
"""Objects that are kept after their delivery, in case that it has more receivers."""
_MAX_UNDELIVERED: Final = 64
"""Objects that nobody was given on a bus that delivers at once, in case that it does not always."""
_MAX_WAITING: Final = 1024
"""Objects that were published by handlers and are kept until their bus gets to them."""
_FEW: Final = 1024
"""Objects among which nobody looks for those that are gone."""

Known = OpenEvent | Publication
"""As what an event was recorded."""


class _Entry:
    """One object and its event. A `Publication` is an entry itself."""

    __slots__ = ("is_delivered", "item", "known", "weak")

    def __init__(self, known: Known) -> None:
        self.known = known
        self.is_delivered = False
        self.item: Any = None
        self.weak: weakref.ref[Any] | None = None


class EventMemory:
    """Finds the event of an object by the object itself, or by the host's id of the event.

    An object that can be weakly referenced is forgotten soon after the host has dropped it. Any
    other (a dict, a tuple) has to be kept, lest its address be given to another one: until it has
    been published, on a bus that delivers at once, or until soon after its delivery, on one with a
    queue. A bus may deliver at once but for what handlers publish, which waits until they are done:
    that is kept until what they handle has been published. A bus may also deliver at once but for
    some events: the newest that nobody was given are kept, and all are once one of them has come
    later, or a handler was given what is not known any more. On a bus that has never delivered
    later, of the objects that have been delivered and can be weakly referenced the newest are
    remembered: what stays makes every garbage collection of the host's longer. Texts and numbers
    are not remembered: two that are equal may be one object.
    """

    def __init__(self) -> None:
        self._weak: dict[int, _Entry | Publication] = {}
        self._old: dict[int, _Entry | Publication] = {}
        self._look_at = _FEW
        self._turns = threading.Lock()
        self._strong: OrderedDict[int, _Entry | Publication] = OrderedDict()
        self._delivered: deque[int] = deque()
        self._waiting: deque[tuple[int, _Entry | Publication]] = deque()
        self._ids: OrderedDict[str, dict[str, OpenEvent]] = OrderedDict()
        self._second_ids: OrderedDict[str, dict[str, OpenEvent]] = OrderedDict()
        self._at_once = False
        self._later = False

    def remember(self, item: Any, event: Known) -> Known | None:
        """Note the event of an object; gives the one it had before."""
        if item is None or is_scalar(item):
            return None
        return self.keep(item, event if isinstance(event, Publication) else _Entry(event))

    def keep(self, item: Any, entry: _Entry | Publication) -> Known | None:
        """Do what `remember` does, for an object that has fields."""
        key = id(item)
        before: _Entry | Publication | None
        if type(item).__weakrefoffset__:
            entry.item, entry.weak = None, weakref.ref(item)
            weak = self._weak
            before = weak.get(key) or self._old.get(key)
            weak[key] = entry
            if len(weak) > self._look_at and self._turns.acquire(blocking=False):
                try:  # of two threads, the second would throw away what the first one kept
                    self._forget_gone()
                finally:
                    self._turns.release()
            if before is None or before.weak is None or before.weak() is not item:
                return None
        else:
            before = self._strong.get(key)
            entry.item, entry.weak = item, None
            self._strong[key] = entry
            if len(self._strong) > _MAX_OBJECTS:
                _bound(self._strong, _MAX_OBJECTS)
            if before is None or before.item is not item:
                return None
        return _known(before)

    def _forget_gone(self) -> None:
        """Forget objects that the host has dropped, a generation at a time: each call is dear."""
        young, old = self._weak, self._old
        is_brief = self._at_once and not self._later
        kept = [
            (key, entry)
            for key, entry in old.copy().items()
            if entry.weak is not None
            and entry.weak() is not None
            and not (is_brief and entry.is_delivered and _known(entry).closed)
        ]
        for key, entry in kept[max(0, len(kept) + len(young) - _MAX_OBJECTS) :]:
            young.setdefault(key, entry)
        # Another thread may be about to put something into the young ones: so they become the old.
        self._old, self._weak = young, {}
        self._look_at = max(_FEW, len(young)) if kept else _FEW

    def _entry(self, item: Any) -> _Entry | Publication | None:
        key = id(item)
        entry = self._weak.get(key) or self._old.get(key)
        if entry is not None:
            weak = entry.weak
            if weak is not None and weak() is item:
                return entry
        if self._strong:
            entry = self._strong.get(key)
            if entry is not None and entry.item is item:
                return entry
        return None

    def at(self, item: Any) -> Known | None:
        """As what an object was recorded, whether it is being delivered or not."""
        entry = self._entry(item)
        return None if entry is None else _known(entry)

    def given(self, item: Any) -> Known | None:
        """As what an object was recorded that is being delivered."""
        entry = self._entry(item)
        if entry is None:
            return None
        known = _known(entry)
        if not entry.is_delivered:
            entry.is_delivered = True
            self._learn(id(item), entry, known)
        return known

    def find(self, item: Any) -> OpenEvent | None:
        """Event of an object that is being delivered."""
        found: OpenEvent | None = event_of(self.given(item))
        return found

    def _learn(self, key: int, entry: _Entry | Publication, known: Known) -> None:
        """Whether the bus delivers while an event is published, or when it is over."""
        if not (known.ended if type(known) is Publication else known.closed):
            if not self._at_once and not self._later:  # so few wait for what came before
                before = list(self._strong.items())
                self._waiting.extend(item for item in before if _known(item[1]).closed)
                self._let_go(_MAX_UNDELIVERED)
            self._at_once = True
            return
        self._later = True
        if entry.weak is None:
            self._delivered.append(key)
            if len(self._delivered) > _MAX_DELIVERED:
                oldest = self._delivered.popleft()
                old = self._strong.get(oldest)
                if old is not None and old.is_delivered:
                    self._strong.pop(oldest, None)

    def published(self, item: Any, event: Known, *, is_caused: bool = False) -> None:
        """Let go of an object that was kept for this event, if it is not delivered later.

        Args:
            item: The object.
            event: Its event.
            is_caused: Whether another event caused it, so that it may have to wait for that one.
        """
        entry = self._strong.get(id(item))
        if entry is not None and _known(entry) is event:
            if entry.is_delivered:
                self._strong.pop(id(item), None)
                entry.item = None
            elif self._at_once and not self._later:
                self._waiting.append((id(item), entry))
        if self._waiting:
            self._let_go(_MAX_WAITING if is_caused else _MAX_UNDELIVERED)

    def _let_go(self, most: int) -> None:
        """Keep no more objects than these that nobody was given."""
        waiting = self._waiting
        while len(waiting) > most:
            try:
                key, oldest = waiting.popleft()
            except IndexError:  # another thread was quicker
                return
            if not self._later and self._strong.get(key) is oldest:
                self._strong.pop(key, None)

    def missed(self, items: Iterable[Any]) -> None:
        """Learn that a handler was given one of these objects later, when it was not kept."""
        if not self._later and any(
            not is_scalar(item) and item is not None and not type(item).__weakrefoffset__
            for item in items
        ):
            self._later = True

    def remember_id(self, event_id: str, event: OpenEvent, *, is_second: bool = False) -> None:
        """Note the host's id of an event. Portfolios may use the same ids.

        Args:
            event_id: The id.
            event: The event.
            is_second: Whether the event has another id that is its own; what is the own id of
                another event means that one.
        """
        ids = self._second_ids if is_second else self._ids
        ids.setdefault(event_id, {})[event.portfolio] = event
        _bound(ids, _MAX_IDS)

    def find_id(self, event_id: str, portfolio: str) -> OpenEvent | None:
        """The last event of this id in the portfolio, or in the only portfolio that has it."""
        places = self._ids.get(event_id) or self._second_ids.get(event_id) or {}
        if portfolio in places:
            return places[portfolio]
        return next(iter(places.values())) if len(places) == 1 else None

    @property
    def is_weak(self) -> bool:
        """Whether no object is kept, so that none has to be let go."""
        return not self._strong and not self._waiting

    def peek(self, item: Any) -> OpenEvent | None:
        """Event of an object, whether it is being delivered or not."""
        found: OpenEvent | None = event_of(self.at(item))
        return found


def _known(entry: _Entry | Publication) -> Known:
    return entry.known if type(entry) is _Entry else cast("Publication", entry)


def event_of(known: Known | None) -> Any:
    """The event that something was recorded as; None for nothing."""
    return known.event if type(known) is Publication else known


def _bound(remembered: OrderedDict[Any, Any], size: int) -> None:
    while len(remembered) > size:
        remembered.popitem(last=False)
