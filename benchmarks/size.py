"""Bytes of an event in the lake's files, with ids in them, against the usual ways to store spans.

The stream goes through a spool and the writer. For foreign ids, the same rows get 16 random bytes
for each chain and 8 for each span, and are written by `EventStore.append_spans`, as the rows of
another SDK's spans are. The peers hold a sample of the same events, with the same derived ids.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.schema import SPAN_SCHEMA
from harness import Figure, Size, figure
from peers import readable_spans
from stream import Stream, make_stream
from stream_spool import lake_of

OTLP_BATCH: Final = 512
"""Spans of one OTLP request, as the SDK's batch processor sends them."""


def measure(size: Size) -> dict[str, Figure]:
    """Write the stream in every form and count the bytes."""
    events = size.pick(1_500, 400_000, 2_000_000)
    sample = size.pick(500, 60_000, 200_000)
    stream = make_stream(events)
    with tempfile.TemporaryDirectory() as scratch:
        store = lake_of(stream, Path(scratch) / "own", "benchmark")
        _check(store, stream)
        own = _bytes_of(store) / events
        foreign = _bytes_of(_with_foreign_ids(store, Path(scratch) / "foreign")) / events
        peers = _peers(stream, sample, Path(scratch))
    otlp_gzip = ("OTLP protobuf + gzip", peers["OTLP protobuf + gzip"])
    foreign_gzip = ("OTLP protobuf + gzip, random ids", peers["OTLP protobuf + gzip, random ids"])
    raw_otlp = ("OTLP protobuf", peers["OTLP protobuf"])
    raw_json = ("JSON lines", peers["JSON lines"])
    figures = {
        "own ids": figure(own, "bytes/event", peer=otlp_gzip, goal="≤ 24", at_most=24),
        "foreign random ids": figure(
            foreign, "bytes/event", peer=foreign_gzip, goal="≤ 34", at_most=34
        ),
        "against OTLP": figure(own, "bytes/event", peer=raw_otlp, goal="≥ 10:1", ratio_at_least=10),
        "against JSON lines": figure(
            own, "bytes/event", peer=raw_json, goal="≥ 15:1", ratio_at_least=15
        ),
    }
    for peer in ("JSON lines + gzip", "pandas + snappy Parquet", "otel_traces Parquet + zstd"):
        figures[f"against {peer}"] = figure(own, "bytes/event", peer=(peer, peers[peer]))
    return figures


def _bytes_of(store: EventStore) -> int:
    return store.facts()["spans"].bytes


def _check(store: EventStore, stream: Stream) -> None:
    """Make sure that the files hold the events, with their numbers as they were."""
    middle = len(stream) // 2
    sql = "SELECT sequence, attributes, price, quantity, commission FROM spans WHERE sequence > ?"
    with store.connect() as connection:
        (rows,) = connection.execute("SELECT count(*) FROM raw_spans").fetchone() or (0,)
        found = connection.execute(f"{sql} AND sequence <= ?", [middle, middle + 200]).fetchall()
    if rows != len(stream):
        raise RuntimeError(f"{len(stream)} events were recorded, {rows} are in the lake")
    seen = {sequence: (json.loads(text), columns) for sequence, text, *columns in found}
    for row in stream.rows(middle, middle + 200):
        known, columns = seen[row.sequence]
        for field in row.kind.fields:
            wanted = row.attributes[field.key]
            there = [known[field.key]] if field.key in known else columns
            if wanted not in [float(number) for number in there if number is not None]:
                raise RuntimeError(
                    f"{field.key} of event {row.sequence} is {wanted}; in the lake it is {there}"
                )


def _with_foreign_ids(store: EventStore, folder: Path) -> EventStore:
    """Write the rows of a lake into another one, under ids that tell nothing."""
    random = np.random.default_rng(11)
    new: dict[str, dict[bytes, bytes]] = {}
    copy = EventStore(folder)
    files = sorted(store.spans.files(), key=lambda file: file.smallest["sequence"])
    for version, file in enumerate(files, 1):
        rows = pq.ParquetFile(file.path).read()
        for column, like in (
            ("trace_id", "trace_id"),
            ("span_id", "span_id"),
            ("parent_span_id", "span_id"),
        ):
            known = new.setdefault(like, {})
            ids = rows[column].to_pylist()
            for each in ids:
                if each is not None and each not in known:
                    known[each] = random.bytes(len(each))
            replaced = pa.array(
                [None if each is None else known[each] for each in ids], pa.binary()
            )
            place = rows.schema.get_field_index(column)
            rows = rows.set_column(place, SPAN_SCHEMA.field(column), replaced)
        for column in ("correlation_id", "root_sequence"):  # another SDK gives neither
            field = SPAN_SCHEMA.field(column)
            place = rows.schema.get_field_index(column)
            rows = rows.set_column(place, field, pa.nulls(len(rows), field.type))
        copy.append_spans(rows, "benchmark", "foreign", version)
    return copy


