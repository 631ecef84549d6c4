"""Tells which event a queue's loop is busy with: the one it got last, until it asks for the next.

Nobody calls a handler through us there: ``event = events.get()`` gives the event to a loop, which
does with it what it likes. So the stack tells. What is put into a queue while the function that got
an event is running, at or below the line where it did, was caused by that event. The function that
the loop called on the way is the handler.
"""

from __future__ import annotations

import sys
import threading
import time
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, Final

from opentelemetry import context
from opentelemetry.trace.propagation import _SPAN_KEY

from fillpath.instrumentation.event_memory import Known, event_of
from fillpath.instrumentation.event_span import Publication, get_context, set_context, span_of
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import NO_TIME

_OURS: Final = __name__.rpartition(".")[0]


class Receipt:
    """What one loop got last, and what it does with it.

    The loop is known by the address of its frame, never by the frame itself: that would keep alive
    what the host's function holds.

    """

    __slots__ = (
        "_around", "_code", "_first_line", "_frame", "_inside", "_is_over", "_known", "_outer",
        "_run", "_run_of", "_since", "_thread_and_task", "_tracer", "_was_running",
    )  # fmt: skip

    def __init__(self, tracer: EventTracer, frame: FrameType, outer: Receipt | None) -> None:
        self._tracer = tracer
        self._frame, self._code, self._first_line = id(frame), frame.f_code, frame.f_lineno
        self._outer = outer
        self._thread_and_task = _thread_and_task()
        self._run: OpenEvent | None = None
        self._run_of: tuple[int, CodeType | None, int] = (0, None, 0)
        self.begin()

    # -- The loop ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Wait for the event."""
        self._known: Known | None = None
        self._was_running = self._tracer.running()
        self._around: Any = None
        self._inside: Any = None
        self._is_over = False
        self._since = 0

    def came(self, known: Known | None, *, is_later: bool = False) -> None:
        """Note the event that the loop got; in its own thread and task, it is the current one.

        Args:
            known: The event; None for what was never published here.
            is_later: Whether the loop may have awaited it elsewhere.
        """
        self._known, self._since = known, time.perf_counter_ns()
        if known is None or (is_later and self._thread_and_task != _thread_and_task()):
            return  # `asyncio.wait_for` waits in a task of its own
        tracer = self._tracer
        tracer.enter(known)
        span = known if isinstance(known, Publication) else span_of(tracer, known)
        around = self._around = get_context()
        inside = {**around, _SPAN_KEY: span} if around else {_SPAN_KEY: span}
        self._inside = context.Context(inside)
        set_context(self._inside)

    def is_of(self, frame: FrameType) -> bool:
        """Tell whether this is the loop."""
        return id(frame) == self._frame and frame.f_code is self._code

    def end(self) -> None:
        """Say that the loop is done with the event."""
        if self._run is not None:
            self._close_run()
        self._is_over = True
        if self._inside is None:
            return
        if self._tracer.running() is self._known:
            self._tracer.enter(self._was_running)
        around = get_context()
        if around is self._inside:
            set_context(self._around)
        elif around.get(_SPAN_KEY) is (ours := self._inside[_SPAN_KEY]) and ours is not None:
            others = {key: value for key, value in around.items() if key != _SPAN_KEY}
            before = self._around.get(_SPAN_KEY)
            set_context(
                context.Context(others if before is None else {**others, _SPAN_KEY: before})
            )

    @property
    def is_over(self) -> bool:
        """Whether the loop is done with the event."""
        return self._is_over

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that anybody publishes can be caused by what a loop got."""
        return self._is_over and self._inside is not None and self._outer is None

    @property
    def is_ready(self) -> bool:
        """Whether the loop may use this again: no other task takes the event from it."""
        return self._inside is not None and self._thread_and_task == _thread_and_task()

    def is_at(self, frame: FrameType) -> None:
        """Note the line where the loop gets an event: it may do so in several."""
        self._first_line = min(self._first_line, frame.f_lineno)

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._tracer.close(run)
            self._since = run.end

    # -- What it causes ---------------------------------------------------------------------------

    def running(self, frame: FrameType, strategy_of: Any) -> tuple[bool, OpenEvent | None]:
        """Whether the loop is still busy with the event, and the handler's run if one is running.

        Args:
            frame: The host's function that puts something into a queue.
            strategy_of: Tells the strategy that a handler's object is.
        """
        if self._thread_and_task != _thread_and_task():
            # A task or thread of a handler: its context says whose child it is, if that knew it.
            return True, event_of(self._known) if self._inside is None else None
        handler: FrameType | None = None
        each: FrameType | None = frame
        while each is not None and not self.is_of(each):
            handler, each = each, each.f_back
        if each is None or each.f_lineno < self._first_line:
            return False, None
        known, current = self._known, self._tracer.running()
        if (
            known is None
            or self._is_over
            or (current is not known and current is not self._was_running)
        ):
            return True, None  # something nearer is running
        return True, self._run_in(
            event_of(known), each if handler is None else handler, strategy_of
        )

    def _run_in(self, event: OpenEvent, handler: FrameType, strategy_of: Any) -> OpenEvent:
        code, owner = handler.f_code, _owner(handler)
        key = (id(handler), code, id(owner))
        if self._run is not None and self._run_of == key:
            return self._run
        self._close_run()
        name = code.co_qualname.rpartition("<locals>.")[2]
        self._run = self._tracer.open(
            event.event_type,
            operation=PROCESS,
            portfolio=event.portfolio,
            strategy=strategy_of(owner),
            handler=name if owner is None else f"{type(owner).__name__}.{code.co_name}",
            event_time=None if event.event_time == NO_TIME else event.event_time,
            parent=event,
        )
        self._run.start = self._since
        self._run_of = key
        return self._run

    def follow(self, frame: FrameType, outer: Receipt | None) -> None:
        """Take the place of the receipt before: a loop may get its events in several lines."""
        if outer is not None and outer.is_of(frame):
            self._first_line = min(self._first_line, outer._first_line)
            self._outer = outer._outer
            self._was_running = self._tracer.running()

    @property
    def outer(self) -> Receipt | None:
        """What the loop further down the stack got, if that is another one."""
        return self._outer

    @property
    def tracer(self) -> EventTracer:
        """The tracer of the event."""
        return self._tracer


_RECEIPT: Final[ContextVar[Receipt | None]] = ContextVar("fillpath_receipt", default=None)


receipt_here: Final = _RECEIPT.get
"""Gives what the innermost loop of this thread or task got last; None where none is known."""


def wait(tracer: EventTracer, frame: FrameType) -> Receipt:
    """Begin a receipt: a loop asks for the next event, so it is done with the one before."""
    outer = _RECEIPT.get()
    if outer is not None and outer.is_of(frame) and outer.tracer is tracer and outer.is_ready:
        outer.end()
        outer.begin()
        outer.is_at(frame)
        return outer
    while outer is not None and not outer.is_of(frame) and not _is_below(outer, frame):
        outer.end()
        outer = outer.outer
    if outer is not None and outer.is_of(frame):
        outer.end()
    receipt = Receipt(tracer, frame, outer)
    receipt.follow(frame, outer)
    _RECEIPT.set(receipt)
    return receipt


def _is_below(receipt: Receipt, frame: FrameType) -> bool:
    each: FrameType | None = frame
    while each is not None:
        if receipt.is_of(each):
            return True
        each = each.f_back
    return False


def pause(depth: int) -> None:
    """Say that a loop has heard that there is no event, or has said that it has done one.

    Args:
        depth: Functions of ours between the loop and this one, at least.
    """
    receipt = _RECEIPT.get()
    if receipt is not None and not receipt.is_over and receipt.is_of(host_frame(depth + 1)):
        receipt.end()


def running(tracer: EventTracer, depth: int, strategy_of: Any) -> OpenEvent | None:
    """The run of a loop's handler that is the nearest that runs, if it is; ends what is over.

    Args:
        tracer: Who asks.
        depth: Functions between this one and the host's, about.
        strategy_of: Tells the strategy that a handler's object is.
    """
    receipt = _RECEIPT.get()
    if receipt is None:
        return None
    frame = host_frame(depth + 1)
    while receipt is not None:
        if receipt.tracer is tracer:
            is_busy, run = receipt.running(frame, strategy_of)
            if is_busy:
                return run
        receipt.end()
        receipt = receipt.outer
        _RECEIPT.set(receipt)
    return None


def host_frame(depth: int) -> FrameType:
    """The function of the host that has called us.

    Args:
        depth: Functions of ours between it and this one, at least.
    """
    frame = sys._getframe(depth)
    while frame.f_back is not None and frame.f_globals.get("__package__") == _OURS:
        frame = frame.f_back
    return frame


def _owner(frame: FrameType) -> Any:
    code = frame.f_code
    if code.co_argcount and code.co_varnames[0] == "self":
        return frame.f_locals.get("self")
    return None


def _thread_and_task() -> tuple[int, int]:
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return threading.get_ident(), id(task)
