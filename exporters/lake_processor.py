"""Brings the spans of an application to the lake without a queue that overflows silently.

The SDK's `BatchSpanProcessor` throws spans away when its queue of 2,048 is full, and a program that
makes spans faster than they are written fills it. Here the host waits, or the spans count as
dropped.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from functools import partial
from typing import Final

from opentelemetry import context as context_api
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter

_log = logging.getLogger(__name__)

MOST_WAITING: Final = 16_384
"""Spans that wait to be exported."""
_BATCH: Final = 512
_SECONDS: Final = 0.5


class LakeProcessor(SpanProcessor):
    """Hands ended spans to the exporter on a thread of its own.

    Args:
        exporter: The exporter.
        lossless: Whether the host waits when too many spans do; otherwise these count as dropped.

    Attributes:
        span_exporter: The exporter.
    """

    def __init__(self, exporter: ParquetSpanExporter, *, lossless: bool = True) -> None:
        self.span_exporter = exporter
        self._lossless = lossless
        self._begin()
        os.register_at_fork(after_in_child=partial(_begin_again, weakref.ref(self)))

    def _begin(self) -> None:
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._taken = threading.Condition()
        self._exporting = threading.RLock()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="fillpath-lake", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing is to be done yet."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended, if it is sampled."""
        if span.context is None or not span.context.trace_flags.sampled or self._over:
            return
        if len(self._waiting) >= MOST_WAITING and not self._has_room():
            self.span_exporter.drop(span)
            return
        self._waiting.append(span)
        if len(self._waiting) >= _BATCH and not self._wake.is_set():
            self._wake.set()

    def _has_room(self) -> bool:
        if not self._lossless or threading.current_thread() is self._thread:
            return False
        with self._taken:
            while len(self._waiting) >= MOST_WAITING and not self._over:
                self._wake.set()
                self._taken.wait(_SECONDS)
        return not self._over

    def _work(self) -> None:
        while not self._over:
            self._wake.wait(_SECONDS)
            self._wake.clear()
            self._export()

    def _export(self) -> None:
        token = context_api.attach(context_api.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            with self._exporting:
                while self._waiting:
                    batch = [
                        self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))
                    ]
                    self.span_exporter.export(batch)
                    with self._taken:
                        self._taken.notify_all()
        except Exception as error:  # noqa: BLE001 - the host must not fail of its observer
            _log.warning("fillpath could not export spans: %r", error, exc_info=error)
        finally:
            context_api.detach(token)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Bring what has ended to the lake; tells whether the lake took it."""
        self._export()
        return self.span_exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Bring what has ended to the lake; later spans are refused."""
        self._over = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._export()
        self.span_exporter.shutdown()


def _begin_again(reference: weakref.ref[LakeProcessor]) -> None:
    processor = reference()
    if processor is not None and not processor._over:
        processor._begin()  # what waits is the parent's to export
