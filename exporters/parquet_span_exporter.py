"""Writes the spans of any OpenTelemetry application to the lake."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.version import __version__

from fillpath.exporters.completeness import Completeness, added, totals
from fillpath.exporters.event_store import EventStore, RunRecord, Status
from fillpath.exporters.otel_spans import Origin, Sequences, causes_first, event_type_of, span_of
from fillpath.exporters.schema import FOREIGN_EVENT_TYPE, SPAN_SCHEMA
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.instrumentation import settings
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.identity import is_valid_run_id, new_run_id
from fillpath.instrumentation.rollout import Rollout
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, PROCESS, Resource
from fillpath.instrumentation.settings import ENV_PORTFOLIO, DataFolder

_log = logging.getLogger(__name__)

COMMIT_SECONDS: Final = 1.0
"""Longest time that a span waits for its commit."""
COMMIT_ROWS: Final = 20_000
"""Spans after which a commit does not wait."""
MOST_WAITING: Final = 200_000
"""Spans that wait for a lake that cannot be written; more are dropped, and counted."""
RUN_ROW_SECONDS: Final = 60.0
"""How often the row of a run that goes on is written anew."""
_MOST_RESOURCES: Final = 100
DROPPED_LAKE_ERROR: Final = "lake_error"
"""Reason: the lake could not be written for so long that too many spans waited."""
DROPPED_QUEUE_FULL: Final = "queue_full"
"""Reason: too many spans waited to be exported, and the host must not wait."""
DROPPED_NOT_CARRIED: Final = "export_error"
"""Reason: the span holds something that no column and no JSON can."""


class _Run:
    """Spans on their way to one run of the lake."""

    def __init__(self, run_id: str, origin: Origin, token: str) -> None:
        self.run_id = run_id
        self.rows = SpanRows()
        self.completeness = Completeness()
        self.sequences = Sequences()
        self._origin = origin
        self._app_id = f"fillpath-exporter/{run_id}/{token}"
        self._version = 1
        self._started_at: int | None = None
        self._recorded_at = float("-inf")
        self.host: Callable[[Status], RunRecord] | None = None
        self.ended_as: Status | None = None

    def add(self, span: Span) -> None:
        """Take a span."""
        self.rows.add(span)
        starts = [start for start in (self._started_at, span.start_time) if start is not None]
        self._started_at = min(starts, default=None)

    def commit(self, store: EventStore, status: Status) -> None:
        """Commit the spans that wait, and record the run when that is due.

        Raises:
            LakeError: When the lake does not take them; they wait on.
        """
        if len(self.rows):
            rows = self.rows.take()
            try:
                store.append_spans(rows, self.run_id, self._app_id, self._version)
            except BaseException:
                self.rows.put_back(rows)
                raise
            self._version += 1
        status = self.ended_as or status
        if status != "Running" or time.monotonic() - self._recorded_at >= RUN_ROW_SECONDS:
            self._record(store, status)

    def _record(self, store: EventStore, status: Status) -> None:
        if self.host is not None:
            record = self.host(status)
            rows = added(record.completeness, self.completeness.rows("Running"))
            sums: dict[str, Any] = totals(rows)
            store.record_run(replace(record, completeness=rows, **sums))
            self._recorded_at = time.monotonic()
            return
        others = [run for run in store.run_records() if run.run_id == self.run_id]
        if not any(run.source == "spool" for run in others):  # that one knows more of the run
            rows = self.completeness.rows("Running")  # an exporter sees what is kept, no more
            sums = totals(rows)
            store.record_run(
                RunRecord(
                    self.run_id,
                    status,
                    mode=self._origin.mode or "live",
                    source="otel",
                    service_name=self._origin.service_name,
                    engine="opentelemetry",
                    engine_version=__version__,
                    started_at=self._started_at,
                    ended_at=None if status == "Running" else time.time_ns(),
                    published=sums["published"],
                    kept=sums["kept"],
                    dropped=sums["dropped"],
                    completeness=rows,
                    host_name=self._origin.host_name,
                    pid=os.getpid(),
                )
            )
        self._recorded_at = time.monotonic()


class ParquetSpanExporter(SpanExporter):
    """Exports spans to the lake of a data folder; never raises into the host.

    Spans of a resource with `trading.run.id` belong to that run, others to a run of the exporter's
    own. A span is in the lake within about a second, and at once after `force_flush`.

    Register it by `OTEL_TRACES_EXPORTER=fillpath_parquet`. Spans of runs and portfolios that
    `FILLPATH_ENABLED` leaves out are not exported.

    Args:
        data: The data folder; `FILLPATH_DATA`, else the user's data directory.
        run_id: Run for all spans, whatever their resource says.
        portfolio: Namespace of spans that name none; `FILLPATH_PORTFOLIO`, else `default`.

    Raises:
        UsageError: When `run_id` cannot be a run id.
    """

    def __init__(
        self,
        data: DataFolder | str | os.PathLike[str] | None = None,
        *,
        run_id: str | None = None,
        portfolio: str | None = None,
    ) -> None:
        if run_id is not None and not is_valid_run_id(run_id):
            raise UsageError(f"{run_id!r} cannot be a run id.")
        self._store = EventStore(data)
        self._given_run_id = run_id
        self._portfolio = portfolio or os.environ.get(ENV_PORTFOLIO) or DEFAULT_PORTFOLIO
        self._rollout = _rollout()
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_begin_again, weakref.ref(self)))

    def _begin(self) -> None:
        """Begin with nothing, also in a forked child: what waits is its parent's to write."""
        self._lock = threading.RLock()
        self._token = secrets.token_hex(4)
        self._own_run_id = self._given_run_id or new_run_id("otel")
        self._origins: dict[int, tuple[SdkResource, Origin]] = {}
        self._runs: dict[str, _Run] = {}
        self._committed_at = float("-inf")
        self._timer: threading.Timer | None = None
        self._complained = False
        self._shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans that have ended."""
        if not self._rollout.share:
            return SpanExportResult.SUCCESS
        with self._lock:
            if self._shut_down:
                return SpanExportResult.FAILURE
            taken = True
            for span in causes_first(spans):
                taken = self._take(span) and taken
            self._commit_if_due()
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def _commit_if_due(self) -> None:
        """Commit what waits, now or a little later. The caller holds the lock."""
        waiting = sum(len(run.rows) for run in self._runs.values())
        if waiting >= COMMIT_ROWS or time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self._commit("Running")
        elif self._timer is None:
            self._timer = threading.Timer(COMMIT_SECONDS, self._commit_later)
            self._timer.daemon = True
            self._timer.start()

    def join(self, run_id: str, record: Callable[[Status], RunRecord]) -> None:
        """Expect rows of a run that this process records; spans of no other run join it.

        Args:
            run_id: The run.
            record: Gives what is known of it, as the row of the table of runs.
        """
        with self._lock:
            self._own_run_id = self._given_run_id or run_id
            self._run(run_id, Origin.of(SdkResource({}))).host = record

    def export_rows(self, run_id: str, rows: pa.Table) -> None:
        """Take rows of a run that was joined. Of these, none are dropped: they wait for the lake.

        Also after `shutdown`: a session may end after the SDK. Then `leave` commits them.

        Args:
            run_id: The run.
            rows: Of `SPAN_SCHEMA`.
        """
        with self._lock:
            self._runs[run_id].rows.put_back(rows.cast(SPAN_SCHEMA))
            if not self._shut_down:
                self._commit_if_due()

    def leave(self, run_id: str, status: Status) -> bool:
        """Commit what waits of a run that has ended; tells whether the lake took it.

        Args:
            run_id: The run, which was joined.
            status: How it ended.
        """
        with self._lock:
            self._runs[run_id].ended_as = status
            return self._commit("Running")

    def _run(self, run_id: str, origin: Origin) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(run_id, origin, self._token)
        return run

    def _take(self, span: ReadableSpan) -> bool:
        origin = self._origin(span.resource)
        run_id = self._given_run_id or origin.run_id or self._own_run_id
        if not self._rollout.takes_run(run_id):
            return True
        run = self._run(run_id, origin)
        try:
            row = span_of(span, origin, run_id, self._portfolio, run.sequences)
            if not self._rollout.takes_portfolio(row.portfolio or self._portfolio):
                return True
            full = len(run.rows) >= MOST_WAITING
            if not full:
                run.add(row)
        except Exception as error:  # noqa: BLE001 - a span may hold anything
            run.completeness.dropped(self._portfolio, FOREIGN_EVENT_TYPE, DROPPED_NOT_CARRIED)
            self._complain(error)
            return False
        if not row.name.startswith(f"{PROCESS} "):
            kind = (row.portfolio or self._portfolio, row.event_type)
            if full:
                run.completeness.dropped(*kind, DROPPED_LAKE_ERROR)
            else:
                run.completeness.kept(*kind)
        return not full

    def drop(self, span: ReadableSpan) -> None:
        """Count a span that was not exported because too many waited."""
        with self._lock:
            origin = self._origin(span.resource)
            run = self._run(self._given_run_id or origin.run_id or self._own_run_id, origin)
            named = (span.attributes or {}).get(Resource.PORTFOLIO)
            portfolio = str(named or origin.portfolio or self._portfolio)
            if not span.name.startswith(f"{PROCESS} "):
                run.completeness.dropped(portfolio, event_type_of(span), DROPPED_QUEUE_FULL)

    def _origin(self, resource: SdkResource) -> Origin:
        known = self._origins.get(id(resource))
        if known is None or known[0] is not resource:
            if len(self._origins) >= _MOST_RESOURCES:
                self._origins.clear()
            known = self._origins[id(resource)] = (resource, Origin.of(resource))
        return known[1]

    def _commit_later(self) -> None:
        with self._lock:
            self._timer = None
            if not self._shut_down:
                self._commit("Running")

    def _commit(self, status: Status) -> bool:
        """Commit what waits; tells whether nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done = True
        for run in self._runs.values():
            try:
                run.commit(self._store, status)
            except Exception as error:  # noqa: BLE001 - the spans wait for the next time
                self._complain(error)
                done = False
        self._committed_at = time.monotonic()
        self._complained = self._complained and not done
        return done

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.warning(
                "fillpath could not export spans to %s: %s", self._store.folder.path, error
            )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Commit what waits; tells whether the lake took it."""
        with self._lock:
            return self._shut_down or self._commit("Running")

    def shutdown(self) -> None:
        """Commit what waits and end the runs; spans that come later are refused."""
        with self._lock:
            if not self._shut_down:
                self._commit("Ended")
                self._shut_down = True


def _rollout() -> Rollout:
    """What is exported; everything, if the environment makes no sense: a host must not fail."""
    try:
        return settings.rollout()
    except UsageError as error:
        _log.warning("%s", error)
        return Rollout()


def _begin_again(reference: weakref.ref[ParquetSpanExporter]) -> None:
    exporter = reference()
    if exporter is not None:
        exporter._begin()
