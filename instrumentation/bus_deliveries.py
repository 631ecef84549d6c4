"""Follows the handlers of a home-made bus: which event each is given, and how its run ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any, Final

from fillpath.instrumentation.event_memory import EventMemory, Known
from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.followed_calls import finish, handler_name
from fillpath.instrumentation.host_fields import EventReader
from fillpath.instrumentation.host_parts import is_scalar
from fillpath.instrumentation.open_event import OpenEvent, Place
from fillpath.instrumentation.semconv import PROCESS, PUBLISH

_MAX_ITEMS_TAKEN: Final = 100
_MAX_FAILURES: Final = 256
_MAX_DELIVERIES: Final = 8192


class Deliveries:
    """The runs of a bus's handlers.

    Args:
        tracer: Gives the tracer that records now, if any.
        memory: Under which event an object was recorded.
        reader: Takes events apart.

    Attributes:
        products: What handlers gave back, and which run of which did.
        has_products: Whether any handler has given something back.
    """

    def __init__(
        self, tracer: Callable[[], EventTracer | None], memory: EventMemory, reader: EventReader
    ) -> None:
        self._tracer = tracer
        self._memory = memory
        self._reader = reader
        self.products = EventMemory()
        self.has_products = False
        self._failures: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._places: dict[tuple[Any, ...], Place] = {}

    def deliver(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a handler as the delivery of the event among its arguments."""
        run = self._begin(function, None, args, kwargs)
        if run is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._fail(run, error)
            raise
        if result is None:  # as most handlers end
            run.tracer.leave_run(run)
            return None
        return self._finish(run, result)

    def deliver_to_method(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Do so with a handler whose first argument is the object that it is a method of."""
        run = self._begin(function, args[0], args[1:], kwargs)
        if run is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._fail(run, error)
            raise
        if result is None:
            run.tracer.leave_run(run)
            return None
        return self._finish(run, result)

    def _begin(
        self,
        function: Callable[..., Any],
        owner: Any,
        given: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HandlerRun | None:
        tracer = self._tracer()
        if tracer is None:
            return None
        try:
            known = self._memory.given(given[0]) if len(given) == 1 and not kwargs else None
            if known is None or known.tracer is not tracer:
                values = (*given, *kwargs.values())
                known = self.delivered(tracer, values)
                if known is None:
                    if tracer.is_idle:
                        self._memory.missed(values)
                    return None
            return tracer.enter_run(
                self._place(tracer, known, function, owner), known, known.event_time
            )
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
        return None

    def _fail(self, run: HandlerRun, error: BaseException) -> None:
        event = run.event.parent  # which it forgets when it ends
        run.tracer.leave_run(run, error)
        self._failed(event, error)

    def _finish(self, run: HandlerRun, result: Any) -> Any:
        """End a run that has a result, which may have to be awaited, or hold events."""
        tracer = run.tracer
        opened = tracer.interrupt_run(run)
        event = opened.parent
        return finish(
            tracer,  # type: ignore[arg-type]  # an EventTracer
            opened,
            result,
            take=partial(self._take, opened),
            after=lambda error: self._failed(event, error),
        )

    def _place(
        self, tracer: EventTracer, event: Known, function: Callable[..., Any], owner: Any
    ) -> Place:
        """What the runs of a handler have in common; its name is made up once."""
        if type(function) is not FunctionType:  # what else can be called may have any name
            return self._place_of(tracer, event, handler_name(function, owner), owner)
        key: tuple[Any, ...]
        if owner is None:
            key = event.place, function.__qualname__
        else:
            strategy = self._reader.strategy_of(owner)
            kind = owner if isinstance(owner, type) else type(owner)
            key = event.place, strategy, kind.__name__, function.__name__
        place = self._places.get(key)
        if place is None:
            place = self._place_of(tracer, event, handler_name(function, owner), owner)
            self._places[key] = place
        return place

    def _place_of(
        self, tracer: EventTracer, event: Known, handler: str | None, owner: Any
    ) -> Place:
        _, event_type, portfolio, *_ = event.place.parts
        strategy = self._reader.strategy_of(owner)
        key = (event.place, strategy, None, handler)
        place = self._places.get(key)
        if place is None:
            place = tracer.place(
                event_type,
                operation=PROCESS,
                portfolio=portfolio,
                strategy=strategy,
                handler=handler,
            )
            if len(self._places) > _MAX_DELIVERIES:
                self._places.clear()
            self._places[key] = place
        return place

    def run_of(self, event: OpenEvent, handler: str | None, owner: Any) -> OpenEvent:
        """Begin the run of a handler.

        Args:
            event: What it is given.
            handler: Its name.
            owner: The object it is a method of, or None.
        """
        tracer = event.tracer
        place = self._place_of(tracer, event, handler, owner)
        return tracer.open_at(place, event, event.event_time)

    def delivered(
        self, tracer: EventTracer, values: Iterable[Any], *, nearest: bool = True
    ) -> Known | None:
        """The event that a handler is given: that of the object itself.

        A bus may hand its handlers a copy or an envelope: then the host's id tells, or else it is
        the event that is being published.

        Args:
            tracer: Who recorded it.
            values: What the handler is given.
            nearest: Whether it may be the event that is being published.
        """
        values = tuple(values)
        for value in values:
            known = self._memory.given(value)
            if known is not None and known.tracer is tracer:
                return known
        values = [value for value in values if not is_scalar(value)]
        found = [self._by_id(tracer, value) for value in values]
        current = tracer.current if nearest else None
        if current is not None and current.operation == PUBLISH and not current.closed:
            found.append(current)
        return next((e for e in found if e is not None and e.tracer is tracer), None)

    def _by_id(self, tracer: EventTracer, value: Any) -> OpenEvent | None:
        portfolio, event_id = self._reader.identity(value)
        if event_id is None:
            return None
        return self._memory.find_id(event_id, portfolio or tracer.portfolio)

    def _failed(self, event: OpenEvent | None, error: BaseException | None) -> None:
        """Remember, for an observer, that this failure of a handler has been recorded."""
        if event is not None and error is not None:
            self._failures[id(event), id(error)] = None
            if len(self._failures) > _MAX_FAILURES:
                self._failures.popitem(last=False)

    def has_recorded(self, event: OpenEvent, error: BaseException) -> bool:
        """Tell, once, whether the failure of a handler has been recorded."""
        return self._failures.pop((id(event), id(error)), _MAX_FAILURES) is None

    def _take(self, run: OpenEvent, given: Any) -> None:
        """Note what a handler gave back: the host may be about to publish it."""
        self.has_products = True
        is_list = isinstance(given, list) or type(given) is tuple
        for item in given[:_MAX_ITEMS_TAKEN] if is_list else (given,):
            self.products.remember(item, run)
