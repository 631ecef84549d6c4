"""Subscribes stand-ins for a host's handlers, on whatever kind of bus."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, Final
from weakref import WeakValueDictionary

from fillpath.instrumentation.followed_calls import Caller, FollowedFunction, is_followed_by

_STAND_INS: Final = "_fillpath_stand_ins"
"""Attribute of a function that keeps its stand-ins alive, on a bus that does not."""


class Subscriptions:
    """The handlers of one bus and their stand-ins.

    A stand-in equals its handler, so most buses find it again when the handler is unsubscribed. It
    lives as long as the bus holds it, or as the handler, where a bus holds its handlers weakly.

    Args:
        deliver: Calls a handler.
        deliver_to_method: Calls one whose first argument is the object it is a method of.
    """

    def __init__(self, deliver: Caller, deliver_to_method: Caller) -> None:
        self._deliver = deliver
        self._deliver_to_method = deliver_to_method
        self._functions: dict[int, FollowedFunction] = {}
        self._handlers: WeakValueDictionary[int, FollowedFunction] = WeakValueDictionary()
        self._kept: list[FollowedFunction] = []

    def subscribe(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Subscribe handlers that are followed."""
        result = self._subscribe(function, args, kwargs)
        given = (*args, *kwargs.values())
        if _is_handler(result) and not any(map(_is_handler, given)):
            return self._decorator(result)
        return result

    def _subscribe(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        followed: list[FollowedFunction] = []
        result = function(
            *[self._follow(value, followed) for value in args],
            **{name: self._follow(value, followed) for name, value in kwargs.items()},
        )
        while followed:
            self._keep_if_needed(followed.pop(), result)
        return result

    def stand_in(self, handler: Any) -> Any:
        """Give the stand-in of a handler, for a bus that is not asked to subscribe it."""
        return self._follow(handler, [])

    def unsubscribe(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Hand the bus the stand-in that it knows, in case that it compares with ``is``."""
        return function(
            *[self._handlers.get(id(value), value) for value in args],
            **{name: self._handlers.get(id(value), value) for name, value in kwargs.items()},
        )

    def _decorator(self, subscribe: Callable[..., Any]) -> Callable[..., Any]:
        """A `subscribe` that waits for the handler, as ``@bus.subscribe("BAR")``."""

        def decorate(*args: Any, **kwargs: Any) -> Any:
            result = self._subscribe(subscribe, args, kwargs)
            return next((each for each in args if self._handlers.get(id(each)) is result), result)

        return decorate

    def _follow(self, handler: Any, followed: list[FollowedFunction]) -> Any:
        """A stand-in for a handler; anything else as it is."""
        if not _is_handler(handler) or any(
            is_followed_by(handler, caller) for caller in (self._deliver, self._deliver_to_method)
        ):
            return handler
        if type(handler) is MethodType:
            function = handler.__func__
            stand_in = self._functions.get(id(function))
            if stand_in is None:
                stand_in = FollowedFunction(function, self._deliver_to_method)
                self._functions[id(function)] = stand_in
            return MethodType(stand_in, handler.__self__)
        stand_in = self._handlers.get(id(handler))
        if stand_in is None:
            stand_in = FollowedFunction(handler, self._deliver)
            self._handlers[id(handler)] = stand_in
        followed.append(stand_in)
        return stand_in

    def _keep_if_needed(self, stand_in: FollowedFunction, result: Any) -> None:
        """A bus that holds its handlers weakly would lose one that only we hold."""
        if sys.getrefcount(stand_in) > _OUR_REFERENCES + (result is stand_in):
            return
        function = stand_in.__wrapped__
        if inspect.isfunction(function):
            function.__dict__.setdefault(_STAND_INS, []).append(stand_in)
        else:
            self._kept.append(stand_in)


def _references_of_ours() -> int:
    """References to a stand-in that nobody holds but the code that asks."""

    def ask(only: object) -> int:
        return sys.getrefcount(only)

    return ask([object()].pop())


_OUR_REFERENCES: Final = _references_of_ours()


def _is_handler(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)
