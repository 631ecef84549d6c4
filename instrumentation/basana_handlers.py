"""Who a handler of basana belongs to, and how its calls are followed."""

from __future__ import annotations

import inspect
from asyncio import current_task
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any, NamedTuple

from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.followed_calls import behind_partials, handler_name
from fillpath.instrumentation.kept_parameters import kept
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place


class Receiver(NamedTuple):
    """A handler of the user's.

    Attributes:
        strategy: Name of the strategy that it is part of.
        name: The handler, as ``Class.method``.
        is_engines: Whether it is basana's own: what it does is not the user's doing.
        acts_for_others: Whether it turns signals into orders, for the strategies that gave them.
    """

    strategy: str
    name: str
    is_engines: bool
    acts_for_others: bool = False


def owner_of(handler: Any) -> Any:
    """The object whose method a handler is, or that is one; None for a plain function."""
    inner = behind_partials(handler)
    owner = getattr(inner, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        return owner
    return None if isinstance(inner, FunctionType) or owner is not None else inner


def is_of_the_engine(thing: Any) -> bool:
    """Tell whether an object is of one of basana's own classes, or code of basana's."""
    function = getattr(thing, "__func__", thing)  # a user's class may inherit basana's methods
    kind = function if isinstance(function, FunctionType | type) else type(function)
    return kind.__module__.partition(".")[0] == "basana"


class StrategyNames:
    """Names strategies: by the class, and a number where there are several of one class."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, Any]] = {}
        self._count: dict[str, int] = {}

    def of(self, owner: Any) -> str:
        """Name an object, which is kept so that its address names nothing else."""
        known = self._names.get(id(owner))
        if known is None:
            name = (owner if isinstance(owner, type) else type(owner)).__name__
            number = self._count[name] = self._count.get(name, 0) + 1
            known = self._names[id(owner)] = (name if number == 1 else f"{name}-{number}", owner)
        return known[0]

    def receiver(self, handler: Any, managers: Iterable[Any] = ()) -> Receiver:
        """Describe a handler.

        Args:
            handler: What basana calls.
            managers: Objects and functions that are given trading signals.
        """
        owner = owner_of(handler)
        name = handler_name(handler, None)
        acts_for_others = any((handler if owner is None else owner) is each for each in managers)
        if owner is None:
            return Receiver(name, name, is_of_the_engine(handler), acts_for_others)
        is_engines = is_of_the_engine(owner) or is_of_the_engine(handler)
        strategy = "" if is_engines else self.of(owner)
        return Receiver(strategy, name, is_engines, acts_for_others)

    def running_task(self) -> tuple[str, str]:
        """Name the coroutine that this task runs, as a strategy and its handler.

        For code that nothing of basana's calls: a producer, a task of the user's, the script.
        """
        task = current_task()
        coroutine: Any = None if task is None else task.get_coro()
        name = str(getattr(coroutine, "__qualname__", "script")).rpartition("<locals>.")[2]
        frame = getattr(coroutine, "cr_frame", None)
        owner = None if frame is None else frame.f_locals.get("self")
        if owner is None or is_of_the_engine(owner):
            return name, name
        return self.of(owner), name


def init_parameters(owner: Any) -> dict[str, Any]:
    """Give what an object was made with, as far as it keeps it under the same name.

    That is, ``days`` of ``__init__(self, days)`` where ``self.days`` or ``self._days`` is a plain
    value.
    """
    try:
        names = list(inspect.signature(type(owner).__init__).parameters)[1:]
        has = vars(owner)
    except (TypeError, ValueError):
        return {}
    return kept((name, has.get(name, has.get(f"_{name}"))) for name in names)


class _StandIn:
    """Stands in for a handler while it is called; it prints and compares like the handler."""

    __slots__ = ("_handler",)

    _handler: Callable[..., Awaitable[Any]]

    def __eq__(self, other: object) -> bool:
        return bool(self._handler == (other._handler if isinstance(other, _StandIn) else other))

    def __hash__(self) -> int:
        return hash(self._handler)

    def __repr__(self) -> str:
        return repr(self._handler)


class Followed(_StandIn):
    """Calls a handler that is given nothing, with something around it."""

    __slots__ = ("_around",)

    def __init__(
        self,
        handler: Callable[..., Awaitable[Any]],
        around: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._handler = handler
        self._around = around

    async def __call__(self) -> Any:
        """Call the handler, surrounded."""
        with self._around():
            return await self._handler()


class Delivery(_StandIn):
    """Gives an event to a handler, whose run is recorded if it causes something or fails.

    Args:
        run: Records it.
        handler: What is called.
        place: What all its runs with such events have in common.
        cause: The record of the event.
        event_time: Simulated time.
        links: Further records of the event.
        begun: Called with the run of the handler when it begins.
    """

    __slots__ = ("_begun", "_cause", "_links", "_place", "_run", "_time")

    def __init__(
        self,
        run: EngineRun,
        handler: Callable[..., Awaitable[Any]],
        place: Place,
        cause: Cause | None,
        event_time: int,
        links: tuple[OpenEvent, ...] = (),
        begun: Callable[[OpenEvent], None] | None = None,
    ) -> None:
        self._run = run
        self._handler = handler
        self._place = place
        self._cause = cause
        self._time = event_time
        self._links = links
        self._begun = begun

    async def __call__(self, event: Any) -> Any:
        """Call the handler. What it raises is recorded and goes on to basana."""
        run, tracer = self._run, self._run.tracer
        try:
            running = tracer.enter_run(self._place, self._cause, self._time, self._links)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
            return await self._handler(event)
        failure: BaseException | None = None
        if self._begun is not None:
            with tracer.guarded():
                self._begun(running.event)
        try:
            return await self._handler(event)
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                tracer.leave_run(running, failure if run.active else None)
                if running.made is not None:
                    run.handled(running.made)
            except Exception as error:  # noqa: BLE001 - as above
                tracer.complain(error)
