"""Collects the events of a run, batch by batch, until they are taken as a table of spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.batch_spans import BatchSpans, Kept
from fillpath.exporters.causal_sampling import CausalSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_batch import REASONS
from fillpath.exporters.other_events import OtherEvents
from fillpath.exporters.record_columns import Integers, RecordColumns
from fillpath.exporters.row_templates import RowTemplate, RowTemplates
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.exporters.whole_events import WholeEvents
from fillpath.instrumentation.event_sampler import KEEP_ALL
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.spool import Block, EventRecord, Site

BATCH_ROWS: Final = 65_536
"""Records that become rows at once: many, but so few that their columns stay in the caches."""


class RunRows:
    """Rows of one run that wait for their commit.

    EVENTS blocks wait as they are and become rows many at a time, which is what makes it cheap.

    Args:
        run_id: The run.
        events: Takes all other blocks of the run; what it knows of sites and side records must be
            as new as the blocks that are added here.
        completeness: Where events are counted.

    Attributes:
        sampling: Decides what is kept; None keeps everything.
    """

    def __init__(self, run_id: str, events: SpoolEvents, completeness: Completeness) -> None:
        self.sampling: CausalSampling | None = None
        self._events = events
        self._completeness = completeness
        spans = SpoolSpans(run_id, events)
        self._batches = BatchSpans(run_id, events, spans)
        self._templates = RowTemplates(events, spans)
        self._blocks: list[Block] = []
        self._waiting = 0
        self._new = True
        self._tables: list[pa.Table] = []
        self._rows = 0

    def __len__(self) -> int:
        """Rows, and records that are not rows yet."""
        return self._rows + (self._waiting if self._new else 0)

    def add(self, block: Block, *, new: bool) -> None:
        """Take the next EVENTS block.

        Args:
            block: The block.
            new: Whether its rows are wanted; otherwise it is taken only to know what it says.
        """
        if new != self._new or self._waiting + block.count > BATCH_ROWS:
            self.settle()
        self._new = new
        self._blocks.append(block)
        self._waiting += block.count

    def add_unfinished(self, *, new: bool) -> None:
        """Take the events that began and did not end: nothing follows."""
        self.settle()
        unfinished = list(self._events.unfinished())
        self._count_uncounted(event.site for event in unfinished)
        if self.sampling is None:
            kept = [self._keep_one(event) for event in unfinished]
        else:
            kept = self.sampling.finish(unfinished)
        if new and kept:
            nothing = RecordColumns.of([])
            none = nothing.sequence
            self._keep(self._batches.table(nothing, none, none, kept, [], none))

    def settle(self) -> None:
        """Make rows of the records that wait.

        Raises:
            SpoolError: When a record does not fit what was read before.
        """
        blocks, self._blocks, self._waiting = self._blocks, [], 0
        if not blocks:
            return
        columns = RecordColumns.of(blocks)
        whole = WholeEvents.among(columns, self._events.seen)
        others = OtherEvents()
        for row, record, known in self._others(columns, whole):
            others.note(row, record, self._events.take(record, parent_known=known), self._events)
        if whole.known is not None:
            self._events.see(columns)
        self._count_uncounted(event.site for event in others.ended.values())
        begins, ends, sampled = whole.begins, whole.ends, None
        templates, which = self._templates.of(columns, begins)
        self._count(templates, which)
        if self.sampling is None:
            kept = [self._keep_one(event) for event in others.ended.values()]
        else:
            decision, kept = self.sampling.admit(columns, others)
            rows = decision.kept[ends]
            begins, ends, which = begins[rows], ends[rows], which[rows]
            sampled = (REASONS, decision.reason[ends], decision.probability[ends])
        if self._new:
            self._keep(
                self._batches.table(columns, begins, ends, kept, templates, which, sampled=sampled)
            )

    def _others(
        self, columns: RecordColumns, whole: WholeEvents
    ) -> Iterator[tuple[int, EventRecord, bool | None]]:
        """Give the records that are put together one by one, and whether a parent is known."""
        records = columns.records(whole.others)
        rows = whole.others.tolist()
        known = [None] * len(rows) if whole.known is None else whole.known[whole.others].tolist()
        return zip(rows, records, known, strict=True)

    def _keep_one(self, event: RecordedEvent) -> Kept:
        if event.site.operation == PUBLISH:
            self._completeness.kept(event.site.portfolio, event.site.event_type)
        return event, KEEP_ALL

    def _count_uncounted(self, sites: Iterable[Site]) -> None:
        """Count events that the host does not count."""
        for site in sites:
            if not site.counted and site.operation == PUBLISH:
                self._completeness.seen_uncounted(site.portfolio, site.event_type)

    def _count(self, templates: list[RowTemplate], which: Integers) -> None:
        """Count whole events; without a policy, all of them are kept."""
        numbers = np.bincount(which, minlength=len(templates)).tolist()
        for template, number in zip(templates, numbers, strict=True):
            site = template.site
            if site.operation == PUBLISH:
                if self.sampling is None:
                    self._completeness.kept(site.portfolio, site.event_type, number)
                if not site.counted:
                    self._completeness.seen_uncounted(site.portfolio, site.event_type, number)

    def _keep(self, table: pa.Table) -> None:
        if table.num_rows:
            self._tables.append(table)
            self._rows += table.num_rows

    def take(self) -> pa.Table:
        """Give the rows since the last call, ordered by sequence."""
        self.settle()
        tables, self._tables, self._rows = self._tables, [], 0
        if not tables:
            return SPAN_SCHEMA.empty_table()
        if len(tables) == 1:
            return tables[0]
        if _in_order(tables):
            return _joined(tables)
        table = pa.concat_tables([table.cast(SPAN_SCHEMA) for table in tables])
        return table.take(pc.sort_indices(table["sequence"]))


def _in_order(tables: Sequence[pa.Table]) -> bool:
    """Tell whether each of some ordered tables begins behind the one before."""
    ends = [(table["sequence"][0].as_py(), table["sequence"][-1].as_py()) for table in tables]
    return all(before[1] < after[0] for before, after in pairwise(ends))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one behind the other without copying what has the same form in all of them."""
    fields = []
    for field in SPAN_SCHEMA:
        mine = [table.schema.field(field.name) for table in tables]
        kinds = {one.type for one in mine}
        kind = kinds.pop() if len(kinds) == 1 else field.type
        fields.append(field.with_type(kind).with_nullable(any(one.nullable for one in mine)))
    schema = pa.schema(fields, SPAN_SCHEMA.metadata)
    return pa.concat_tables(
        [table if table.schema.equals(schema) else table.cast(schema) for table in tables]
    )
