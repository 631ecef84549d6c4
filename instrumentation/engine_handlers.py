"""Runs the user's code in an engine as the handling of an event."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.running_event import UserCode
from fillpath.instrumentation.semconv import PROCESS, EventType
from fillpath.instrumentation.spool import NO_TIME

if TYPE_CHECKING:
    from fillpath.instrumentation.engine_run import EngineRun


class _Body:
    """Runs the body of a `with` as the handling of an event."""

    __slots__ = ("_event", "_parts", "_run", "_tokens")

    def __init__(self, run: EngineRun, parts: tuple[Any, ...]) -> None:
        self._run = run
        self._parts = parts
        self._event: OpenEvent | None = None
        self._tokens: UserCode | None = None

    def _open(self) -> OpenEvent:
        raise NotImplementedError

    def __enter__(self) -> OpenEvent | None:
        run = self._run
        if not run.active or run.tracer.stopped:
            return None
        try:
            event = self._open()
            self._tokens = run.tracer.enter_user_code(event)
            self._event = event
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            run.tracer.complain(error)
        return self._event

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        event, tokens, run = self._event, self._tokens, self._run
        if event is None or tokens is None:
            return
        try:
            run.tracer.leave_user_code(tokens)
            run.handled(event)
            run.tracer.close(event, error=error)
        except Exception as failure:  # noqa: BLE001 - a trading system must survive its observer
            run.tracer.complain(failure)


class Handling(_Body):
    """See `EngineRun.handling`."""

    __slots__ = ()

    def _open(self) -> OpenEvent:
        event_type, strategy, handler, instrument, event_time, cause, links = self._parts
        run = self._run
        key = event_type, strategy, handler, instrument
        place = run.places.get(key)
        if place is None:
            place = run.places[key] = run.tracer.place(
                event_type,
                operation=PROCESS,
                portfolio=run.portfolio,
                strategy=strategy,
                symbol=instrument[0],
                venue=instrument[1],
                handler=handler,
            )
        if type(cause) is not OpenEvent:
            cause = run.tracer.event_of(cause)
        time = NO_TIME if event_time is None else event_time
        return run.tracer.open_at(place, cause, time, None, links)


class Callback(_Body):
    """See `EngineRun.callback`."""

    __slots__ = ()

    def _open(self) -> OpenEvent:
        strategy, handler, event_time = self._parts
        return self._run.tracer.open(
            EventType.SYSTEM,
            portfolio=self._run.portfolio,
            strategy=strategy,
            handler=handler,
            event_time=event_time,
            parent=self._run.market,
        )
