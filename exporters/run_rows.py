"""Collects the events of a run, batch by batch, until they are taken as a table of spans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.batch_spans import BatchSpans, Kept
from fillpath.exporters.causal_sampling import KeepEverything, Sampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.record_columns import Integers, RecordColumns
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.exporters.whole_events import WholeEvents
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.spool import Block


class RunRows:
    """Rows of one run that wait for their commit.

    EVENTS blocks wait as they are and become rows many at a time, which is what makes it cheap.

    Args:
        run_id: The run.
        events: Takes all other blocks of the run; what it knows of sites and side records must be
            as new as the blocks that are added here.
        completeness: Where events are counted.
        sampling: Decides what is kept.
    """

    def __init__(
        self, run_id: str, events: SpoolEvents, completeness: Completeness, sampling: Sampling
    ) -> None:
        self.sampling = sampling
        self._events = events
        self._completeness = completeness
        self._batches = BatchSpans(run_id, events, SpoolSpans(run_id, events))
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
        if new != self._new:
            self.settle()
        self._new = new
        self._blocks.append(block)
        self._waiting += block.count

    def add_unfinished(self, *, new: bool) -> None:
        """Take the events that began and did not end: nothing follows."""
        self.settle()
        kept = [one for event in self._events.unfinished() for one in self._admit(event)]
        if new and kept:
            nothing = RecordColumns.of([])
            self._keep(self._batches.table(nothing, nothing.sequence, nothing.sequence, kept))

    def settle(self) -> None:
        """Make rows of the records that wait.

        Raises:
            SpoolError: When a record does not fit what was read before.
        """
        blocks, self._blocks, self._waiting = self._blocks, [], 0
        if not blocks:
            return
        columns = RecordColumns.of(blocks)
        if isinstance(self.sampling, KeepEverything):
            whole = WholeEvents.among(columns, self._events.seen)
        else:
            rows = np.arange(len(columns))
            whole = WholeEvents(rows[:0], rows[:0], rows, None)
        kept = [one for event in self._others(columns, whole) for one in self._admit(event)]
        if whole.known is not None:
            self._events.see(columns)
        self._count(columns, whole.begins)
        if self._new:
            self._keep(self._batches.table(columns, whole.begins, whole.ends, kept))

    def _others(self, columns: RecordColumns, whole: WholeEvents) -> Iterator[RecordedEvent]:
        """Put together one by one the events that are not whole."""
        known = None if whole.known is None else whole.known[whole.others].tolist()
        for place, record in enumerate(columns.records(whole.others)):
            event = self._events.take(record, parent_known=None if known is None else known[place])
            if event is not None:
                yield event

    def _admit(self, event: RecordedEvent) -> Iterator[Kept]:
        site = event.site
        if not site.counted and site.operation == PUBLISH:
            self._completeness.seen_uncounted(site.portfolio, site.event_type)
        yield from self.sampling.admit(event)

    def _count(self, columns: RecordColumns, begins: Integers) -> None:
        """Count whole events, all of which are kept."""
        sites = columns.site[begins]
        if not len(sites):
            return
        known = max(self._events.sites, default=0)
        number_of = np.bincount(np.minimum(sites, known + 1))
        for site_number in np.flatnonzero(number_of).tolist():
            site, number = self._events.site(site_number, 0), int(number_of[site_number])
            if site.operation == PUBLISH:
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
        table = pa.concat_tables([table.cast(SPAN_SCHEMA) for table in tables])
        return table.take(pc.sort_indices(table["sequence"]))
