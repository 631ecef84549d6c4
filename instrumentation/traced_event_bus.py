"""Traces a home-made event bus, or the queue of a home-made loop, by wrapping it."""

from __future__ import annotations

import copy
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, Final

import wrapt

from fillpath.instrumentation import settings
from fillpath.instrumentation.bus_follower import BusFollower
from fillpath.instrumentation.bus_shapes import USUAL, BusShape, having, shape_of
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.followed_calls import FollowedFunction
from fillpath.instrumentation.host_fields import EventFields
from fillpath.instrumentation.tracing import Tracing

__all__ = ["EventFields", "TracedEventBus", "untraced"]

Names = str | tuple[str, ...]
"""Name of a method, or several."""

_METHODS: Final = (MethodType, BuiltinMethodType)
_Proxy: Any = wrapt.ObjectProxy  # so that a type checker takes the bus for the host's own


class TracedEventBus(_Proxy):  # type: ignore[misc]
    """A bus in front of a host's own; give it to the host in place of the one it wraps.

    Publishing and subscribing are followed, everything else is passed on as it is; the host may
    also take it for the bus itself (`isinstance`, attributes set on it). The host's events are
    never changed, and nothing fillpath fails at is raised into the host. What the bus calls on
    itself (`self.publish` in its own methods) does not pass through here.

    A queue is a bus whose loop gets its events: what is put into it between two `get` was caused
    by the event that the first one gave. A bus that is wrapped already stays wrapped once.

    Args:
        bus: The host's bus.
        tracing: The session that records; the active one when left out.
        fields: Where the host's events keep what fillpath needs.
        publish: Name of the host's publishing method, or several. When left out, this and the
            following are the names that `bus_shapes` knows: `publish`, `emit`, `put` and so on.
        subscribe: The same of its subscribing methods. Every callable argument that is not a class
            is followed as a handler.
        unsubscribe: The same of the methods that take a handler back.
        receive: The same of the methods that give a loop the next event, as a queue's `get`.
        argument: The publishing method's argument that is the event: its position, or its name when
            it is given by name. By default the argument named ``event``, else the last one that is
            an object with fields, else the arguments given by name together, else the last one.

    Raises:
        UsageError: When the bus has no such publishing method.
    """

    def __new__(
        cls,
        bus: Any,
        tracing: Tracing | None = None,
        *,
        publish: Names | None = None,
        **_: Any,
    ) -> Any:
        """Give the bus itself while recording is switched off: then it costs nothing."""
        _shape(bus, publish)
        is_on = settings.recording_enabled() if tracing is None else tracing.enabled
        if issubclass(type(bus), TracedEventBus) and bus._self_settings["tracing"] is tracing:
            return bus
        return super().__new__(_class_for(_shape(bus, publish))) if is_on else bus

    def __init__(
        self,
        bus: Any,
        tracing: Tracing | None = None,
        *,
        fields: EventFields | None = None,
        publish: Names | None = None,
        subscribe: Names | None = None,
        unsubscribe: Names | None = None,
        receive: Names | None = None,
        argument: int | str | None = None,
    ) -> None:
        shape = _shape(bus, publish)
        if subscribe is not None:
            shape = shape._replace(subscribe=_names(subscribe))
        if unsubscribe is not None:
            shape = shape._replace(unsubscribe=_names(unsubscribe))
        if receive is not None:
            shape = shape._replace(receive=_names(receive))
        if bus is self:
            self._self_follow(shape)
            return
        if issubclass(type(bus), TracedEventBus):
            bus = bus.__wrapped__  # what it was wrapped for is another session
        super().__init__(bus)
        self._self_settings: dict[str, Any] = {
            "tracing": tracing,
            "fields": fields,
            "publish": publish,
            "subscribe": subscribe,
            "unsubscribe": unsubscribe,
            "receive": receive,
            "argument": argument,
        }
        # A signal is all of one topic, and what it sends comes with a sender.
        topic = getattr(bus, "name", None) if shape.publish == ("send",) else None
        self._self_follower = BusFollower(
            type(bus).__name__,
            tracing,
            fields or EventFields(),
            argument,
            topic if isinstance(topic, str) else None,
            is_queue=bool(shape.receive),
        )
        BusFollower.of_wrapped.add(self._self_follower)
        self._self_methods: dict[str, Any] = {}
        self._self_followed: dict[str, tuple[Any, FollowedFunction]] = {}
        self._self_follow(shape)

    def _self_follow(self, shape: BusShape) -> None:
        follower = self._self_follower
        self._self_takes_several = bool(shape.publish_each)  # so it is a sequence of events
        for names, caller in (
            (shape.idle, follower.queue.pause),
            (shape.receive, follower.queue.receive),
            (shape.unsubscribe, follower.subscriptions.unsubscribe),
            (shape.subscribe, follower.subscriptions.subscribe),
            (shape.publish_each, follower.publish_each),
            (shape.publish, follower.publish),
        ):
            for name in names:
                self._self_methods.setdefault(name, caller)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        caller = self._self_methods.get(name)
        if caller is None or not callable(found):
            return found
        known = self._self_followed.get(name)
        if known is not None and known[0] == found:
            return known[1]
        followed = FollowedFunction(found, caller)
        if type(found) in _METHODS:  # of anything else, equal ones may do different things
            self._self_followed[name] = found, followed
        return followed

    def __bool__(self) -> bool:
        is_some = bool(self.__wrapped__)
        if not is_some:
            self._self_follower.queue.asked(2)
        return is_some

    def __len__(self) -> int:
        number = len(self.__wrapped__)
        if not number:
            self._self_follower.queue.asked(2)
        return number

    def __iadd__(self, others: Any) -> Any:
        add = getattr(self.__wrapped__, "__iadd__", None)
        if add is None or not self._self_takes_several:
            return super().__iadd__(others)
        self._self_follower.publish_each(add, (others,), {})
        return self

    def __setitem__(self, where: Any, given: Any) -> None:
        if self._self_takes_several:
            self._self_follower.assign(self.__wrapped__.__setitem__, (where, given), {})
        else:
            self.__wrapped__[where] = given

    def __copy__(self) -> Any:
        return TracedEventBus(copy.copy(self.__wrapped__), **self._self_settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return TracedEventBus(copy.deepcopy(self.__wrapped__, memo), **self._self_settings)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)  # in another process it is the host's own


