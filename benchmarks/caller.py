"""What recording one event costs the thread that publishes it.

Both hosts publish the same bar: strategy, symbol, venue and five numbers. The clock is the thread's
own CPU time; what other threads do (the recorder's, the batch processor's) is in the second figure.
`with its handler's run` gives each bar to a handler that does nothing, as an engine's adapter does;
the peer's span is the current one meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bars import emit_bars, handle_bars, span_bars, span_bars_around
from fillpath.instrumentation import Tracing
from harness import Figure, Size, alternate, figure
from peers import NullExporter, sdk_provider


def measure(size: Size) -> dict[str, Figure]:
    """Publish in turn through the fast door and as spans of the SDK."""
    ours, theirs = size.pick(2_000, 300_000, 1_000_000), size.pick(500, 20_000, 50_000)

    @contextmanager
    def emitted() -> Iterator[Callable[[], int]]:
        with (
            tempfile.TemporaryDirectory() as folder,
            Tracing(data=folder, writer="none") as session,
        ):
            publish = emit_bars(session.tracer)
            yield lambda: publish(ours)

    @contextmanager
    def spanned() -> Iterator[Callable[[], int]]:
        provider = sdk_provider(NullExporter(), theirs)
        publish = span_bars(provider.get_tracer("benchmark"))
        yield lambda: publish(theirs)
        provider.shutdown()

    @contextmanager
    def handled() -> Iterator[Callable[[], int]]:
        with (
            tempfile.TemporaryDirectory() as folder,
            Tracing(data=folder, writer="none") as session,
        ):
            publish = handle_bars(session.tracer)
            yield lambda: publish(ours)

    @contextmanager
    def spanned_handled() -> Iterator[Callable[[], int]]:
        provider = sdk_provider(NullExporter(), theirs)
        publish = span_bars_around(provider.get_tracer("benchmark"))
        yield lambda: publish(theirs)
        provider.shutdown()

    variants = {"ours": emitted, "sdk": spanned, "run": handled, "sdk run": spanned_handled}
    costs = alternate(variants, rounds=size.pick(1, 7, 9))
    mine, sdk = costs["ours"], costs["sdk"]
    peer = "OTel SDK span, batch processor, null exporter"
    return {
        "caller's thread, CPU": figure(
            mine.thread / 1e3,
            "µs/event",
            peer=(peer, sdk.thread / 1e3),
            goal="≤ 0.6 µs and ≥ 25×",
            at_most=0.6,
            ratio_at_least=25,
        ),
        "all threads, CPU": figure(mine.cpu / 1e3, "µs/event", peer=(peer, sdk.cpu / 1e3)),
        "wall": figure(mine.wall / 1e3, "µs/event", peer=(peer, sdk.wall / 1e3)),
        "with its handler's run, CPU": figure(
            costs["run"].thread / 1e3,
            "µs/event",
            peer=("the same span, current meanwhile", costs["sdk run"].thread / 1e3),
            goal="≤ 1.5 µs",
            at_most=1.5,
        ),
    }
