"""Tells, from the stack alone, within which publishing another one happens.

An observer hears that an event is published, never that its publishing is over. But while it is
not, the bus's function that publishes is on the stack of whatever its handlers publish. So the
observer notes the address of that function's frame; never the frame itself, which would keep alive
what the host's function holds.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import CodeType, FrameType
from typing import Final, NamedTuple

from fillpath.instrumentation.bus_shapes import USUAL
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import OpenEvent

_PUBLISHING: Final = frozenset(name for shape in USUAL for name in shape.publish) | {
    "fire", "notify", "post", "push", "raise_event", "trigger",
}  # fmt: skip
_FARTHEST: Final = 8
"""Functions between an observer and the one that publishes, at most."""
_MAX_FRAMES: Final = 4096


class _Announced(NamedTuple):
    """An event whose publishing has begun in a frame."""

    code: CodeType
    instruction: int
    event: OpenEvent


class PublishStack:
    """The events that one observer was told of, by the frame of their publishing.

    Args:
        names: What the bus's publishing functions are called; the usual names when left out. If
            none of that name is near, it is the function that tells the observer.
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names = frozenset(names) or _PUBLISHING
        self._announced: OrderedDict[int, _Announced] = OrderedDict()

    def publishing(self, caller: FrameType) -> FrameType:
        """The frame that is on the stack for as long as an event is being published.

        Args:
            caller: The host's function that tells the observer.
        """
        each: FrameType | None = caller
        for _ in range(_FARTHEST):
            if each is None:
                break
            if each.f_code.co_name.lstrip("_").removesuffix("_async") in self._names:
                return each
            each = each.f_back
        return caller

    def enclosing(self, frame: FrameType, tracer: EventTracer) -> OpenEvent | None:
        """The event within whose publishing this frame runs, if there is one.

        An address may have had another frame before. Then the function that is there now has not
        yet told of its own event, so it stands at an earlier place than where one is told of.
        """
        each = frame.f_back
        while each is not None:
            found = self._announced.get(id(each))
            if (
                found is not None
                and found.code is each.f_code
                and found.instruction < each.f_lasti
                and found.event.tracer is tracer
            ):
                return found.event
            each = each.f_back
        return None

    def announce(self, frame: FrameType, event: OpenEvent) -> None:
        """Note that this frame publishes an event."""
        self._announced[id(frame)] = _Announced(frame.f_code, frame.f_lasti, event)
        self._announced.move_to_end(id(frame))
        if len(self._announced) > _MAX_FRAMES:
            self._announced.popitem(last=False)

    def is_announced(self, frame: FrameType, event: OpenEvent) -> bool:
        """Tell whether this frame has told of this event before."""
        found = self._announced.get(id(frame))
        return found is not None and found.code is frame.f_code and found.event is event


def caller_of(depth: int) -> FrameType:
    """The frame of the function that called one of ours.

    Args:
        depth: Functions between that and this one.
    """
    return sys._getframe(depth + 1)
