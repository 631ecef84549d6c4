"""Gives the spans of a run to whoever hands them on: all of them, some chains, or a sample.

A sample is what the policy keeps, and all that led to it. It holds the ids of what it keeps in
memory, and nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.row_sampling import COLUMNS, RowSampling
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.instrumentation.errors import LakeError
from fillpath.instrumentation.event_sampler import EventSampler

_ROWS_AT_A_TIME: Final = 4096
_FOR_CLOSURE: Final = ["run_id", "span_id", "parent_span_id"]


@dataclass(frozen=True, slots=True)
class SpanSelection:
    """Spans of one run.

    Args:
        store: The lake.
        run_id: The run.
        trace_ids: Chains to give, in hex; None means all.
        policy: Give what it keeps, and the ancestors of that; None means everything. Where a policy
            was applied already as the run came into the lake, everything is what it kept.
    """

    store: EventStore
    run_id: str
    trace_ids: Collection[str] | None = None
    policy: EventSampler | None = None

    def batches(self, kept: Collection[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give the spans as rows of `SPAN_SCHEMA`.

        Args:
            kept: What `span_ids` gave; left out, it is asked.

        Raises:
            LakeError: A file of the lake is missing or damaged.
        """
        kept = self.span_ids() if kept is None else kept
        ids = None if kept is None else np.sort(np.array([int(i, 16) for i in kept], np.uint64))
        for batch in self._rows(SPAN_SCHEMA.names):
            chosen = batch if ids is None else batch.filter(_among(batch["span_id"], ids))
            if chosen.num_rows:
                yield chosen

    def span_ids(self) -> set[str] | None:
        """Give the span ids, in hex, of what the policy keeps; None when there is no policy."""
        if self.policy is None:
            return None
        # What came before decides, too, so the whole run is asked also for a few of its chains.
        whole = self if self.trace_ids is None else replace(self, trace_ids=None)
        sampling = RowSampling(self.policy)
        sampling.take_all(whole._in_order())
        kept = sampling.kept
        wanted = sampling.parents - kept
        # A cause stands before its effect in the run, but not always in an earlier file.
        while wanted:
            found: set[bytes] = set()
            above: set[bytes] = set()
            ids = pa.array(sorted(wanted), pa.binary())
            for batch in whole._rows(_FOR_CLOSURE):
                for row in batch.filter(pc.is_in(batch["span_id"], ids)).to_pylist():
                    found.add(row["span_id"])
                    if row["parent_span_id"] is not None:
                        above.add(row["parent_span_id"])
            kept |= found
            wanted = above - kept
        return {span_id.hex() for span_id in kept}

    def _rows(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self.trace_ids is not None:
            for trace_id in self.trace_ids:
                found = self.store.find_chain(trace_id, self.run_id)
                yield from found.select(columns).to_batches(_ROWS_AT_A_TIME)
            return
        for file in self._files():
            yield from _rows_of(file, self.run_id, columns)

    def _files(self) -> list[LakeFile]:
        return sorted(self.store.spans.files([self.run_id]), key=_first_sequence)

    def _in_order(self) -> Iterator[dict[str, Any]]:
        """Give the rows for the policy in the order of sequence.

        What ended late lies in a later file than what began after it. Files are opened one after
        another, as their first rows are due.
        """
        heads: list[tuple[int, int, dict[str, Any], Iterator[dict[str, Any]]]] = []
        for number, file in enumerate(self._files()):
            first = _first_sequence(file)
            while heads and heads[0][0] < first:
                yield from _advance(heads)
            rows = (
                row for batch in _rows_of(file, self.run_id, COLUMNS) for row in batch.to_pylist()
            )
            if (row := next(rows, None)) is not None:
                heapq.heappush(heads, (row["sequence"], number, row, rows))
        while heads:
            yield from _advance(heads)


def _among(span_ids: pa.Array, wanted: npt.NDArray[np.uint64]) -> pa.Array:
    """Tell of each span id whether it is one of those wanted, which are in order."""
    if not len(wanted):
        return pa.array(np.zeros(len(span_ids), np.bool_))
    given = np.frombuffer(b"".join(span_ids.to_pylist()), ">u8").astype(np.uint64)
    places = np.minimum(np.searchsorted(wanted, given), len(wanted) - 1)
    return pa.array(wanted[places] == given)


def _first_sequence(file: LakeFile) -> int:
    return int(file.smallest.get("sequence") or 0)


def _advance(
    heads: list[tuple[int, int, dict[str, Any], Iterator[dict[str, Any]]]],
) -> Iterator[dict[str, Any]]:
    """Give the first of the rows that files are at, and go to the next one of its file."""
    _, number, row, rows = heads[0]
    yield row
    if (following := next(rows, None)) is None:
        heapq.heappop(heads)
    else:
        heapq.heapreplace(heads, (following["sequence"], number, following, rows))


def _rows_of(file: LakeFile, run_id: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([SPAN_SCHEMA.field(name) for name in columns])
    try:
        with pq.ParquetFile(file.open()) as opened:
            for batch in opened.iter_batches(_ROWS_AT_A_TIME, columns=list(columns)):
                rows = batch.select(columns).cast(schema)
                yield rows.filter(pc.equal(rows["run_id"], pa.scalar(run_id, pa.string())))
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"A file of the lake is missing or damaged: {file.address} ({error}).",
            next_command="fillpath doctor",
        ) from error
