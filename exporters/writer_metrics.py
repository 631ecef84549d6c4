"""What the writer tells of itself, as OpenTelemetry metrics.

The writer leaves its numbers here, which costs it nothing worth mentioning; they are read when a
reader collects, in the reader's own thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fillpath.exporters.lake_table import LakeTable
from fillpath.exporters.metric_callbacks import SECONDS_BOUNDS, Numbers, callback, meter_if_wanted
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.instrumentation.semconv import Event, Metric, Resource
from fillpath.instrumentation.settings import DataFolder

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter


class WriterMetrics:
    """The numbers of one process that writes. Any thread may call any of it.

    Runs count from their beginnings, also those of which an earlier process has written a part.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._going_on: dict[str, Sequence[dict[str, Any]]] = {}
        self._lags: dict[str, int] = {}
        self._lakes: dict[str, LakeTable] = {}
        self._spans = self._written = self._runs = 0
        self._errors: Counter[str] = Counter()
        self._durations: Histogram | None = None

    def register(self) -> None:
        """Make the instruments, of the process's MeterProvider, whenever it gets one. Once only."""
        if self._durations is not None:
            return
        with self._lock:
            if self._durations is None and (meter := meter_if_wanted()) is not None:
                self._create(meter)

    def _create(self, meter: Meter) -> None:
        counters: list[tuple[str, str, str, Callable[[], Numbers]]] = [
            (Metric.WRITER_KEPT, "{event}", "Events in the lake.", self._kept),
            (Metric.WRITER_SAMPLED_OUT, "{event}", "Events left out.", self._sampled_out),
            (Metric.WRITER_DROPPED, "{event}", "Events that were lost.", self._dropped),
            (Metric.WRITER_SPANS, "{span}", "Spans committed.", self._all_spans),
            (Metric.WRITER_WRITTEN, "By", "Bytes of committed files.", self._all_written),
            (Metric.WRITER_ERRORS, "{error}", "Attempts that failed.", self._all_errors),
        ]
        for name, unit, meaning, observed in counters:
            meter.create_observable_counter(name, [callback(observed)], unit, meaning)
        gauges: list[tuple[str, str, str, Callable[[], Numbers]]] = [
            (Metric.WRITER_RUNS, "{run}", "Runs that are followed.", self._followed),
            (Metric.SPOOL_LAG, "By", "Bytes of spools not taken yet.", self._lag),
            (Metric.LAKE_SPANS, "{span}", "Spans in the lakes.", self._in_lakes),
        ]
        for name, unit, meaning, observed in gauges:
            meter.create_observable_gauge(name, [callback(observed)], unit, meaning)
        self._durations = meter.create_histogram(
            Metric.WRITER_COMMIT_DURATION,
            "s",
            "How long commits of spans took.",
            explicit_bucket_boundaries_advisory=SECONDS_BOUNDS,
        )

    # -- Told by the writer -----------------------------------------------------------------------

    def counted(self, run_id: str, rows: Sequence[dict[str, Any]], *, over: bool) -> None:
        """Take the counts of a run in place of the ones before: rows of its `completeness`.

        Args:
            run_id: The run.
            rows: A row for each portfolio and event type.
            over: Whether they are its last.
        """
        with self._lock:
            if not over:
                self._going_on[run_id] = rows
                return
            self._going_on.pop(run_id, None)
            self._ended.update(_sums([rows]))

    def committed(self, data: DataFolder, spans: int, written: int, seconds: float) -> None:
        """Take a commit: its spans, the bytes of its file, and how long it took."""
        with self._lock:
            self._spans += spans
            self._written += written
            place = data.lake_place
            if place not in self._lakes:
                self._lakes[place] = LakeTable(place, SPAN_SCHEMA, "spans")
        if self._durations is not None:
            self._durations.record(seconds)

    def failed(self, error: Exception) -> None:
        """Take an attempt at a run that failed."""
        with self._lock:
            self._errors[type(error).__name__] += 1

    def lags(self, run_id: str, lag: int | None) -> None:
        """Take how many bytes of a run's spool are not taken; None when it is not followed."""
        with self._lock:
            if lag is None:
                self._lags.pop(run_id, None)
            else:
                self._lags[run_id] = lag

    def follows(self, runs: int) -> None:
        """Take how many runs are followed."""
        self._runs = runs

    # -- Read by a reader -------------------------------------------------------------------------

    def _now(self) -> Counter[tuple[str, ...]]:
        with self._lock:
            return self._ended + _sums(self._going_on.values())

    def _kept(self) -> Iterator[tuple[int, dict[str, str]]]:
        return _of("kept", self._now())

    def _sampled_out(self) -> Iterator[tuple[int, dict[str, str]]]:
        return _of("sampled_out", self._now())

    def _dropped(self) -> Iterator[tuple[int, dict[str, str]]]:
        return _of("dropped", self._now())

    def _all_spans(self) -> Iterator[tuple[int, dict[str, str]]]:
        yield self._spans, {}

    def _all_written(self) -> Iterator[tuple[int, dict[str, str]]]:
        yield self._written, {}

    def _all_errors(self) -> Iterator[tuple[int, dict[str, str]]]:
        with self._lock:
            errors = sorted(self._errors.items())
        for name, number in errors:
            yield number, {"error.type": name}

    def _followed(self) -> Iterator[tuple[int, dict[str, str]]]:
        yield self._runs, {}

    def _lag(self) -> Iterator[tuple[int, dict[str, str]]]:
        with self._lock:
            lags = list(self._lags.values())
        yield sum(lags), {}

    def _in_lakes(self) -> Iterator[tuple[int, dict[str, str]]]:
        with self._lock:
            lakes = list(self._lakes.values())
        if lakes:
            yield sum(file.rows for lake in lakes for file in lake.known_files()), {}


def _sums(runs: Iterable[Sequence[dict[str, Any]]]) -> Counter[tuple[str, ...]]:
    sums: Counter[tuple[str, ...]] = Counter()
    for rows in runs:
        for row in rows:
            place = row["portfolio"], row["event_type"]
            sums["kept", *place] += row["kept"]
            sums["sampled_out", *place] += row["sampled_out"]
            for reason, number in row["dropped"].items():
                sums["dropped", *place, reason] += number
    return sums


def _of(what: str, sums: Counter[tuple[str, ...]]) -> Iterator[tuple[int, dict[str, str]]]:
    for (kind, portfolio, event_type, *reason), number in sorted(sums.items()):
        if kind == what and number:
            attributes = {Resource.PORTFOLIO: portfolio, Event.TYPE: event_type}
            if reason:
                attributes[Metric.DROP_REASON] = reason[0]
            yield number, attributes


WRITER_METRICS = WriterMetrics()
"""Those of this process."""
