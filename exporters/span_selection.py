"""Gives the spans of a run to whoever hands them on: all of them, some chains, or a sample.

A sample is what the policy keeps, and all that led to it. It holds the ids of what it keeps in
memory, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_attributes import parts_of
from fillpath.exporters.span_rows import STATUS_ERROR
from fillpath.instrumentation.errors import LakeError
from fillpath.instrumentation.event_sampler import ALL, EventSampler
from fillpath.instrumentation.semconv import EventType

_ROWS_AT_A_TIME: Final = 4096
_FOR_CLOSURE: Final = ["run_id", "span_id", "parent_span_id"]
_FOR_POLICY: Final = [*_FOR_CLOSURE, "event_type", "status_code", "sampling_reason"]


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
        ids = None if kept is None else pa.array([bytes.fromhex(i) for i in kept], pa.binary())
        for batch in self._rows(SPAN_SCHEMA.names):
            chosen = batch if ids is None else batch.filter(pc.is_in(batch["span_id"], ids))
            if chosen.num_rows:
                yield chosen

    def span_ids(self) -> set[str] | None:
        """Give the span ids, in hex, of what the policy keeps; None when there is no policy."""
        if self.policy is None:
            return None
        kept: set[bytes] = set()
        parents: set[bytes | None] = {None}
        columns = list(SPAN_SCHEMA.names) if self.policy.critical_when else _FOR_POLICY
        for batch in self._rows(columns):
            for row in batch.to_pylist():
                if _keeps(self.policy, row):
                    kept.add(row["span_id"])
                    parents.add(row["parent_span_id"])
        # A cause stands before its effect in the run, but not always in an earlier file.
        wanted = parents - kept - {None}
        while wanted:
            found: set[bytes | None] = set()
            above: set[bytes | None] = set()
            for batch in self._rows(_FOR_CLOSURE):
                ids = pa.array(sorted(i for i in wanted if i is not None), pa.binary())
                for row in batch.filter(pc.is_in(batch["span_id"], ids)).to_pylist():
                    found.add(row["span_id"])
                    above.add(row["parent_span_id"])
            kept |= {i for i in found if i is not None}
            wanted = above - kept - {None}
        return {span_id.hex() for span_id in kept}

    def _rows(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self.trace_ids is not None:
            for trace_id in self.trace_ids:
                found = self.store.find_chain(trace_id, self.run_id)
                yield from found.select(columns).to_batches(_ROWS_AT_A_TIME)
            return
        files = self.store.spans.files([self.run_id])
        for file in sorted(files, key=lambda file: file.smallest.get("sequence") or 0):
            yield from _rows_of(file, self.run_id, columns)


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


def _keeps(policy: EventSampler, row: dict[str, Any]) -> bool:
    if row["status_code"] == STATUS_ERROR or row["sampling_reason"] != ALL:
        return True
    if row["event_type"] == EventType.DELIVERY:
        return False
    attributes = parts_of(row).attributes if policy.critical_when else None
    span_id = int.from_bytes(row["span_id"], "big")
    return policy.decide(row["event_type"], span_id, attributes).kept
