"""Follows a call of the host's: a plain one, a coroutine, or a generator that goes on step by step.

What stands in for a host's function is that function in all respects but being called: it compares,
hashes and inspects alike, so a host can unsubscribe it, or ask whether it is to be awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from types import MethodType
from typing import Any

import wrapt

from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import OpenEvent

Caller = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Takes a function of the host's and its arguments, and calls it."""
Taker = Callable[[Any], None]
"""Takes what a function of the host's gave back."""


_Proxy: Any = wrapt.ObjectProxy  # so that a type checker takes it for the function


class FollowedFunction(_Proxy):  # type: ignore[misc]
    """Stands in for a function and calls it through somebody who follows it.

    Args:
        function: What is called in the end.
        caller: Who calls it.
    """

    def __init__(self, function: Callable[..., Any], caller: Caller) -> None:
        super().__init__(function)
        self._self_caller = caller

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, followed."""
        return self._self_caller(self.__wrapped__, args, kwargs)

    def __copy__(self) -> Any:
        return self.__wrapped__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _itself, (self.__wrapped__,)


def _itself(function: Any) -> Any:
    """Undo the pickling of a followed function: in another process, nothing follows it."""
    return function


def behind_partials(function: Any) -> Any:
    """Give what a partial, also one of a partial, calls in the end; else the function itself.

    Whatever else has a `func` is left alone: a host's proxy or mock may have one without an end.
    """
    while isinstance(function, partial):
        function = function.func
    return function


def handler_name(function: Callable[..., Any], owner: Any) -> str:
    """Name of a handler: ``Class.method``, or that of the function without its surroundings.

    Args:
        function: What is called.
        owner: The object it is a method of, or None.
    """
    inner = behind_partials(function)  # a partial has no name of its own
    if owner is None:
        owner = getattr(inner, "__self__", None)
        if inspect.ismodule(owner):
            owner = None
    if owner is not None:
        kind = owner if isinstance(owner, type) else type(owner)  # a class has class methods
        return f"{kind.__name__}.{getattr(inner, '__name__', type(inner).__name__)}"
    name = str(getattr(inner, "__qualname__", type(inner).__qualname__))
    return name.rpartition("<locals>.")[2]


def is_followed_by(handler: Any, caller: Caller) -> bool:
    """Tell whether a handler is one that this caller follows already."""
    inner = handler.__func__ if type(handler) is MethodType else handler
    return type(inner) is FollowedFunction and inner._self_caller == caller


def finish(
    tracer: EventTracer,
    event: OpenEvent,
    result: Any,
    *,
    take: Taker | None = None,
    after: Callable[[BaseException | None], None] | None = None,
) -> Any:
    """End an event when its call is over; gives what the host gets as the call's result.

    A coroutine or a generator has not run yet when the call returns: it gets a stand-in, which is
    the event's handling while it runs.

    Args:
        tracer: Who records it.
        event: The event that the call is part of.
        result: What the call gave.
        take: Gets whatever the host's function hands over, step by step.
        after: Called when the event has ended, with what the host's function raised.
    """
    call = _Call(tracer, event, take, after)
    stand_in: Any
    if result is None:
        call.end(None)
        return None
    if inspect.iscoroutine(result):
        stand_in = _awaited(call, result)
    elif inspect.isgenerator(result):
        stand_in = _stepped(call, result)
    elif inspect.isasyncgen(result):
        stand_in = _stepped_async(call, result)
    else:
        call.hand_over(result)
        call.end(None)
        return result
    stand_in.__name__, stand_in.__qualname__ = result.__name__, result.__qualname__
    return stand_in


class _Call:
    """A call that is being followed, and who wants to know of it."""

    __slots__ = ("_after", "_take", "event", "tracer")

    def __init__(
        self,
        tracer: EventTracer,
        event: OpenEvent,
        take: Taker | None,
        after: Callable[[BaseException | None], None] | None,
    ) -> None:
        self.tracer = tracer
        self.event = event
        self._take = take
        self._after = after

    def hand_over(self, given: Any) -> None:
        if self._take is not None and given is not None:
            with self.tracer.guarded():
                self._take(given)

    def end(self, error: BaseException | None) -> None:
        self.tracer.close(self.event, error=error)
        if self._after is not None:
            with self.tracer.guarded():
                self._after(error)


async def _awaited(call: _Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
    failure: BaseException | None = None
    with call.tracer.handling(call.event):
        try:
            result = await coroutine
            call.hand_over(result)
        except BaseException as error:
            failure = error
            raise
        finally:
            call.end(failure)
    return result


def _stepped(call: _Call, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    failure: BaseException | None = None
    resume: Callable[[Any], Any] = generator.send
    value: Any = None
    try:
        while True:
            with call.tracer.handling(call.event):
                item = resume(value)
            call.hand_over(item)
            try:
                value = yield item
                resume = generator.send
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it belongs to the host's generator
                resume, value = generator.throw, error
    except StopIteration as stop:
        return stop.value
    except BaseException as error:
        failure = error
        raise
    finally:
        call.end(failure)


async def _stepped_async(
    call: _Call, generator: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    failure: BaseException | None = None
    resume: Callable[[Any], Any] = generator.asend
    value: Any = None
    try:
        while True:
            with call.tracer.handling(call.event):
                item = await resume(value)
            call.hand_over(item)
            try:
                value = yield item
                resume = generator.asend
            except GeneratorExit:
                await generator.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - it belongs to the host's generator
                resume, value = generator.athrow, error
    except StopAsyncIteration:
        return
    except BaseException as error:
        failure = error
        raise
    finally:
        call.end(failure)
