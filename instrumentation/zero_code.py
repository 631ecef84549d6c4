"""What `opentelemetry-instrument` runs when it has set up the SDK: puts our parts in their places.

The SDK's configuration knows samplers and exporters, and puts each exporter behind a
`BatchSpanProcessor`. That is not enough for two of ours: `CriticalEventSampler` keeps what a
critical event needs only with a `CriticalEventProcessor` behind it, and spans on their way to the
lake must not be lost in a queue that overflows.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, Final

from opentelemetry import trace

from fillpath.instrumentation import settings

_log = logging.getLogger(__name__)
_EXPORTER: Final = "fillpath.exporters.parquet_span_exporter"


_set_up: list[trace.TracerProvider] = []


def provider_set_up() -> trace.TracerProvider | None:
    """Give the provider that `opentelemetry-instrument` has set up in this process, if it has."""
    return _set_up[0] if _set_up else None


def arrange() -> None:
    """Arrange the processors of the global provider; never raises."""
    try:
        _set_up[:] = [trace.get_tracer_provider()]
        arrange_processors(trace.get_tracer_provider())
    except Exception as error:  # noqa: BLE001 - the host runs without us
        _log.warning("fillpath could not arrange the span processors: %r", error, exc_info=error)


def arrange_processors(provider: Any) -> None:
    """Arrange the processors of a provider of the SDK.

    Every `BatchSpanProcessor` of the lake's exporter gives way to a `LakeProcessor`; and before all
    processors comes a `CriticalEventProcessor` if the sampler is a `CriticalEventSampler`.

    Args:
        provider: The provider; left alone if it is not one of the SDK, or all is arranged.
    """
    active = getattr(provider, "_active_span_processor", None)
    processors = getattr(active, "_span_processors", None)
    if active is None or not processors:
        return
    arranged = tuple(_for_the_lake(one) for one in processors)
    sampling = sys.modules.get("fillpath.instrumentation.critical_event_sampler")
    sampler = getattr(provider, "sampler", None)
    if sampling is not None and isinstance(sampler, sampling.CriticalEventSampler):
        home = importlib.import_module("fillpath.instrumentation.critical_event_processor")
        if not any(isinstance(one, home.CriticalEventProcessor) for one in arranged):
            together = type(active)()
            for one in arranged:
                together.add_span_processor(one)
            arranged = (home.CriticalEventProcessor(together, sampler.policy),)
            sampler.record_all = True
    active._span_processors = arranged


def _for_the_lake(processor: Any) -> Any:
    exporter = getattr(processor, "span_exporter", None)
    parquet = sys.modules.get(_EXPORTER)
    is_batch = type(processor).__name__ == "BatchSpanProcessor"
    if not is_batch or parquet is None or not isinstance(exporter, parquet.ParquetSpanExporter):
        return processor
    if not settings.recording_enabled():
        return processor  # its exporter exports nothing
    home = importlib.import_module("fillpath.exporters.lake_processor")
    return home.LakeProcessor(exporter, lossless=not settings.delivery_is_live())
