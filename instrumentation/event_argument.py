"""Finds the event among what a bus is published with, and what it is published on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from fillpath.instrumentation.host_parts import is_plain

_EVENT_ARGUMENTS: Final = ("event", "evt", "message", "msg")
_WORDS: Final = (str, Enum, type)


class EventArgument:
    """Knows which argument of a bus's methods is the event.

    Args:
        argument: Its place or name, if that is told.
        topic: The topic of all events, if they have but one.
    """

    def __init__(self, argument: int | str | None, topic: str | None) -> None:
        self._argument = argument
        self.topic = topic
        self._places: dict[Any, int | None] = {}

    def event_and_topic(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, str | None]:
        """The event among the arguments of a publishing method, and what it is published on."""
        if len(args) == 1 and not kwargs and type(args[0]) is not tuple:
            return args[0], self.topic
        event = self.event_of(function, args, kwargs)
        if self.topic is not None:
            return event, self.topic
        for value in (*args, *kwargs.values()):
            if value is not event and _is_word(value):
                return event, _word(value)
        return event, None

    def event_of(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The event among the arguments of a publishing method."""
        names = _EVENT_ARGUMENTS if self._argument is None else (self._argument,)
        for name in names:
            if name in kwargs and (len(args) + len(kwargs) == 1 or not _is_word(kwargs[name])):
                return kwargs[name]
        is_told = isinstance(self._argument, int)
        place = self._argument if isinstance(self._argument, int) else self._place_in(function)
        if place is None or place >= len(args):
            found = self._likeliest(args, kwargs, has_topic=True)
        elif _is_word(args[place]) and not is_told and len(args) + len(kwargs) > 1:
            # What is called the event is its name, and the rest is what it says.
            said = (*args[:place], *args[place + 1 :])
            found = self._likeliest(said, kwargs, has_topic=False)
        else:
            found = args[place]
        if type(found) is tuple:  # (when, number, event), as queues with priorities take it
            found = next((each for each in reversed(found) if _has_fields(each)), found)
        return found

    def _likeliest(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, has_topic: bool) -> Any:
        given = (*args, *kwargs.values())
        with_fields = [each for each in given if _has_fields(each)]
        if with_fields:
            return with_fields[-1]
        if kwargs and self._argument is None:  # the fields of an event that is no object
            words = [number for number, each in enumerate(args) if _is_word(each)]
            topic = words[0] if has_topic and words else None
            said = [each for number, each in enumerate(args) if number != topic]
            return {**kwargs, "values": said} if said else dict(kwargs)
        if len(given) > 1 and not has_topic:
            return given
        return given[-1] if given else None

    def _place_in(self, function: Callable[..., Any]) -> int | None:
        """Place of the parameter that is called `event`, or something like it."""
        key = getattr(function, "__func__", function)
        try:
            if key not in self._places:
                names = list(inspect.signature(function).parameters)
                places = [names.index(name) for name in _EVENT_ARGUMENTS if name in names]
                self._places[key] = places[0] if places else None
            return self._places[key]
        except (TypeError, ValueError):  # no signature, or no hash
            return None


def _word(value: str | Enum | type) -> str:
    if isinstance(value, type):
        return value.__name__.removesuffix("Event") or value.__name__
    word = value.value if isinstance(value, Enum) else value
    return str(word if isinstance(word, str) else getattr(value, "name", word))


def _is_word(value: Any) -> bool:
    return issubclass(type(value), _WORDS)  # no object has a say in that


def _has_fields(value: Any) -> bool:
    return value is not None and not is_plain(value) and not isinstance(value, type)
