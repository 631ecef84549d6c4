"""What encoding a span as OTLP costs, and whether both encoders say the same.

The rows come from a lake; the SDK's encoder gets the same events as the SDK's spans, made from the
stream. The first of them are encoded both ways and compared as parsed messages, attributes by key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan

from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.schema import SPAN_SCHEMA
from harness import Figure, Size, alternate, figure
from peers import readable_spans
from stream import make_stream
from stream_spool import lake_of

_SDK_BATCH: Final = 512


def measure(size: Size) -> dict[str, Figure]:
    """Encode the same events with both encoders."""
    events, sample = size.pick(2_000, 200_000, 1_000_000), size.pick(500, 10_000, 20_000)
    stream = make_stream(events)
    with tempfile.TemporaryDirectory() as scratch:
        store = lake_of(stream, Path(scratch), "benchmark")
        files = sorted(store.spans.files(), key=lambda file: file.smallest["sequence"])
        batches = [batch for file in files for batch in _batches(file.path)]
    spans = readable_spans(stream, sample, complete=True)
    differing = _differing(batches, spans)

    @contextmanager
    def ours() -> Iterator[Callable[[], int]]:
        def work() -> int:
            for _ in OtlpEncoder().encode(batches):
                pass
            return events

        yield work

    @contextmanager
    def sdk() -> Iterator[Callable[[], int]]:
        def work() -> int:
            for begin in range(0, sample, _SDK_BATCH):
                encode_spans(spans[begin : begin + _SDK_BATCH]).SerializeToString()
            return sample

        yield work

    costs = alternate({"ours": ours, "sdk": sdk}, rounds=size.pick(1, 5, 9))
    peer = "OTel SDK's encoder"
    return {
        "encoding, CPU": figure(
            costs["ours"].cpu / 1e3,
            "µs/span",
            peer=(peer, costs["sdk"].cpu / 1e3),
            goal="≤ 0.75 µs and ≥ 45×, equal messages",
            at_most=0.75,
            ratio_at_least=45,
            holds=differing == 0,
        ),
        "encoding, wall": figure(
            costs["ours"].wall / 1e3, "µs/span", peer=(peer, costs["sdk"].wall / 1e3)
        ),
        "differing messages": figure(differing, f"of {sample:,} spans", goal="none", at_most=0),
    }


def _batches(path: Path) -> list[pa.RecordBatch]:
    texts = [field.name for field in SPAN_SCHEMA if pa.types.is_string(field.type)]
    return list(pq.ParquetFile(path, read_dictionary=texts).iter_batches(131_072))


def _differing(batches: Iterable[pa.RecordBatch], spans: Sequence[ReadableSpan]) -> int:
    """How many of the spans the two encoders say something different about."""
    found = islice(_parsed(OtlpEncoder().encode(batches)), len(spans))
    wanted = _parsed([encode_spans(spans).SerializeToString()])
    return sum(_sorted(one) != _sorted(other) for one, other in zip(found, wanted, strict=True))


def _parsed(requests: Iterable[bytes]) -> Iterator[Span]:
    for request in requests:
        for resource in ExportTraceServiceRequest.FromString(request).resource_spans:
            for scope in resource.scope_spans:
                yield from scope.spans


def _sorted(span: Span) -> bytes:
    attributes = sorted(span.attributes, key=lambda attribute: attribute.key)
    del span.attributes[:]
    span.attributes.extend(attributes)
    text: bytes = span.SerializeToString(deterministic=True)
    return text
