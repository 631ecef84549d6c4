"""What buses and queues usually call their methods."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class BusShape(NamedTuple):
    """Names of the methods of one sort of bus; of each group, a bus has some."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    receive: tuple[str, ...] = ()
    """Those that give a loop the next event."""
    idle: tuple[str, ...] = ()
    """Those by which a loop asks whether there is another event, or says that it has done one."""
    publish_each: tuple[str, ...] = ()
    """Those that take several events."""


_SUBSCRIBE: Final = ("subscribe", "on", "once", "add_listener", "add_handler", "register")
_UNSUBSCRIBE: Final = ("unsubscribe", "off", "remove_listener", "remove_handler", "unregister")
_RECEIVE: Final = ("get", "get_nowait")
_IDLE: Final = ("empty", "qsize", "task_done")
USUAL: Final = (
    BusShape(("publish",), _SUBSCRIBE, _UNSUBSCRIBE),
    BusShape(("emit",), (*_SUBSCRIBE, "connect"), (*_UNSUBSCRIBE, "disconnect")),
    BusShape(("put", "put_nowait"), _SUBSCRIBE, _UNSUBSCRIBE, _RECEIVE, _IDLE),
    BusShape(("sendMessage", "send"), (*_SUBSCRIBE, "connect"), (*_UNSUBSCRIBE, "disconnect")),
    BusShape(("dispatch",), _SUBSCRIBE, _UNSUBSCRIBE),
    BusShape(
        ("append", "appendleft", "insert"),
        receive=("popleft", "pop"),
        publish_each=("extend", "extendleft"),
    ),
)
"""In this order: a bus is of the first sort of which it has a method to publish with."""


def having(bus: Any, shape: BusShape) -> BusShape:
    """A sort of bus, with those methods alone that this one has."""
    return BusShape(
        *(tuple(name for name in group if callable(getattr(bus, name, None))) for group in shape)
    )


def shape_of(bus: Any) -> BusShape | None:
    """The usual sort that a bus is of, with the methods that it has; None if it is of none."""
    found = (having(bus, shape) for shape in USUAL)
    return next((shape for shape in found if shape.publish), None)
