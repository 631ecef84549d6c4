"""The way out through OpenTelemetry's SDK: blocks of a run come in, spans go to processors.

The blocks become the rows that they would become on their way from a spool to the lake, by the
same code. A processor whose exporter is `ParquetSpanExporter` gets the rows themselves, whatever
the size of its queue; the others get spans of the SDK.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from typing import Any, Final

import pyarrow as pa
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler

from fillpath.exporters.causal_sampling import CausalSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_store import RunRecord, Status
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.exporters.provider_lanes import Lane, exporter_of, processors_of
from fillpath.exporters.provider_spans import ProviderSpans, service_of
from fillpath.exporters.recent_blocks import RecentBlocks
from fillpath.exporters.recorded_run import record_of
from fillpath.exporters.run_rows import RunRows
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.span_rows import SpanRows
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.instrumentation.event_sampler import KEEP_ANCESTOR, EventSampler
from fillpath.instrumentation.id_share import mixed
from fillpath.instrumentation.semconv import PUBLISH, EventType
from fillpath.instrumentation.spool import Block, BlockType

_log = logging.getLogger(__name__)
_ALL: Final = ("AlwaysOnSampler", "ParentBased{root:AlwaysOnSampler")
_ROWS_AT_A_TIME: Final = 2048


class ProviderWay:
    """Takes the blocks of one run and gives its spans to the processors of a provider.

    The provider's sampler decides. `CriticalEventSampler` stands for its policy, applied when
    events end, with their ancestors and neighbours. Any other is asked about each event as if it
    began a trace, by a trace id that is scattered: ours count up.

    Args:
        provider: The provider, of the SDK.
        run: What describes the run. Its service is named as the provider's, if that has a name.
        lossless: Whether processors that have no room are waited for.
    """

    def __init__(self, provider: Any, run: dict[str, Any], *, lossless: bool) -> None:
        self._provider = provider
        self._lossless = lossless
        self._run_id: str = run["run_id"]
        resource: SdkResource = getattr(provider, "resource", None) or SdkResource({})
        if (name := service_of(resource)) is not None:
            run["service_name"] = name
        self._events = SpoolEvents()
        self._completeness = Completeness()
        self._rows = RunRows(self._run_id, self._events, self._completeness)
        self._spans = ProviderSpans(resource, run.get("mode"))
        self._one_by_one = SpoolSpans(self._run_id, self._events)
        self._recent = RecentBlocks(self._events)
        self._wanted: deque[int] = deque()
        self._handed = Bits()
        self._processors: tuple[Any, ...] = ()
        self._lakes: list[ParquetSpanExporter] = []
        self._lanes: list[Lane] = []
        self._sampler: Sampler = getattr(provider, "sampler", ALWAYS_ON)
        policy = getattr(self._sampler, "policy", None)
        self._has_policy = isinstance(policy, EventSampler)
        run["lake_sampling"] = "policy" if self._has_policy else "all"
        if isinstance(policy, EventSampler):
            run["sampling"] = policy.to_dict()
            self._rows.sampling = CausalSampling(
                policy, self._run_id, self._events, self._recent.event, self._completeness
            )
        self._asks = not self._has_policy and not self._sampler.get_description().startswith(_ALL)
        self._find_lanes()

    def _find_lanes(self) -> None:
        """Look which processors the provider has; the host may add some at any time."""
        processors = processors_of(self._provider)
        if processors == self._processors:
            return
        self._processors = processors
        known = {id(lane.processor): lane for lane in self._lanes}
        self._lakes, self._lanes = [], []
        for one in processors:
            exporter = exporter_of(one)
            if isinstance(exporter, ParquetSpanExporter):
                exporter.join(self._run_id, self._record)
                self._lakes.append(exporter)
            else:
                self._lanes.append(known.get(id(one)) or Lane(one, lossless=self._lossless))

    def want(self, sequence: int) -> None:
        """Keep an event, because a span names it as its parent."""
        if self._has_policy:
            self._wanted.append(sequence)

    def take(self, blocks: list[Block]) -> None:
        """Take the next blocks of the run, in order."""
        self._find_lanes()
        for block in blocks:
            if self._has_policy:
                self._recent.note(block)
            if block.type is BlockType.EVENTS:
                self._rows.add(block, new=True)
                continue
            self._events.feed_fact(block)
            if block.type is BlockType.END:
                self._rows.add_unfinished(new=True)
        self._give(self._rows.take())
        if self._wanted:
            self._give(self._take_wanted())

    def _give(self, table: pa.Table) -> None:
        if self._asks:
            table = self._sampled(table)
        if not len(table):
            return
        if self._has_policy:
            self._handed.add_all(table["sequence"].to_numpy())
        for lake in self._lakes:
            lake.export_rows(self._run_id, table)
        if self._lanes:
            for begin in range(0, len(table), _ROWS_AT_A_TIME):
                spans = list(self._spans.of(table.slice(begin, _ROWS_AT_A_TIME)))
                for lane in self._lanes:
                    lane.give(spans)

    def _take_wanted(self) -> pa.Table:
        """Make rows of the events that a span of the host's names, and of their ancestors."""
        rows = SpanRows()
        for _ in range(len(self._wanted)):
            sequence = asked = self._wanted.popleft()
            while sequence and sequence not in self._handed:
                event = None
                if sequence in self._events.seen and sequence not in self._events.open:
                    event = self._recent.event(sequence)
                if event is None:
                    if sequence in self._events.open or asked not in self._events.seen:
                        self._wanted.append(asked)  # until it ends
                    break
                self._handed.add(sequence)
                rows.add(self._one_by_one.span(event, KEEP_ANCESTOR))
                if event.site.operation == PUBLISH:
                    self._completeness.brought_back(event.site.portfolio, event.site.event_type)
                sequence = event.parent
        return rows.take()

    def _sampled(self, table: pa.Table) -> pa.Table:
        """Ask the provider's sampler which rows are kept."""
        kept = []
        for span, known in zip(self._spans.of(table), table["trace_id"], strict=True):
            high, low = struct.unpack(">QQ", known.as_py())
            trace_id = mixed(low) | mixed(high ^ low) << 64
            result = self._sampler.should_sample(
                None, trace_id, span.name, span.kind, span.attributes, span.links
            )
            kept.append(result.decision is Decision.RECORD_AND_SAMPLE)
        for number, is_kept in enumerate(kept):
            event_type = table["event_type"][number].as_py()
            if not is_kept and event_type != EventType.DELIVERY:
                self._completeness.left_out(table["portfolio"][number].as_py(), event_type)
        return table.filter(pa.array(kept, pa.bool_()))

    def _record(self, status: Status) -> RunRecord:
        """Make the row of the run, as far as it is known."""
        return record_of(self._run_id, status, self._events, self._completeness, source="otel")

    def flush(self, timeout: float) -> bool:
        """Flush the processors; tells whether each says that it did, and nothing was missed."""
        flushed = self._provider.force_flush(int(timeout * 1000))
        return bool(flushed) and not any(lane.missed for lane in self._lanes)

    def end(self) -> None:
        """Bring what was taken to the lake, if it goes there, and say what was missed."""
        crashed = (self._events.end or {}).get("status") == "Crashed"
        for lake in self._lakes:
            lake.leave(self._run_id, "Crashed" if crashed else "Ended")
        for lane in self._lanes:
            if lane.missed:
                _log.warning(
                    "%s missed %d of %d spans of run '%s': its queue had no room "
                    "(OTEL_BSP_MAX_QUEUE_SIZE); send them with: fillpath otlp replay %s",
                    lane, lane.missed, lane.missed + lane.given, self._run_id, self._run_id,
                )  # fmt: skip
        if self._recent.missing:
            _log.warning(
                "%d ancestors of sampled events of run '%s' were too far back to be kept",
                self._recent.missing,
                self._run_id,
            )
