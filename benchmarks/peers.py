"""What fillpath is compared with: OpenTelemetry's SDK, and the usual ways to store spans.

Each peer is set up as its own documentation would have it, and loses no span.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from fillpath.instrumentation import semconv
from fillpath.instrumentation.identity import run_key, span_id, trace_id
from fillpath.instrumentation.semconv import PUBLISH, Event, Sampling, Trading
from fillpath.instrumentation.spool import FieldKind
from stream import CLOCK_OFFSET, PORTFOLIO, Row, Stream

RUN_ID: Final = "benchmark"
"""Run that ids and the resource belong to."""
ROW_BATCH: Final = 20_000
"""Rows in a file of the straightforward Parquet exporter."""
RESOURCE: Final = Resource(
    {
        semconv.Resource.SERVICE_NAME: "benchmark",
        semconv.Resource.SERVICE_NAMESPACE: "fillpath",
        semconv.Resource.RUN_ID: RUN_ID,
        semconv.Resource.PORTFOLIO: PORTFOLIO,
    }
)
SCOPE: Final = InstrumentationScope(semconv.SCOPE_NAME)


class NullExporter(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Say that all went well."""
        del spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held."""


class PlainParquetExporter(SpanExporter):
    """Writes spans to Parquet the straightforward way: dictionaries, a table, the defaults.

    Attributes are JSON, since a table made from dictionaries has the keys of the first one only.

    Args:
        folder: Where its files go, one for every `ROW_BATCH` spans.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._files = 0
        self.rows = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Turn spans into rows."""
        for span in spans:
            context, parent = span.context, span.parent
            if context is None:
                return SpanExportResult.FAILURE
            self._rows.append(
                {
                    "trace_id": f"{context.trace_id:032x}",
                    "span_id": f"{context.span_id:016x}",
                    "parent_span_id": f"{parent.span_id:016x}" if parent is not None else None,
                    "name": span.name,
                    "kind": span.kind.name,
                    "start_time": span.start_time,
                    "end_time": span.end_time,
                    "status": span.status.status_code.name,
                    "attributes": json.dumps(dict(span.attributes or {})),
                }
            )
        if len(self._rows) >= ROW_BATCH:
            self._write()
        return SpanExportResult.SUCCESS

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        self._files += 1
        pq.write_table(pa.Table.from_pylist(rows), self._folder / f"{self._files:06d}.parquet")
        self.rows += len(rows)

    def shutdown(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write()


def sdk_provider(exporter: SpanExporter, most: int) -> TracerProvider:
    """OpenTelemetry's SDK with its batch processor, whose queue is long enough to drop nothing."""
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=most + 1024))
    return provider


def readable_spans(
    stream: Stream, most: int, *, foreign: bool = False, complete: bool = False
) -> list[ReadableSpan]:
    """The first events of a stream as the spans that the SDK hands to an exporter.

    Args:
        stream: The events.
        most: How many.
        foreign: Give them random ids, as the SDK does, instead of derived ones.
        complete: Give them all that the lake knows: portfolio and sampling too, exact digits.
    """
    random = Random(13)
    flags = TraceFlags(TraceFlags.SAMPLED)
    contexts: list[SpanContext] = []
    key = run_key(RUN_ID)
    spans = []
    for row in stream.rows(0, most):
        if foreign:
            trace = contexts[row.root - 1].trace_id if row.parent else random.getrandbits(128)
            span = random.getrandbits(64)
        else:
            trace, span = trace_id(key, row.root), span_id(key, row.sequence)
        contexts.append(SpanContext(trace, span, False, flags))
        attributes = {**known_attributes(row), Event.SEQUENCE: row.sequence}
        if complete:
            attributes |= {
                semconv.Resource.PORTFOLIO: PORTFOLIO,
                Sampling.REASON: "all",
                Sampling.PROBABILITY: 1.0,
                **_digits(row),
            }
        made = ReadableSpan(
            semconv.span_name(PUBLISH, row.kind.event_type),
            contexts[-1],
            contexts[row.parent - 1] if row.parent else None,
            RESOURCE,
            attributes,
            kind=SpanKind.PRODUCER,
            start_time=row.start + CLOCK_OFFSET,
            end_time=row.end + CLOCK_OFFSET,
            instrumentation_scope=SCOPE,
        )
        spans.append(made)
    return spans


def known_attributes(row: Row) -> dict[str, Any]:
    """What a span says of an event: kind, time, symbol, venue, strategy, and what its kind has."""
    known: dict[str, Any] = {
        Event.TYPE: row.kind.event_type,
        Event.TIME: row.event_time,
        Trading.SYMBOL: row.kind.symbol,
        Trading.VENUE: row.kind.venue,
    }
    if row.kind.strategy is not None:
        known[Trading.STRATEGY] = row.kind.strategy
    return known | row.attributes


def _digits(row: Row) -> dict[str, str]:
    return {
        field.key: f"{row.attributes[field.key]:.{field.scale}f}"
        for field in row.kind.fields
        if field.kind == FieldKind.DECIMAL
    }
