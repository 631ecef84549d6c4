"""Collects the events of a run, batch by batch, until they are taken as a table of spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.batch_numbers import NumberGroups
from fillpath.exporters.batch_spans import BatchSpans, Kept, Sampled, WholeRows
from fillpath.exporters.causal_sampling import CausalSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_batch import REASONS
from fillpath.exporters.other_events import OtherEvents
from fillpath.exporters.record_columns import Booleans, Integers, RecordColumns
from fillpath.exporters.row_templates import RowTemplates, Templates
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.side_texts import SideTexts
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.exporters.waiting_sides import PackedSide
from fillpath.exporters.whole_events import WholeEvents
from fillpath.instrumentation.event_sampler import KEEP_ALL
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.spool import Block, EventRecord, Flag, SideRecord, side_record

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
        self._count_others(unfinished)
        if self.sampling is None:
            kept: list[Kept] = [(event, KEEP_ALL) for event in unfinished]
        else:
            kept = self.sampling.finish(unfinished)
        if new and kept:
            nothing = RecordColumns.of([])
            none = nothing.sequence
            whole = WholeRows(none, none, Templates(()), none, SideTexts())
            self._keep(self._batches.table(nothing, whole, kept))

    def settle(self) -> None:
        """Make rows of the records that wait.

        Raises:
            SpoolError: When a record does not fit what was read before.
        """
        blocks, self._blocks, self._waiting = self._blocks, [], 0
        if not blocks:
            return
        columns = RecordColumns.of(blocks)
        wrong = self._templates.first_undescribed(columns)
        if wrong is None:
            self._settle(columns)
            return
        self._settle(columns.before(wrong))
        self._events.site(int(columns.site[wrong]), int(columns.sequence[wrong]))

    def _settle(self, columns: RecordColumns) -> None:
        whole = WholeEvents.among(columns, self._events.seen)
        templates, which = self._templates.of(columns, whole.begins)
        groups = NumberGroups(templates, which)
        rows = WholeRows(whole.begins, whole.ends, templates, which, SideTexts(), groups)
        rows, others = self._one_by_one(columns, whole, rows, groups)
        if whole.known is not None:
            self._events.see(columns)
        self._count_others(others.ended.values())
        self._count(rows.templates, rows.which)
        if self.sampling is None:
            sampled = None
            kept: list[Kept] = [(event, KEEP_ALL) for event in others.ended.values()]
        else:
            decision, kept = self.sampling.admit(columns, others)
            rows = _without(rows, ~decision.kept[rows.ends])
            ends = rows.ends
            sampled = Sampled(REASONS, decision.reason[ends], decision.probability[ends])
        if self._new:
            self._keep(self._batches.table(columns, rows, kept, sampled))

    def _one_by_one(
        self, columns: RecordColumns, whole: WholeEvents, rows: WholeRows, groups: NumberGroups
    ) -> tuple[WholeRows, OtherEvents]:
        """Take side records, and the events that are not made by column, in their order.

        Returns:
            The whole events that remain, and the other events.
        """
        others = OtherEvents()
        every = len(rows.begins) == len(columns)
        odd = groups.odd_events(columns.numbers, rows.begins, every)
        sided = np.flatnonzero(columns.flags & int(Flag.SIDE))
        places = np.zeros(0, np.int64) if odd is None else np.flatnonzero(odd)
        sides: dict[int, PackedSide | None] = {}
        if len(sided):
            packed = self._events.sides.next_of_each(columns.sequence[sided])
            sides = dict(zip(sided.tolist(), packed, strict=True))
            flags = columns.flags if every else columns.flags[rows.begins]
            careful = flags & int(Flag.SIDE) != 0
            if odd is not None:
                careful &= ~odd
            left = self._take_sides(rows, np.flatnonzero(careful), sides, others)
            places = np.union1d(places, np.array(left, np.int64))
        if not len(places) and not len(whole.others):
            return rows, others
        records = np.concatenate([whole.others, rows.begins[places]])
        order = np.argsort(records, kind="stable")
        place_of = np.concatenate([np.full(len(whole.others), -1), places])[order].tolist()
        gone = np.zeros(len(rows.begins), np.bool_)
        for row, place, record in zip(
            records[order].tolist(), place_of, columns.records(records[order]), strict=True
        ):
            parts = sides.get(row)
            side = None if parts is None else side_record(parts)
            if place < 0:
                known = None if whole.known is None else bool(whole.known[row])
                event = self._events.take_both(record, side, parent_known=known)
                others.note(row, record, event or self._events.open.get(record.sequence))
                if event is not None:
                    others.ends(row, event)
            else:
                if side is not None and self.sampling is not None:
                    others.attributes[row] = side.attributes
                is_odd = odd is not None and bool(odd[place])
                if not is_odd and self._take_side(rows, place, record, side):
                    continue
                gone[place] = True
                event = self._events.event(record)
                event.end = self._events.wall_clock(int(columns.end[rows.ends[place]]))
                if side is not None:
                    event.take(side)
                self._events.note_chain(event)
                others.ends(int(rows.ends[place]), event)
        return _without(rows, gone), others

    def _take_sides(
        self,
        rows: WholeRows,
        places: Integers,
        sides: Mapping[int, PackedSide | None],
        others: OtherEvents,
    ) -> list[int]:
        """Let rows have what their side records hold; gives the places where that is not all."""
        records = rows.begins[places].tolist()
        packed = [sides[row] for row in records]
        if self.sampling is not None:
            for row, parts in zip(records, packed, strict=True):
                if parts is not None:
                    others.attributes[row] = parts[1]
        return rows.sides.take_all(places, rows.templates, rows.which[places], packed)

    def _take_side(
        self, rows: WholeRows, place: int, record: EventRecord, side: SideRecord | None
    ) -> bool:
        """Let a row have what its side record holds; tells whether that was possible."""
        if side is None:
            return True
        name = side.extra.get("correlation_id")
        if name is not None and record.sequence != record.root:
            return False
        if not rows.sides.take(place, rows.templates[int(rows.which[place])], side):
            return False
        if name is not None:
            self._events.name_chain(record.sequence, record.root, name)
        return True

    def _count_others(self, events: Iterable[RecordedEvent]) -> None:
        """Count events; without a policy, all of them are kept."""
        for event in events:
            site = event.site
            if site.operation == PUBLISH:
                if self.sampling is None:
                    self._completeness.kept(site.portfolio, site.event_type)
                if not site.counted:
                    self._completeness.seen_uncounted(site.portfolio, site.event_type)

    def _count(self, templates: Templates, which: Integers) -> None:
        """Count whole events; without a policy, all of them are kept."""
        for (portfolio, event_type, counted), number in templates.published(which):
            if self.sampling is None:
                self._completeness.kept(portfolio, event_type, number)
            if not counted:
                self._completeness.seen_uncounted(portfolio, event_type, number)

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


def _without(rows: WholeRows, gone: Booleans) -> WholeRows:
    if not gone.any():
        return rows
    rows.sides.without(gone)
    left = ~gone
    begins, ends, which = rows.begins[left], rows.ends[left], rows.which[left]
    return WholeRows(begins, ends, rows.templates, which, rows.sides)


def _in_order(tables: Sequence[pa.Table]) -> bool:
    """Tell whether each of some ordered tables begins behind the one before."""
    ends = [(table["sequence"][0].as_py(), table["sequence"][-1].as_py()) for table in tables]
    return all(before[1] < after[0] for before, after in pairwise(ends))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one behind the other without copying what has the same form in all of them."""
    fields = []
    for field in SPAN_SCHEMA:
        kinds = {table.schema.field(field.name).type for table in tables}
        kind = kinds.pop() if len(kinds) == 1 else field.type
        fields.append(field.with_type(kind))
    schema = pa.schema(fields, SPAN_SCHEMA.metadata)
    return pa.concat_tables(
        [table if table.schema.equals(schema) else table.cast(schema) for table in tables]
    )
