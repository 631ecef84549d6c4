"""Brings spans that were read from OTLP into the lake, each once.

A span is known by its trace id and span id in its run: what the run has already is not taken again.
So a file can be imported again, whole, grown or after a failure, and files may overlap.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fillpath.exporters.completeness import totals
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.imported_spans import ImportedOrigin, ImportedRun, causes_first
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.otlp_input import InputResource, InputScope, InputSpan
from fillpath.exporters.span_rows import SpanRows
from fillpath.instrumentation.errors import FillpathError, LakeError, UsageError
from fillpath.instrumentation.identity import is_valid_run_id, root_of_trace, run_key
from fillpath.instrumentation.semconv import PROCESS

SOURCE: Final = "import"
"""`source` of a run that came from files."""
COMMIT_ROWS: Final = 100_000
"""Spans after which a commit does not wait."""
ORDERED_SPANS: Final = 20_000
"""Spans that are put in order together: they come as they ended, children first."""
_MOST_SOURCES: Final = 100
_SOURCES: Final = "imported_from"
_IDS: Final = ["trace_id", "span_id"]
_NOT_CARRIED: Final = 5
"""Reasons that are told; of the others, the number."""

_Waiting = tuple[InputSpan, tuple[InputScope, ImportedOrigin, str]]


@dataclass(slots=True)
class Imported:
    """What became of the spans for one run."""

    run_id: str
    taken: int = 0
    """Spans that are new in the lake."""
    known: int = 0
    """Spans that the run had already."""


@dataclass(slots=True)
class _Run:
    outcome: Imported
    record: RunRecord | None
    """What is known about the run already."""
    spans: ImportedRun
    origin: ImportedOrigin
    rows: SpanRows = field(default_factory=SpanRows)
    waiting: list[_Waiting] = field(default_factory=list)
    announced: bool = False

    def __len__(self) -> int:
        return len(self.rows) + len(self.waiting)


class SpanImport:
    """Takes spans into the lake of a store. Use it in a `with` statement, which commits the rest.

    Args:
        store: The lake.
        run_id: Run of spans whose resource names none; made of the first of them when left out.
        portfolio: Namespace of spans that name none.
        source: Where they come from, in words.

    Attributes:
        failures: Why spans could not be carried, the first few.
        failed: How many could not.

    Raises:
        UsageError: `run_id` cannot be a run id.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        run_id: str | None = None,
        portfolio: str = "default",
        source: str | None = None,
    ) -> None:
        if run_id is not None and not is_valid_run_id(run_id):
            raise UsageError(
                f"{run_id!r} cannot be a run id.",
                next_command="a name of letters, digits, dots, dashes and underscores",
            )
        self.failures: list[str] = []
        self.failed = 0
        self._store = store
        self._run_id = run_id
        self._portfolio = portfolio
        self._source = source
        self._records = {record.run_id: record for record in store.run_records()}
        self._run_of_key = {run_key(known): known for known in self._records}
        self._runs: dict[str, _Run] = {}
        self._rows = 0

    @property
    def outcomes(self) -> list[Imported]:
        """What became of the spans so far, by run; what waits for its commit does not count."""
        return [run.outcome for run in self._runs.values()]

    def take(self, resource: InputResource) -> None:
        """Take the spans of a resource; they are in the lake after a while.

        Raises:
            LakeError: The lake does not take them.
            UsageError: They belong to a run that is being recorded.
        """
        for reason in resource.malformed:
            self._complain(reason)
        origin = ImportedOrigin.of(resource)
        for scope in resource.scopes:
            for span in scope.spans:
                run = self._run(span, origin)
                run.waiting.append((span, (scope, origin, resource.schema_url)))
                self._rows += 1
                if len(run.waiting) >= ORDERED_SPANS:
                    self._order(run)
                    if self._rows >= COMMIT_ROWS:
                        self.commit()

    def commit(self) -> None:
        """Commit what waits.

        Raises:
            LakeError: The lake does not take it.
        """
        for run in self._runs.values():
            self._order(run)
            self._commit(run)
        self._rows = 0

    def finish(self) -> None:
        """Commit what waits, and record what is known about the runs now."""
        self.commit()
        for run in self._runs.values():
            if run.outcome.taken or (run.record is not None and run.record.status == "Running"):
                self._record(run)

    # -- Runs -------------------------------------------------------------------------------------

    def _run(self, span: InputSpan, origin: ImportedOrigin) -> _Run:
        run_id = origin.run_id or self._run_of_trace(span.trace_id) or self._own_run_id(span)
        run = self._runs.get(run_id)
        if run is None:
            record = self._records.get(run_id)
            if record is not None and record.status == "Running" and record.source != SOURCE:
                raise UsageError(
                    f"Run {run_id} is being recorded; its spans come into the lake by themselves.",
                    next_command="import into another lake with --data, or wait for its end",
                )
            mode = origin.mode if record is None else record.mode
            run = _Run(
                Imported(run_id),
                record,
                ImportedRun(run_id, self._portfolio, mode),
                origin,
            )
            self._runs[run_id] = run
            self._run_of_key[run_key(run_id)] = run_id
        return run

    def _run_of_trace(self, trace_id: bytes) -> str | None:
        """Find the run whose chain another program's span has joined."""
        address = root_of_trace(int.from_bytes(trace_id, "big"))
        return None if address is None else self._run_of_key.get(address[0])

    def _own_run_id(self, span: InputSpan) -> str:
        """Name a run after its first span, so that the same file gives the same run again."""
        if self._run_id is None:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(span.start // 1_000_000_000))
            digest = hashlib.blake2b(span.trace_id + span.span_id, digest_size=3).hexdigest()
            self._run_id = f"import-{stamp}-{digest}"
        return self._run_id

    # -- Spans ------------------------------------------------------------------------------------

    def _order(self, run: _Run) -> None:
        waiting, run.waiting = run.waiting, []
        for span, (scope, origin, schema_url) in causes_first(waiting):
            try:
                run.rows.add(run.spans.span_of(span, scope, origin, schema_url))
            except Exception as error:  # noqa: BLE001 - a file may hold anything
                self._complain(str(error))

    def _complain(self, reason: str) -> None:
        self.failed += 1
        if len(self.failures) < _NOT_CARRIED:
            self.failures.append(reason)

    def _commit(self, run: _Run) -> None:
        if not len(run.rows):
            return
        app_id = f"fillpath-import/{run.outcome.run_id}"
        # Before the ids are read: a commit of another import in between makes this one fail.
        version = self._store.spans.transaction_version(app_id) or 0
        rows = run.rows.take()
        new = self._unknown(rows, run.outcome.run_id)
        if new.num_rows:
            self._announce(run)
            try:
                self._store.append_spans(new, run.outcome.run_id, app_id, version + 1)
            except LakeError as error:
                if (self._store.spans.transaction_version(app_id) or 0) == version:
                    raise
                raise FillpathError(
                    f"Another import into run {run.outcome.run_id} is going on.",
                    next_command="import the file again; nothing is taken twice",
                ) from error
        run.outcome.taken += new.num_rows
        run.outcome.known += rows.num_rows - new.num_rows

    def _unknown(self, rows: pa.Table, run_id: str) -> pa.Table:
        """Give the rows whose ids neither the run nor an earlier one of these rows has."""
        ids = _joined_ids(rows)
        first: dict[bytes, int] = {}
        for place, one in enumerate(ids.to_pylist()):
            first.setdefault(one, place)
        if len(first) < rows.num_rows:
            places = pa.array(list(first.values()), pa.int64())
            rows, ids = rows.take(places), ids.take(places)
        known = pa.array([False] * rows.num_rows)
        for file in self._files(rows, run_id):
            for batch in _ids_in(file, run_id):
                known = pc.or_(known, pc.is_in(ids, batch))
        return rows.filter(pc.invert(known))

    def _files(self, rows: pa.Table, run_id: str) -> Iterator[LakeFile]:
        """Give the files in which the run may have these spans."""
        ends = pc.min_max(rows["sequence"]).as_py()
        # A span of the run's own has one sequence for ever. Others are given theirs, and the same
        # span of another file may be given another.
        lasting = rows["root_sequence"].null_count == 0
        for file in self._store.spans.files([run_id]):
            low, high = file.smallest.get("sequence"), file.largest.get("sequence")
            told = lasting and low is not None and high is not None
            if not (told and (high < ends["min"] or low > ends["max"])):
                yield file

    # -- The table of runs ------------------------------------------------------------------------

    def _announce(self, run: _Run) -> None:
        """Say that the run is on its way, so that an import that is killed can be told."""
        if run.announced or not self._is_ours(run):
            return
        run.announced = True
        record = run.record or RunRecord(run.outcome.run_id, "Running", source=SOURCE)
        self._store.record_run(
            replace(
                self._described(run, record),
                status="Running",
                host_name=platform.node(),
                pid=os.getpid(),
                ended_at=None,
            )
        )

    @staticmethod
    def _is_ours(run: _Run) -> bool:
        """Tell whether the run has no record of the program that recorded it."""
        return run.record is None or run.record.source == SOURCE

    def _described(self, run: _Run, record: RunRecord) -> RunRecord:
        origin = run.origin
        engine = None if origin.is_own else "opentelemetry"
        sources = list(record.metadata.get(_SOURCES, ()))
        if self._source is not None and self._source not in sources:
            sources.append(self._source)
        return replace(
            record,
            mode=record.mode or origin.mode,
            service_name=record.service_name or origin.program,
            engine=record.engine or engine,
            engine_version=record.engine_version or (origin.sdk_version if engine else None),
            metadata={**record.metadata, _SOURCES: sources[:_MOST_SOURCES]},
            error=None,
        )

    def _record(self, run: _Run) -> None:
        """Record a run that came from files; what is in the lake tells the counts."""
        if not self._is_ours(run):
            return
        rows, started, ended = _summary(self._store.spans.files([run.outcome.run_id]),
                                        run.outcome.run_id)  # fmt: skip
        sums = totals(rows)
        record = run.record or RunRecord(run.outcome.run_id, "Ended", source=SOURCE)
        self._store.record_run(
            replace(
                self._described(run, record),
                status="Ended",
                started_at=started,
                ended_at=ended,
                published=sums["published"],
                kept=sums["kept"],
                completeness=rows,
                host_name=run.origin.host_name,
                pid=None,
            )
        )


def _joined_ids(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """Trace id and span id of each row as one: 24 bytes."""
    trace_ids, span_ids = (_plain(rows[name]) for name in _IDS)
    return pc.binary_join_element_wise(trace_ids, span_ids, pa.scalar(b"", pa.binary()))


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _batches(file: LakeFile, run_id: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a run's rows in a file."""
    try:
        with file.open() as source, pq.ParquetFile(source) as opened:
            for batch in opened.iter_batches(COMMIT_ROWS, columns=["run_id", *columns]):
                is_all = not file.is_shared
                yield batch if is_all else batch.filter(pc.equal(batch["run_id"], run_id))
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"A file of the lake is missing or damaged: {file.address} ({error}).",
            next_command="fillpath doctor",
        ) from error


def _ids_in(file: LakeFile, run_id: str) -> Iterator[pa.Array]:
    for batch in _batches(file, run_id, _IDS):
        if batch.num_rows:
            yield _joined_ids(batch)


def _summary(
    files: Iterable[LakeFile], run_id: str
) -> tuple[list[dict[str, Any]], int | None, int | None]:
    """Count a run's events in the lake as `completeness` does, and say when they began and ended.

    Handler runs do not count.
    """
    counts: dict[tuple[str, str], int] = {}
    started: list[int] = []
    ended: list[int] = []
    columns = ["portfolio", "event_type", "name", "start_time", "duration"]
    for file in files:
        for batch in _batches(file, run_id, columns):
            if not batch.num_rows:
                continue
            ends = pc.add(batch["start_time"], pc.fill_null(batch["duration"], 0))
            first, last = pc.min(batch["start_time"]).as_py(), pc.max(ends).as_py()
            started += [] if first is None else [first]
            ended += [] if last is None else [last]
            is_handler = pc.starts_with(batch["name"].cast(pa.string()), f"{PROCESS} ")
            events = pa.table(batch).filter(pc.invert(pc.fill_null(is_handler, False)))
            groups = events.group_by(["portfolio", "event_type"]).aggregate([([], "count_all")])
            for group in groups.to_pylist():
                key = (group["portfolio"] or "", group["event_type"])
                counts[key] = counts.get(key, 0) + group["count_all"]
    rows = [
        {
            "portfolio": portfolio,
            "event_type": event_type,
            "published": count,
            "kept": count,
            "sampled_out": 0,
            "dropped": {},
        }
        for (portfolio, event_type), count in sorted(counts.items())
    ]
    return rows, min(started, default=None), max(ended, default=None)
