"""Makes spans of whole batches of records: by column what stands for itself, the rest one by one.

Both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.batch_numbers import NumberGroups
from fillpath.exporters.record_columns import Booleans, Integers, RecordColumns
from fillpath.exporters.row_templates import Templates
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.side_texts import Added, SideTexts
from fillpath.exporters.span_rows import SpanRows
from fillpath.exporters.span_table import SpanTable
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.spool_spans import SHORTEST, SpoolSpans
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import KEEP_ALL, Decision
from fillpath.instrumentation.spool import NO_TIME

_BY_ROW: Final = frozenset({"correlation_id", "sampling_reason"})
_SAME_FOR_SITE: Final = tuple(
    name
    for name in SPAN_SCHEMA.names
    if pa.types.is_string(SPAN_SCHEMA.field(name).type) and name not in _BY_ROW
)

Kept = tuple[RecordedEvent, Decision]


@dataclass(frozen=True, slots=True)
class WholeRows:
    """Whole events that become rows by column.

    Attributes:
        begins: Their records.
        ends: The records that they end in.
        templates: Templates of their rows.
        which: For each of them, which of these is its own.
        sides: What their side records add.
        groups: The same rows by where their numbers come from, if that is known.
    """

    begins: Integers
    ends: Integers
    templates: Templates
    which: Integers
    sides: SideTexts
    groups: NumberGroups | None = None


class Sampled(NamedTuple):
    """Why whole events are kept: reasons, for each which of them, and its probability."""

    reasons: Sequence[str | None]
    which: npt.NDArray[Any]
    probability: npt.NDArray[np.float64]


class BatchSpans:
    """Makes tables of spans of one run.

    Args:
        run_id: The run.
        events: Knows the sites and the names of chains.
        spans: Makes the spans that are made one by one.
    """

    def __init__(self, run_id: str, events: SpoolEvents, spans: SpoolSpans) -> None:
        self._events = events
        self._spans = spans
        key = identity.run_key(run_id)
        self._trace_prefix = key >> identity.TAG_BITS
        self._tag = identity.tag_of(key) << identity.SEQUENCE_BITS
        self._named = Bits()
        """Roots of chains that have a name or continue a foreign trace."""
        self._named_number = 0

    def table(
        self,
        columns: RecordColumns,
        whole: WholeRows,
        others: Iterable[Kept],
        sampled: Sampled | None = None,
    ) -> pa.Table:
        """Make the spans of whole events and of others, in order.

        Args:
            columns: The records of the batch.
            whole: The whole events that are kept.
            others: Other events that are kept.
            sampled: Why the whole events are kept; None where everything is.
        """
        rows = SpanRows()
        for event, decision in others:
            rows.add(self._spans.span(event, decision))
        begins, ends, templates, which = whole.begins, whole.ends, whole.templates, whole.which
        every = len(begins) == len(columns)  # then nothing has to be picked out

        def picked(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return column if every else column[begins]

        table = SpanTable(picked(columns.sequence), rows.take_as_added(), which)
        trace = self._roots(table, picked(columns.root))
        self._ids(table, picked(columns.sequence), picked(columns.parent), trace)
        end = columns.end if every else columns.end[ends]
        self._times(table, picked(columns.start), end, picked(columns.event_time))
        added: dict[str, Added] = {
            **whole.sides.texts,
            "attributes": _attributes(whole),
        }
        for name in _SAME_FOR_SITE:
            table.texts_of_kinds(name, templates.names(name), added.get(name, ([], [])))
        numbers = columns.numbers if every else columns.numbers[:, begins]
        groups = whole.groups or NumberGroups(templates, which)
        groups.fill(table, numbers)
        if sampled is None:
            everything = np.zeros(len(begins), np.int8)
            sampled = Sampled([KEEP_ALL.reason], everything, np.ones(len(begins)))
        table.texts("sampling_reason", sampled.reasons, sampled.which)
        table.numbers("sampling_probability", sampled.probability)
        table.links(self._links(whole.sides, picked(columns.parent)))
        return table.table()

    def _roots(self, table: SpanTable, roots: Integers) -> npt.NDArray[Any]:
        """Fill what follows from the roots; gives the trace ids."""
        table.numbers("root_sequence", roots)
        trace: Any = np.empty((len(roots), 2), np.uint64)
        trace[:, 0] = np.uint64(self._trace_prefix)
        trace[:, 1] = roots.view(np.uint64) | np.uint64(self._tag)
        names: list[str | None] = [None]
        which = np.zeros(len(roots), np.int64)
        places = self._places_of_named(roots)
        if places is not None and len(places):
            distinct, inverse = np.unique(roots[places], return_inverse=True)
            ids = []
            for root in distinct.tolist():
                trace_id, name = self._spans.chain(root)
                ids.append(trace_id)
                names.append(None if name in (None, "", trace_id.hex()) else name)
            found = np.frombuffer(b"".join(ids), ">u8").astype(np.uint64).reshape(-1, 2)
            trace[places] = found[inverse]
            which[places] = inverse + 1
        table.texts("correlation_id", names, which)
        return trace  # type: ignore[no-any-return]

    def _places_of_named(self, roots: Integers) -> Integers | None:
        events = self._events
        number = len(events.names) + len(events.foreign_traces)
        if not number:
            return None
        if number != self._named_number:
            for known in (events.names, events.foreign_traces):
                self._named.add_all(np.fromiter(known, np.int64, len(known)))
            self._named_number = number
        return np.flatnonzero(self._named.holds(roots))

    def _ids(
        self, table: SpanTable, sequence: Integers, parent: Integers, trace: npt.NDArray[Any]
    ) -> None:
        tag = np.uint64(self._tag)
        table.ids("trace_id", trace)
        table.ids("span_id", sequence.view(np.uint64) | tag)
        caused = parent != 0
        table.ids(
            "parent_span_id",
            parent.view(np.uint64) | tag,
            None if caused.all() else caused,
        )

    def _links(self, sides: SideTexts, parent: Integers) -> Added:
        """Links of the spans; the first of one whose cause is in another trace leads there."""
        if not sides.causes[0]:
            return sides.links
        links = dict(zip(*sides.links, strict=True))
        for place, trace_id in zip(*sides.causes, strict=True):
            if not parent[place]:
                continue  # a host's own attribute of that name
            cause = (int(parent[place]) | self._tag).to_bytes(8, "big")
            links[place] = [(trace_id, cause), *links.get(place, ())]
        return list(links), list(links.values())

    def _times(
        self, table: SpanTable, start: Integers, end: Integers, event_time: Integers
    ) -> None:
        offset = self._events.clock_offset
        begun, ended = _known(start), _known(end)
        early = np.minimum(start, end)  # a start that lay in the future counts as the end
        start = early if ended is None else np.where(ended, early, start)
        begin = start + offset
        duration = np.maximum(end - start, SHORTEST)
        if begun is not None:
            duration = np.where(begun, duration, end + offset)
        table.numbers("start_time", begin, begun)
        table.numbers("duration", duration, ended)
        dated = _known(event_time)
        table.numbers("event_time", event_time, dated)
        table.numbers("event_timestamp", event_time // 1000, dated)


def _attributes(whole: WholeRows) -> Added:
    """JSON of the attributes of those events whose side record adds to them."""
    places, members = whole.sides.members
    texts = []
    for place, more in zip(places, members, strict=True):
        base = whole.templates[int(whole.which[place])].texts["attributes"]
        texts.append(f"{{{more}}}" if base is None else f"{base[:-1]},{more}}}")
    return places, texts


def _known(times: Integers) -> Booleans | None:
    known = times != NO_TIME
    return None if known.all() else known
