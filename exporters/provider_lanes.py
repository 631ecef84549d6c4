"""Gives spans to the processors of a provider without outrunning their queues.

The SDK's `BatchSpanProcessor` throws spans away when its queue is full, and a backtest fills it in
milliseconds. So its queue is looked at before a span is given. A processor whose backend stands
still must not hold the host up: then it is passed by, and what it missed is counted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

_log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 2.0
"""How long a queue without room is waited for."""
REST_SECONDS: Final = 30.0
"""How long it is not waited for after that."""
_PAUSE: Final = 0.002
_MARGIN: Final = 8
"""A part of the queue that is left to the host's own spans."""


def processors_of(provider: Any) -> tuple[SpanProcessor, ...]:
    """Give the processors of a provider; none if it is not one of the SDK."""
    active = getattr(provider, "_active_span_processor", None)
    if active is None:
        return ()
    inside = getattr(active, "_span_processors", None)
    if inside is None:
        return (active,)
    # A `CriticalEventProcessor` is gone round: what it decides has been decided on already.
    behind = [getattr(one, "next_one", one) for one in inside]
    return tuple(one for each in behind for one in getattr(each, "_span_processors", (each,)))


def exporter_of(processor: SpanProcessor) -> Any:
    """Give the exporter behind a processor of the SDK; None when it is not known."""
    return getattr(processor, "span_exporter", None)


class Lane:
    """One processor.

    Args:
        processor: The processor.
        lossless: Whether it is waited for.

    Attributes:
        given: Spans that it was given.
        missed: Spans that it was not given, because its queue had no room.
    """

    def __init__(self, processor: SpanProcessor, *, lossless: bool) -> None:
        self.processor = processor
        self.given = self.missed = 0
        self._lossless = lossless
        self._complained = False
        self._rests_until = float("-inf")
        self._queue, most = _queue_of(processor)
        self._most = max(most - most // _MARGIN, 1)

    def give(self, spans: Iterable[ReadableSpan]) -> None:
        """Give it spans; what its code raises is said once."""
        for span in spans:
            if self._queue is not None and len(self._queue) >= self._most and not self._wait():
                self.missed += 1
                continue
            self.given += 1
            try:
                self.processor.on_end(span)
            except Exception as error:  # noqa: BLE001 - the other processors do without it
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("%s could not take a span: %r", self, error, exc_info=error)

    def _wait(self) -> bool:
        """Wait until there is room; tells whether there is."""
        queue = self._queue
        if not self._lossless or queue is None or time.monotonic() < self._rests_until:
            return False
        until = time.monotonic() + PATIENCE_SECONDS
        while len(queue) >= self._most:
            if time.monotonic() >= until:
                self._rests_until = time.monotonic() + REST_SECONDS
                return False
            time.sleep(_PAUSE)
        return True

    def __str__(self) -> str:
        exporter = exporter_of(self.processor)
        return type(self.processor if exporter is None else exporter).__name__


def _queue_of(processor: SpanProcessor) -> tuple[deque[Any] | None, int]:
    """Queue of a `BatchSpanProcessor` and its size, as the SDK's versions keep them."""
    inside = getattr(processor, "_batch_processor", processor)
    for queue, most in (("_queue", "_max_queue_size"), ("queue", "max_queue_size")):
        found, size = getattr(inside, queue, None), getattr(inside, most, None)
        if isinstance(found, deque) and isinstance(size, int):
            return found, size
    return None, 0
