"""Writes recorded event spans to the lake and to OpenTelemetry backends.

The names below are imported when they are first used: the writer has to settle its signals before
it loads what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fillpath.exporters.event_store import EventStore
    from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter

__all__ = ["EventStore", "ParquetSpanExporter"]

_HOMES = {"EventStore": "event_store", "ParquetSpanExporter": "parquet_span_exporter"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