@lru_cache(256)
def _class_for(shape: BusShape) -> type[Any]:
    """The class of buses of this shape, which has their methods: to look for them is dear."""
    methods = {name: _method(name) for group in shape for name in group}
    metaclass: Any = type(TracedEventBus)
    made: type[Any] = metaclass("TracedEventBus", (TracedEventBus,), methods)
    return made


def _method(name: str) -> property:
    def get(bus: Any) -> Any:
        found = getattr(bus.__wrapped__, name)
        known = bus._self_followed.get(name)
        if known is not None and known[0] == found:
            return known[1]
        return bus.__getattr__(name)

    def put(bus: Any, value: Any) -> None:
        setattr(bus.__wrapped__, name, value)

    def delete(bus: Any) -> None:
        delattr(bus.__wrapped__, name)

    return property(get, put, delete)


def untraced(bus: Any) -> Any:
    """Take tracing off a bus, at any time, and give the host's own.

    Parts of the host that still hold the traced one go on with it, at the cost of a call: nothing
    of it is recorded any more. So do handlers; the stand-ins that the bus holds for them equal
    them, and pass every call through.

    Args:
        bus: What `TracedEventBus` gave; a bus that is not traced is given back.
    """
    if not issubclass(type(bus), TracedEventBus):
        return bus
    bus._self_follower.is_off = True
    return bus.__wrapped__


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given


def _shape(bus: Any, publish: Names | None) -> BusShape:
    """Names of the bus's methods, of which the publishing ones may be given."""
    usual = shape_of(bus)
    if publish is None:
        if usual is None:
            raise UsageError(
                f"{type(bus).__name__} has no method 'publish' to publish events with, "
                "nor another that fillpath knows.",
                next_command="TracedEventBus(bus, publish='its name')",
            )
        return usual
    names = _names(publish)
    for name in names:
        if not callable(getattr(bus, name, None)):
            raise UsageError(
                f"{type(bus).__name__} has no method '{name}' to publish events with.",
                next_command="TracedEventBus(bus, publish='its name')",
            )
    if usual is not None and set(names) & set(usual.publish):
        return usual._replace(publish=names)
    return having(bus, USUAL[0])._replace(publish=names)
