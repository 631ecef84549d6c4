"""What a span costs an application that is written against OpenTelemetry's API.

The same calls run on fillpath's own provider and on the SDK: start a span with eight attributes and
end it; and as a context manager, with the attributes set one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from opentelemetry.trace import Tracer

from bars import BAR_NUMBERS, STRATEGY, SYMBOL, VENUE, span_bars
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.semconv import PUBLISH, EventType, Trading, span_name
from harness import Figure, Size, alternate, figure
from peers import NullExporter, sdk_provider

Host = Callable[[Tracer], Callable[[int], int]]
_PRICES: Final = (100.5, 101.75, 100.25, 101.0, 5000.0)


def measure(size: Size) -> dict[str, Figure]:
    """Run the same application on both providers in turn."""
    ours, theirs = size.pick(1_000, 60_000, 200_000), size.pick(500, 15_000, 40_000)
    rounds = size.pick(1, 5, 9)

    def light(host: Host) -> Callable[[], AbstractContextManager[Callable[[], int]]]:
        @contextmanager
        def prepared() -> Iterator[Callable[[], int]]:
            with (
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
                Tracing(data=folder, writer="none") as session,
            ):
                publish = host(session.tracer_provider.get_tracer("benchmark"))
                yield lambda: publish(ours)

        return prepared

    def sdk(host: Host) -> Callable[[], AbstractContextManager[Callable[[], int]]]:
        @contextmanager
        def prepared() -> Iterator[Callable[[], int]]:
            provider = sdk_provider(NullExporter(), theirs)
            publish = host(provider.get_tracer("benchmark"))
            yield lambda: publish(theirs)
            provider.shutdown()

        return prepared

    figures: dict[str, Figure] = {}
    peer = "OTel SDK, batch processor, null exporter"
    for title, host in (("start with 8 attributes, end", span_bars), ("with …, 8 set", _current)):
        costs = alternate({"ours": light(host), "sdk": sdk(host)}, rounds)
        first = not figures
        figures[title] = figure(
            costs["ours"].thread / 1e3,
            "µs/span",
            peer=(peer, costs["sdk"].thread / 1e3),
            goal="≤ 2.5 µs" if first else None,
            at_most=2.5,
        )
    return figures


def _current(tracer: Tracer) -> Callable[[int], int]:
    """A host that makes each span the current one and sets its attributes one by one."""
    name = span_name(PUBLISH, EventType.BAR)
    texts = ((Trading.STRATEGY, STRATEGY), (Trading.SYMBOL, SYMBOL), (Trading.VENUE, VENUE))
    numbers = tuple(zip(BAR_NUMBERS, _PRICES, strict=True))

    def publish(events: int) -> int:
        for _ in range(events):
            with tracer.start_as_current_span(name) as span:
                for key, text in texts:
                    span.set_attribute(key, text)
                for key, number in numbers:
                    span.set_attribute(key, number)
        return events

    return publish
