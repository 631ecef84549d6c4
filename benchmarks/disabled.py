"""What fillpath costs a program that has it built in, and has it switched off.

Every door is called in a loop with ``FILLPATH_ENABLED=false``; the same loop with nothing in it, or
with the bare bus, is taken off. The peer is a span of OpenTelemetry's own no-op tracer. The last
figures are of events that are left out because another portfolio is named.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from opentelemetry.trace import NoOpTracer

from fillpath.instrumentation import TracedEventBus, Tracing
from fillpath.instrumentation.semconv import Bar, EventType
from fillpath.instrumentation.settings import ENV_ENABLED
from harness import Figure, Size, alternate, figure

Loop = Callable[[int], None]
Door = Callable[[Tracing], Loop]
_NAMED: Final = "somebody/else"
_EVENT: Final = {"type": "BAR", "symbol": "AAPL", "close": 190.5}
_ATTRIBUTES: Final = {Bar.CLOSE: 190.5}


class _Bus:
    """A bus with nobody behind it."""

    def publish(self, event: dict[str, Any]) -> None:
        """Hand it to nobody."""


def measure(size: Size) -> dict[str, Figure]:
    """Call every door in turn."""
    events, rounds = size.pick(500, 50_000, 200_000), size.pick(1, 7, 9)
    variants = {name: _switched_off(door, events) for name, door in _DOORS.items()}
    variants |= {
        f"{name}, another portfolio": _left_out(_DOORS[name], events)
        for name in ("emitter", "open, close", "with event", "bus.publish", "with span")
    }
    costs = {name: cost.thread for name, cost in alternate(variants, rounds).items()}
    nothing, bare, peer = (costs.pop(name) for name in (_NOTHING, _BARE, _NOOP))
    figures = {}
    for name, cost in costs.items():
        own = max(cost - (bare if name.startswith("bus") else nothing), 0.0) / 1e3
        figures[name] = figure(
            own,
            "µs/event",
            peer=("OTel no-op tracer, with span", (peer - nothing) / 1e3),
            goal="≤ 0.5 µs",
            at_most=0.5,
        )
    return figures


def _switched_off(
    door: Door, events: int
) -> Callable[[], AbstractContextManager[Callable[[], int]]]:
    return _prepared(door, events, "false")


def _left_out(door: Door, events: int) -> Callable[[], AbstractContextManager[Callable[[], int]]]:
    return _prepared(door, events, _NAMED)


def _prepared(
    door: Door, events: int, enabled: str
) -> Callable[[], AbstractContextManager[Callable[[], int]]]:
    @contextmanager
    def prepared() -> Iterator[Callable[[], int]]:
        os.environ[ENV_ENABLED] = enabled
        try:
            with (
                tempfile.TemporaryDirectory() as folder,
                Tracing(data=folder, writer="none") as session,
            ):
                loop = door(session)
                with session.tracer.event(EventType.SYSTEM, portfolio=_NAMED):
                    pass  # so that it does not warn that nothing fits

                def work() -> int:
                    loop(events)
                    return events

                yield work
        finally:
            del os.environ[ENV_ENABLED]

    return prepared


def _nothing(_: Tracing) -> Loop:
    def loop(number: int) -> None:
        for _ in range(number):
            pass

    return loop


def _emitter(session: Tracing) -> Loop:
    emit = session.tracer.emitter(EventType.BAR, symbol="AAPL", fields=[Bar.CLOSE, Bar.VOLUME])

    def loop(number: int) -> None:
        for _ in range(number):
            emit(1, None, 190.5, 1200.0)

    return loop


def _open_close(session: Tracing) -> Loop:
    tracer = session.tracer

    def loop(number: int) -> None:
        for _ in range(number):
            tracer.close(tracer.open(EventType.BAR, symbol="AAPL", attributes=_ATTRIBUTES))

    return loop


def _with_event(session: Tracing) -> Loop:
    tracer = session.tracer

    def loop(number: int) -> None:
        for _ in range(number):
            with tracer.event(EventType.BAR, symbol="AAPL"):
                pass

    return loop


def _bare_bus(_: Tracing) -> Loop:
    return _publishing(_Bus())


def _bus(session: Tracing) -> Loop:
    return _publishing(TracedEventBus(_Bus(), tracing=session))


def _publishing(bus: Any) -> Loop:
    def loop(number: int) -> None:
        for _ in range(number):
            bus.publish(_EVENT)

    return loop


def _span(session: Tracing) -> Loop:
    tracer = session.tracer_provider.get_tracer("benchmark")

    def loop(number: int) -> None:
        for _ in range(number):
            tracer.start_span("publish BAR", attributes=_ATTRIBUTES).end()

    return loop


def _with_span(session: Tracing) -> Loop:
    return _spanning(session.tracer_provider.get_tracer("benchmark"))


def _no_op(_: Tracing) -> Loop:
    return _spanning(NoOpTracer())


def _spanning(tracer: Any) -> Loop:
    def loop(number: int) -> None:
        for _ in range(number):
            with tracer.start_as_current_span("publish BAR", attributes=_ATTRIBUTES):
                pass

    return loop


_NOTHING: Final = "nothing"
_BARE: Final = "bare bus"
_NOOP: Final = "no-op tracer"
_DOORS: Final[dict[str, Door]] = {
    _NOTHING: _nothing,
    _BARE: _bare_bus,
    _NOOP: _no_op,
    "emitter": _emitter,
    "open, close": _open_close,
    "with event": _with_event,
    "bus.publish": _bus,
    "start span, end": _span,
    "with span": _with_span,
}
