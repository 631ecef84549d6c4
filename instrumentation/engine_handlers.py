"""Runs the user's code in an engine as the handling of an event."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from fillpath.instrumentation.event_columns import time_of
from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place
from fillpath.instrumentation.running_event import UserCode
from fillpath.instrumentation.semconv import PROCESS, EventType
from fillpath.instrumentation.spool import NO_TIME

if TYPE_CHECKING:
    from fillpath.instrumentation.engine_run import EngineRun, Instrument


class Handling:
    """See `EngineRun.handling`."""

    __slots__ = ("_cause", "_entered", "_key", "_links", "_run", "_time")

    def __init__(
        self,
        run: EngineRun,
        key: tuple[str, str | None, str, Instrument],
        cause: Cause | None,
        event_time: int | None,
        links: Iterable[Cause],
    ) -> None:
        self._run = run
        self._key = key
        self._cause = cause
        self._time = event_time
        self._links = links
        self._entered: HandlerRun | None = None

    def __enter__(self) -> HandlerRun | None:
        run, key, time, links = self._run, self._key, self._time, self._links
        tracer = run.tracer
        if not run.active or tracer.stopped:
            return None
        try:
            self._entered = tracer.enter_run(
                run.places.get(key) or self._place(),
                self._cause,
                NO_TIME if time is None else time_of(time),
                tuple(links) if links else (),
            )
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
        return self._entered

    def _place(self) -> Place:
        run, (event_type, strategy, handler, instrument) = self._run, self._key
        place = run.places[self._key] = run.tracer.place(
            event_type,
            operation=PROCESS,
            portfolio=run.portfolio,
            strategy=strategy,
            symbol=instrument[0],
            venue=instrument[1],
            handler=handler,
        )
        return place

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered, run = self._entered, self._run
        if entered is None:
            return
        try:
            run.tracer.leave_run(entered, error)
            if entered.made is not None:
                run.handled(entered.made)
        except Exception as failure:  # noqa: BLE001 - a trading system must survive its observer
            run.tracer.complain(failure)


class Callback:
    """See `EngineRun.callback`."""

    __slots__ = ("_event", "_handler", "_run", "_strategy", "_time", "_tokens")

    def __init__(
        self, run: EngineRun, strategy: str | None, handler: str, event_time: int | None
    ) -> None:
        self._run = run
        self._strategy = strategy
        self._handler = handler
        self._time = event_time
        self._event: OpenEvent | None = None
        self._tokens: UserCode | None = None

    def __enter__(self) -> OpenEvent | None:
        run = self._run
        if not run.active or run.tracer.stopped:
            return None
        try:
            event = run.tracer.open(
                EventType.SYSTEM,
                portfolio=run.portfolio,
                strategy=self._strategy,
                handler=self._handler,
                event_time=self._time,
                parent=run.market,
            )
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
