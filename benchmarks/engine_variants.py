"""The ways to run an engine's backtest: untraced, traced, with a span of the SDK for each event."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fillpath.instrumentation import Tracing
from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from peers import NullExporter, sdk_provider
from published import published

Work = Callable[[], int]
Prepared = Callable[[], AbstractContextManager[Work]]


def engine_variants(
    instrumentor: Callable[[], EngineInstrumentor],
    ready: Callable[[], Work],
    with_spans: Callable[[Any, list[int]], AbstractContextManager[None]],
    bars: Callable[[], int],
    events: list[int],
    spans: list[int],
) -> dict[str, Prepared]:
    """Make the ways to run a backtest, for `harness.alternate`.

    Args:
        instrumentor: Of the engine.
        ready: Prepares the backtest and gives what runs it.
        with_spans: Patches the engine for the SDK's spans; gets a tracer of the SDK, and `spans`.
        bars: Gives the number of bars that a run records. They come through the fast door, whose
            events the totals do not count one by one.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """

    @contextmanager
    def untraced() -> Iterator[Work]:
        yield ready()

    @contextmanager
    def traced() -> Iterator[Work]:
        attached = instrumentor()
        with tempfile.TemporaryDirectory() as folder:
            with Tracing("benchmark", data=folder, writer="none") as session:
                attached.instrument()
                try:
                    yield ready()
                finally:
                    attached.uninstrument()
            events.append(published(session) + bars())

    @contextmanager
    def spanned() -> Iterator[Work]:
        provider = sdk_provider(NullExporter(), 100_000)
        with with_spans(provider.get_tracer("benchmark"), spans):
            yield ready()
        provider.shutdown()

    return {"untraced": untraced, "traced": traced, "sdk": spanned}
