"""Which event's handler runs, in this thread or task, and how others get to know."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from time import perf_counter_ns
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace.propagation import _SPAN_KEY

from fillpath.instrumentation.event_span import (
    EnteredSpan,
    EventSpan,
    HandlerRun,
    Publication,
    Running,
    enter_context,
    get_context,
    leave_context,
    reset_context,
    set_context,
    span_of,
)
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place
from fillpath.instrumentation.payload import name_of, printed

_log = logging.getLogger(__name__)

UserCode = tuple[Token[Running], Any, EventSpan | None]
"""What undoes `RunningEvent.enter_user_code`."""
_new_run: Final[Callable[[type[HandlerRun]], HandlerRun]] = object.__new__


class RunningEvent(ABC):
    """The part of a tracer that knows what is being handled.

    Attributes:
        stopped: Whether nothing is recorded any more.
        enter: Makes an event the parent of whatever this thread or task opens, until `leave` gets
            what it gave.
        running: Gives what runs in this thread or task, as `current` does; but what is no event yet
            is not made one.
        nothing: Stands for every event that is not recorded.
        takes: Tells which portfolios' events are recorded; None: all.
    """

    nothing: OpenEvent
    takes: Callable[[str], bool] | None
    portfolio: str

    def __init__(self) -> None:
        self.stopped = False
        self._complained = False
        self._current: ContextVar[Running] = ContextVar("fillpath_event", default=None)
        self.enter: Callable[[Running], Token[Running]] = self._current.set
        self.running: Callable[[], Running] = self._current.get

    @abstractmethod
    def span_context(self, event: OpenEvent) -> trace.SpanContext:
        """OpenTelemetry's address of the event, which is recorded now if it was not yet."""

    @abstractmethod
    def event_of_run(self, run: HandlerRun) -> OpenEvent:
        """Make an event of the run of a handler, because something asks for it."""

    @abstractmethod
    def event_of_publication(self, publication: Publication) -> OpenEvent:
        """Make an event of a plain one, because something asks for it."""

    @abstractmethod
    def lost(self, event_type: str) -> None:
        """Count an event that could not be read as published and dropped."""

    @abstractmethod
    def open(self, event_type: str) -> OpenEvent:
        """Begin an event."""

    @abstractmethod
    def close(
        self, event: OpenEvent, *, error: BaseException | None = None, end: int | None = None
    ) -> None:
        """End an event."""

    @property
    def current(self) -> OpenEvent | None:
        """The event whose handler is running in this thread or task."""
        found = self._current.get()
        kind = type(found)
        if kind is HandlerRun or kind is Publication:
            return found.event  # type: ignore[union-attr]
        return found  # type: ignore[return-value]

    @property
    def is_idle(self) -> bool:
        """Whether no handler is running in this thread or task."""
        return self._current.get() is None

    def leave(self, token: Token[Running]) -> None:
        """Undo `enter`."""
        try:
            self._current.reset(token)
        except ValueError:  # a generator or coroutine that goes on in another context than before
            old = token.old_value
            self._current.set(None if old is Token.MISSING else old)

    @contextlib.contextmanager
    def entered(self, event: OpenEvent) -> Iterator[None]:
        """Enter the event for the body."""
        token = self.enter(event)
        try:
            yield
        finally:
            self.leave(token)

    def handling(self, event: OpenEvent) -> contextlib.AbstractContextManager[None]:
        """Enter the event, and let a user's own OpenTelemetry spans nest under it meanwhile."""
        return NOTHING_HANDLED if self.stopped else self._handling(event)

    @contextlib.contextmanager
    def _handling(self, event: OpenEvent) -> Iterator[None]:
        tokens = self.enter_user_code(event)
        try:
            yield
        finally:
            self.leave_user_code(tokens)

    def enter_user_code(self, event: OpenEvent) -> UserCode:
        """Do what `handling` does, until `leave_user_code`: a hot path has no room for it."""
        token = self.enter(event)
        if self.stopped or event.place.is_off:  # it is in no run, so nothing may name it
            return token, None, None
        span = span_of(self, event)
        return token, enter_context(span), span

    def leave_user_code(self, tokens: UserCode) -> None:
        """Undo `enter_user_code`."""
        token, outer, span = tokens
        if outer is not None:
            leave_context(outer, span)
        self.leave(token)

    def enter_run(
        self,
        place: Place,
        cause: Cause | Publication | None,
        event_time: int,
        links: tuple[Cause, ...] = (),
    ) -> HandlerRun:
        """Begin the run of a handler, and do what `handling` does until `leave_run`.

        It is recorded only if it causes something or fails, and costs next to nothing if not.

        Args:
            place: What it has in common with other runs of the handler: an operation ``process``.
            cause: What is handled.
            event_time: Simulated time, or `spool.NO_TIME`.
            links: Further causes.
        """
        run = _new_run(HandlerRun)
        run.tracer = self
        run.place = place
        run.cause = cause
        run.event_time = event_time
        run.links = links
        run.ended = 0
        run.made = None
        if self.stopped or place.is_off:  # it is in no run, so nothing may name it
            run.made = self.nothing
            run.token, run.outer, run.began = self._current.set(self.nothing), None, 0
            return run
        run.token = self._current.set(run)
        around = get_context()
        inside = {**around, _SPAN_KEY: run} if around else {_SPAN_KEY: run}
        run.outer = set_context(context.Context(inside))
        run.began = perf_counter_ns()
        return run

    def leave_run(self, run: HandlerRun, error: BaseException | None = None) -> None:
        """End the run of a handler.

        Args:
            run: What `enter_run` gave.
            error: What the handler raised.
        """
        token = run.token
        if token is None:
            return  # a second time
        if error is not None:
            self.event_of_run(run)
        run.ended = perf_counter_ns()
        if run.outer is None:
            self._leave_contexts(run)
        else:
            try:
                reset_context(run.outer)
                self._current.reset(token)
                run.token = run.outer = None
            except (ValueError, RuntimeError):
                self._leave_contexts(run)
        if run.made is not None:  # or another thread has asked for it meanwhile
            self.close(run.made, error=error, end=run.ended)

    def interrupt_run(self, run: HandlerRun) -> OpenEvent:
        """Leave the run of a handler that goes on later; gives its event, to be closed then."""
        event = run.event
        self._leave_contexts(run)
        return event

    def _leave_contexts(self, run: EnteredSpan) -> None:
        token, outer = run.token, run.outer
        if token is None:
            return
        # An ancestor must not be kept by a run that is itself kept in a task's context.
        run.token = run.outer = None
        try:
            if outer is not None:
                reset_context(outer)
            self._current.reset(token)
        except (ValueError, RuntimeError):  # as in `leave` and `leave_context`
            if outer is not None:
                leave_context(outer, run)
            self.leave(token)

    def is_taken(self, portfolio: Any) -> bool:
        """Tell whether the events of a portfolio are recorded; None is that of the session."""
        takes, own = self.takes, self.portfolio
        return takes is None or takes(own if portfolio is None else name_of(portfolio) or own)

    def event(self, event_type: str, **parts: Any) -> contextlib.AbstractContextManager[OpenEvent]:
        """Open an event, run the body as its handler, and close it; takes what `open` takes.

        An exception in the body is recorded on the event and goes on to the caller.
        """
        if self.stopped:
            return Unrecorded(self.nothing)
        takes = self.takes
        if takes is not None:
            given = parts.get("portfolio")
            if not (takes(given) if type(given) is str and given else self.is_taken(given)):
                return UnrecordedCause(self)
        return self._event(event_type, **parts)

    @contextlib.contextmanager
    def _event(self, event_type: str, **parts: Any) -> Iterator[OpenEvent]:
        event = self.open(event_type, **parts)
        failure: BaseException | None = None
        with self.handling(event):
            try:
                yield event
            except BaseException as error:
                failure = error
                raise
            finally:
                self.close(event, error=failure)

    @contextlib.contextmanager
    def guarded(self, *, losing: str | None = None) -> Iterator[None]:
        """Keep whatever the body raises from the host: an adapter's own work stands in it.

        Args:
            losing: The kind of event that is lost if the body fails; it is counted as dropped.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            if losing is not None:
                self.lost(losing)
            self.complain(error)

    def complain(self, error: BaseException) -> None:
        """Log, once, that something could not be recorded; the host goes on."""
        if not self._complained:
            self._complained = True
            with contextlib.suppress(Exception):  # the host's log, or its depth of calls is used up
                _log.warning("fillpath could not record an event: %r", error, exc_info=error)


class Unrecorded(contextlib.ContextDecorator):
    """Stands in for the handling of an event that is not recorded, at next to no cost.

    Args:
        given: What the body gets.
    """

    def __init__(self, given: Any) -> None:
        self._given = given

    def __enter__(self) -> Any:
        return self._given

    def __exit__(self, *_: object) -> None:
        pass


NOTHING_HANDLED: Final = Unrecorded(None)


class UnrecordedCause:
    """The handling of an event that is not recorded, in a run that is: what it causes has no cause.

    Args:
        tracer: The tracer.
    """

    __slots__ = ("_token", "_tracer")

    def __init__(self, tracer: RunningEvent) -> None:
        self._tracer = tracer

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function, as what `contextlib` makes does."""

        @functools.wraps(function)
        def handled(*args: Any, **kwargs: Any) -> Any:
            with UnrecordedCause(self._tracer):
                return function(*args, **kwargs)

        return handled

    def __enter__(self) -> OpenEvent:
        tracer = self._tracer
        nothing = tracer.nothing
        self._token = tracer.enter(nothing)
        return nothing

    def __exit__(self, *_: object) -> None:
        try:
            self._tracer._current.reset(self._token)
        except ValueError:
            self._tracer.leave(self._token)


def failure_of(error: BaseException | None) -> dict[str, Any]:
    """What a record says of a handler's error; nothing if there is none."""
    if error is None or not _is_failure(error):
        return {}
    return {"error": {"type": type(error).__qualname__, "message": printed(error, 4096)}}


def _is_failure(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    cancelled = (GeneratorExit,) if asyncio is None else (GeneratorExit, asyncio.CancelledError)
    return not isinstance(error, cancelled)
