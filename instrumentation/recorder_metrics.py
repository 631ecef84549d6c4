"""What the recording tells of itself, as OpenTelemetry metrics of the host's own MeterProvider.

The hot path keeps the totals that it has to keep anyway. They are read when a reader of the host's
collects, which is why all instruments here are observed, and none is added to.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation

from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.semconv import SCOPE_NAME, Event, Metric, Resource

Totals = Counter[tuple[str, ...]]
"""Numbers by the values of attributes."""


class _Observed:
    """The recorder of this process that goes on, and the sums of those that have ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.has_instruments = False
        self.running: list[Recorder] = []
        self.published: Totals = Counter()
        self.dropped: Totals = Counter()
        self.written = 0


_observed = _Observed()


def observe(recorder: Recorder) -> None:
    """Let a recorder's totals be read, until `end` is called."""
    if _is_real():
        recorder.count_sites()
    with _observed.lock:
        _observed.running.append(recorder)
        if not _observed.has_instruments:
            _observed.has_instruments = True
            _create_instruments()


def end(recorder: Recorder) -> None:
    """Keep the totals of a recorder that has stopped: they go on counting for the process."""
    published, dropped = recorder.totals()
    with _observed.lock:
        if recorder in _observed.running:
            _observed.running.remove(recorder)
            _observed.published.update(published)
            _observed.dropped.update(dropped)
            _observed.written += recorder.bytes_written


def forget() -> None:
    """Observe nothing more: in a forked child, the run is the parent's."""
    global _observed  # noqa: PLW0603 - its lock may be held for ever
    had = _observed.has_instruments
    _observed = _Observed()
    _observed.has_instruments = had


def _is_real() -> bool:
    """Tell whether somebody can read metrics already; a provider may also be set later."""
    provider = metrics.get_meter_provider()
    return not (
        isinstance(provider, NoOpMeterProvider) or type(provider).__name__ == "_ProxyMeterProvider"
    )


def _create_instruments() -> None:
    meter = metrics.get_meter(SCOPE_NAME)
    meter.create_observable_counter(
        Metric.RECORDER_EVENTS,
        [_safely(_published)],
        "{event}",
        "Events that the host has published.",
    )
    meter.create_observable_counter(
        Metric.RECORDER_DROPPED, [_safely(_dropped)], "{event}", "Of these, not in the spool."
    )
    meter.create_observable_counter(
        Metric.RECORDER_WRITTEN, [_safely(_written)], "By", "What was appended to spools."
    )
    meter.create_observable_gauge(
        Metric.RECORDER_WAITING,
        [_safely(_waiting)],
        "{record}",
        "Records that are still in memory.",
    )
    meter.create_observable_gauge(
        Metric.SPOOL_LAG, [_safely(_lag)], "By", "What the writer has not taken from spools."
    )


def _safely(
    observed: Callable[[list[Recorder]], Iterable[Observation]],
) -> Callable[[CallbackOptions], list[Observation]]:
    def callback(_: CallbackOptions) -> list[Observation]:
        try:
            with _observed.lock:
                running = list(_observed.running)
            for recorder in running:
                recorder.count_sites()
            return list(observed(running))
        except Exception:  # noqa: BLE001 - it must not fail of its own observation
            return []

    return callback


def _published(running: list[Recorder]) -> Iterator[Observation]:
    total = Counter(_observed.published)
    for recorder in running:
        total.update(recorder.totals()[0])
    for (portfolio, kind), number in sorted(total.items()):
        yield Observation(number, {Resource.PORTFOLIO: portfolio, Event.TYPE: kind})


def _dropped(running: list[Recorder]) -> Iterator[Observation]:
    total = Counter(_observed.dropped)
    for recorder in running:
        total.update(recorder.totals()[1])
    for (portfolio, kind, reason), number in sorted(total.items()):
        yield Observation(
            number,
            {Resource.PORTFOLIO: portfolio, Event.TYPE: kind, Metric.DROP_REASON: reason},
        )


def _written(running: list[Recorder]) -> Iterator[Observation]:
    yield Observation(_observed.written + sum(recorder.bytes_written for recorder in running))


def _waiting(running: list[Recorder]) -> Iterator[Observation]:
    if running:
        yield Observation(sum(recorder.waiting for recorder in running))


def _lag(running: list[Recorder]) -> Iterator[Observation]:
    if running:
        yield Observation(sum(recorder.lag() for recorder in running))
