"""Lets a process of ours publish its metrics, as OpenTelemetry's standard variables say.

A host has a MeterProvider of its own, or none. The writer and other processes that fillpath starts
get one here, if `OTEL_METRICS_EXPORTER` names an exporter. Whatever is wrong with it, the process
does its work.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation.semconv import SCOPE_NAME, Resource
from fillpath.instrumentation.settings import metrics_exporters, otlp_metrics_variable

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

_log = logging.getLogger(__name__)

_GROUP: Final = "opentelemetry_metrics_exporter"
_BY_PROTOCOL: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
LAST_EXPORT_SECONDS: Final = 2.0
"""How long a process that leaves waits for its last numbers to be taken."""


@contextmanager
def process_metrics(service_name: str) -> Iterator[None]:
    """Publish the metrics of this process during the body, and once more at its end.

    Args:
        service_name: Name of the process, such as `fillpath-writer`.
    """
    provider = None
    if names := metrics_exporters():
        try:
            provider = _provider(service_name, names)
        except Exception as error:  # noqa: BLE001 - nothing of this may stop the process
            _log.warning("No metrics are published: %s", error)
    try:
        yield
    finally:
        if provider is not None:
            _shut_down(provider)


def _provider(service_name: str, names: list[str]) -> MeterProvider | None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource as SdkResource

    readers = [reader for name in names if (reader := _reader(name)) is not None]
    if not readers:
        return None
    resource = SdkResource.create(
        {
            Resource.SERVICE_NAME: service_name,
            Resource.SERVICE_NAMESPACE: SCOPE_NAME,
            Resource.SERVICE_INSTANCE_ID: f"{platform.node()}:{os.getpid()}",
            Resource.HOST_NAME: platform.node(),
        }
    )
    # At exit, it would wait for a receiver that is not there.
    provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


def _reader(name: str) -> Any:
    """Make the reader that an exporter's name means; None when that is not possible."""
    from opentelemetry.sdk.metrics.export import (
        ConsoleMetricExporter,
        MetricReader,
        PeriodicExportingMetricReader,
    )

    try:
        if name == "console":  # on stderr, which is the log of a process that we start
            return PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr))
        if name == "otlp":
            protocol = otlp_metrics_variable("PROTOCOL") or "grpc"
            name = _BY_PROTOCOL.get(protocol, protocol)
        found = next(iter(entry_points(group=_GROUP, name=name)), None)
        if found is None:
            _log.warning("No metrics go to '%s': nothing installed knows it", name)
            return None
        made = found.load()()
        return made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made)
    except Exception as error:  # noqa: BLE001 - another exporter may do
        # The error may hold an endpoint or headers that are secret.
        _log.warning("No metrics go to '%s': %s", name, type(error).__name__)
        return None


def _shut_down(provider: MeterProvider) -> None:
    """Export once more, without waiting for a receiver that does not answer."""

    def last_export() -> None:
        try:
            provider.shutdown(timeout_millis=1000 * LAST_EXPORT_SECONDS)
        except Exception as error:  # noqa: BLE001
            _log.warning("The last metrics were not published: %s", type(error).__name__)

    thread = threading.Thread(target=last_export, name="fillpath-metrics", daemon=True)
    thread.start()
    thread.join(LAST_EXPORT_SECONDS)
