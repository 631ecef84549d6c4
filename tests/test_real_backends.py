"""The servers that other tests run against: they start, take a span, and give it back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

sys.path.append(str(Path(__file__).parent))

from real_backends import Collector, Jaeger, wait_until


@pytest.mark.parametrize("kind", [Jaeger, Collector])
def test_a_span_of_the_sdk_is_taken(kind: type[Jaeger | Collector], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        provider = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=f"{server.otlp_http}/v1/traces")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with provider.get_tracer("test").start_as_current_span("one") as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
        provider.shutdown()
        if isinstance(server, Jaeger):
            trace = wait_until(lambda: server.trace(trace_id), "Jaeger does not have the span")
            assert [one["operationName"] for one in trace["spans"]] == ["one"]
        else:
            (found,) = wait_until(server.spans, "the Collector does not have the span")
            assert (found["name"], found["traceId"]) == ("one", trace_id)
        assert server.stop() == 0
