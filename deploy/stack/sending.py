"""Sends a run of the lake to a Collector: the sampled set, as OTLP by HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from places import StackError

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.settings import DataFolder

_SECONDS: Final = 60.0


def send_run(folder: DataFolder, run_id: str, otlp_http: str) -> int:
    """Send what the sampling policy keeps of a run; gives how many spans that is.

    Args:
        folder: The data folder.
        run_id: The run; its whole id.
        otlp_http: URL of the Collector, without `/v1/traces`.

    Raises:
        StackError: The Collector did not take them all.
        FillpathError: The lake cannot be read.
    """
    selection = SpanSelection(EventStore(folder), run_id, policy=EventSampler.from_environment())
    kept = selection.span_ids() or set()
    for request in OtlpEncoder().encode(selection.batches(kept)):
        _post(f"{otlp_http}/v1/traces", request)
    return len(kept)


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - always http
        url, body, {"Content-Type": "application/x-protobuf"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            taken = ExportTraceServiceResponse.FromString(answer.read())
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        raise StackError(f"The Collector refused spans: HTTP {error.code} {said}") from error
    except OSError as error:
        raise StackError(f"The Collector at {url} does not answer: {error}") from error
    if taken.partial_success.rejected_spans:
        raise StackError(
            f"The Collector rejected {taken.partial_success.rejected_spans} spans: "
            f"{taken.partial_success.error_message}"
        )
