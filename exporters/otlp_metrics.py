"""What a process that sends spans by OTLP tells of itself, as OpenTelemetry metrics.

Who sends leaves the numbers here. They are read when a reader collects; where nobody does, it
costs nothing worth mentioning.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from fillpath.exporters.metric_callbacks import SECONDS_BOUNDS, Numbers, callback, meter_if_wanted
from fillpath.instrumentation.semconv import Metric

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram


class Sent(NamedTuple):
    """How far a run is on its way to a destination.

    Attributes:
        acknowledged: Spans that were taken.
        rejected: Spans that were refused, one by one or with their request.
        lag_bytes: Bytes of the spool that are still to be sent.
    """

    acknowledged: int
    rejected: int
    lag_bytes: int


class OtlpMetrics:
    """The numbers of one process that sends. Any thread may call any of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, str], Sent] = {}
        self._retries: Counter[tuple[str, str]] = Counter()
        self._durations: Histogram | None = None

    def register(self) -> None:
        """Make the instruments, of the process's MeterProvider, whenever it gets one. Once only."""
        with self._lock:
            if self._durations is not None:
                return
            meter = meter_if_wanted()
            if meter is None:
                return
            counters: list[tuple[str, str, str, Callable[[], Numbers]]] = [
                (Metric.OTLP_SENT, "{span}", "Spans taken.", self._sent),
                (Metric.OTLP_REJECTED, "{span}", "Spans refused.", self._rejected),
                (Metric.OTLP_RETRIES, "{request}", "Requests tried again.", self._all_retries),
            ]
            for name, unit, meaning, observed in counters:
                meter.create_observable_counter(name, [callback(observed)], unit, meaning)
            meter.create_observable_gauge(
                Metric.OTLP_WAITING, [callback(self._waiting)], "By", "Bytes still to be sent."
            )
            self._durations = meter.create_histogram(
                Metric.OTLP_REQUEST_DURATION,
                "s",
                "How long answered requests took.",
                explicit_bucket_boundaries_advisory=SECONDS_BOUNDS,
            )

    def reached(self, run_id: str, destination: str, sent: Sent) -> None:
        """Take how far a run is, in place of what was said of it before.

        Args:
            run_id: The run.
            destination: Where it goes, as it may be shown (`OtlpSettings.destination`).
            sent: How far it is.
        """
        with self._lock:
            self._runs[run_id, destination] = sent

    def answered(self, destination: str, seconds: float) -> None:
        """Take a request that was answered, and how long that took."""
        if self._durations is not None:
            self._durations.record(seconds, {Metric.DESTINATION: destination})

    def retries(self, destination: str, error: Exception) -> None:
        """Take a request that failed and is tried again."""
        with self._lock:
            self._retries[destination, type(error).__name__] += 1

    def _by_destination(self) -> Iterator[tuple[str, Sent]]:
        with self._lock:
            runs = list(self._runs.items())
        for destination in sorted({destination for (_, destination), _ in runs}):
            of_it = [sent for (_, to), sent in runs if to == destination]
            yield destination, Sent(*map(sum, zip(*of_it, strict=True)))

    def _sent(self) -> Iterator[tuple[int, dict[str, str]]]:
        for destination, sent in self._by_destination():
            yield sent.acknowledged, {Metric.DESTINATION: destination}

    def _rejected(self) -> Iterator[tuple[int, dict[str, str]]]:
        for destination, sent in self._by_destination():
            yield sent.rejected, {Metric.DESTINATION: destination}

    def _waiting(self) -> Iterator[tuple[int, dict[str, str]]]:
        for destination, sent in self._by_destination():
            yield sent.lag_bytes, {Metric.DESTINATION: destination}

    def _all_retries(self) -> Iterator[tuple[int, dict[str, str]]]:
        with self._lock:
            retries = sorted(self._retries.items())
        for (destination, name), number in retries:
            yield number, {Metric.DESTINATION: destination, "error.type": name}


OTLP_METRICS = OtlpMetrics()
"""Those of this process."""
