"""Sends a run of the lake to a Collector: the sampled set, as OTLP by HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.settings import DataFolder
from places import StackError

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
            said = answer.read()
    except urllib.error.HTTPError as error:
        reason = error.read(500).decode(errors="replace")
        raise StackError(f"The Collector refused spans: HTTP {error.code} {reason}") from error
    except OSError as error:
        raise StackError(f"The Collector at {url} does not answer: {error}") from error
    # Nothing, or an empty message in the message, when all were taken.
    if len(said) > 2:
        raise StackError(f"The Collector did not take all spans: {said[:500]!r}")
