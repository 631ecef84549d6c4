"""Follows the loops that get their events from a queue: what they get, and when they are done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fillpath.instrumentation import queue_loop
from fillpath.instrumentation.bus_deliveries import Deliveries
from fillpath.instrumentation.event_memory import EventMemory
from fillpath.instrumentation.event_tracer import EventTracer


class BusQueue:
    """The loops of one bus. Its public methods stand in for those of the bus.

    Args:
        tracer: Gives the tracer that records now, if any.
        memory: Under which event an object was recorded.
        deliveries: Tell which event it is that a loop got.
    """

    def __init__(
        self,
        tracer: Callable[[], EventTracer | None],
        memory: EventMemory,
        deliveries: Deliveries,
    ) -> None:
        self._tracer = tracer
        self._memory = memory
        self._deliveries = deliveries

    def receive(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Get the next event for a loop; what it puts into queues until then is caused by it."""
        tracer = self._tracer()
        if tracer is None:
            return function(*args, **kwargs)
        receipt = None
        try:
            receipt = queue_loop.wait(tracer, queue_loop.host_frame(2))
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
        result = function(*args, **kwargs)
        if receipt is None:
            return result
        if inspect.iscoroutine(result):
            return self._awaited(tracer, receipt, result)
        self._came(tracer, receipt, result)
        return result

    async def _awaited(
        self, tracer: EventTracer, receipt: queue_loop.Receipt, waiting: Coroutine[Any, Any, Any]
    ) -> Any:
        result = await waiting
        self._came(tracer, receipt, result, is_later=True)
        return result

    def _came(
        self,
        tracer: EventTracer,
        receipt: queue_loop.Receipt,
        result: Any,
        *,
        is_later: bool = False,
    ) -> None:
        try:
            known = None if result is None else self._memory.given(result)
            if result is not None and (known is None or known.tracer is not tracer):
                items = result if type(result) is tuple else (result,)
                known = self._deliveries.delivered(tracer, items, nearest=False)
            receipt.came(known, is_later=is_later)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)

    def pause(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Answer a loop that asks whether there are events, or says that it has done one."""
        result = function(*args, **kwargs)
        if not result if type(result) is int else result is not False:
            self.asked(2)
        return result

    def asked(self, depth: int) -> None:
        """Note that a queue has said to be empty."""
        tracer = self._tracer()
        if tracer is not None:
            try:
                queue_loop.pause(depth + 1)
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                tracer.complain(error)