def _peers(stream: Stream, sample: int, scratch: Path) -> dict[str, float]:
    spans = readable_spans(stream, sample)
    raw, packed = _otlp(spans)
    _, foreign = _otlp(readable_spans(stream, sample, foreign=True))
    rows = [_row(span) for span in spans]
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
    flat = [{**row, **row["attributes"]} for row in rows]
    frame = pd.DataFrame(flat).drop(columns="attributes")
    frame.to_parquet(scratch / "pandas.parquet", compression="snappy")
    pq.write_table(_otel_traces(spans), scratch / "otel_traces.parquet", compression="zstd")
    sizes = {
        "OTLP protobuf": raw,
        "OTLP protobuf + gzip": packed,
        "OTLP protobuf + gzip, random ids": foreign,
        "JSON lines": len(lines),
        "JSON lines + gzip": len(gzip.compress(lines)),
        "pandas + snappy Parquet": (scratch / "pandas.parquet").stat().st_size,
        "otel_traces Parquet + zstd": (scratch / "otel_traces.parquet").stat().st_size,
    }
    return {name: bytes_ / len(spans) for name, bytes_ in sizes.items()}


def _otlp(spans: Sequence[ReadableSpan]) -> tuple[int, int]:
    raw = packed = 0
    for batch in _batches(spans, OTLP_BATCH):
        request = encode_spans(batch).SerializeToString()
        raw += len(request)
        packed += len(gzip.compress(request))
    return raw, packed


def _batches(spans: Sequence[ReadableSpan], size: int) -> Iterator[list[ReadableSpan]]:
    left = iter(spans)
    while batch := list(islice(left, size)):
        yield batch


def _row(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "trace_id": f"{context.trace_id:032x}" if context else None,
        "span_id": f"{context.span_id:016x}" if context else None,
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "service_name": str(span.resource.attributes["service.name"]),
        "attributes": dict(span.attributes or {}),
    }


_MAP: Final = pa.map_(pa.string(), pa.string())
_OTEL_TRACES: Final = pa.schema(
    [
        ("Timestamp", pa.timestamp("ns", tz="UTC")),
        ("TraceId", pa.string()),
        ("SpanId", pa.string()),
        ("ParentSpanId", pa.string()),
        ("TraceState", pa.string()),
        ("SpanName", pa.string()),
        ("SpanKind", pa.string()),
        ("ServiceName", pa.string()),
        ("ResourceAttributes", _MAP),
        ("ScopeName", pa.string()),
        ("ScopeVersion", pa.string()),
        ("SpanAttributes", _MAP),
        ("Duration", pa.int64()),
        ("StatusCode", pa.string()),
        ("StatusMessage", pa.string()),
    ]
)
"""Columns of the table `otel_traces` that the Collector's ClickHouse exporter fills."""


def _otel_traces(spans: Sequence[ReadableSpan]) -> pa.Table:
    rows = []
    for span in spans:
        row = _row(span)
        start, end = span.start_time or 0, span.end_time or 0
        resource = {key: str(value) for key, value in span.resource.attributes.items()}
        attributes = {key: str(value) for key, value in row["attributes"].items()}
        rows.append(
            {
                "Timestamp": start,
                "TraceId": row["trace_id"],
                "SpanId": row["span_id"],
                "ParentSpanId": row["parent_span_id"] or "",
                "TraceState": "",
                "SpanName": span.name,
                "SpanKind": span.kind.name.capitalize(),
                "ServiceName": row["service_name"],
                "ResourceAttributes": list(resource.items()),
                "ScopeName": "fillpath",
                "ScopeVersion": "",
                "SpanAttributes": list(attributes.items()),
                "Duration": end - start,
                "StatusCode": "Unset",
                "StatusMessage": "",
            }
        )
    return pa.Table.from_pylist(rows, schema=_OTEL_TRACES)
