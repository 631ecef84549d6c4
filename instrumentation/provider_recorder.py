"""The way out through OpenTelemetry's SDK: what is recorded goes to the processors of a provider.

The trading thread does what it does on the way to a spool. The blocks stay in memory instead, and
the upper floor makes spans of them in this very process: every tenth of a second on the recorder's
own thread, and on the host's thread when many wait.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from typing import Any, Final, Protocol

from opentelemetry import trace

from fillpath.instrumentation.memory_spool import MemorySpool
from fillpath.instrumentation.recorder import DEFAULT_LIMIT, Recorder
from fillpath.instrumentation.spool import Block

_log = logging.getLogger(__name__)

HAND_ON_EVENTS: Final = 8192
"""Events that wait before they are handed on at once; many at a time are cheaper."""
HAND_ON_SECONDS: Final = 0.1
"""Age after which they are handed on however few they are."""
MOST_WAITING: Final = 1 << 16
"""Events after which the host waits (lossless) until they have been handed on."""
MOST_BYTES: Final = 64 << 20
"""Bytes of blocks that may wait; in live delivery, further events are dropped."""


class BlockTaker(Protocol):
    """Makes spans of blocks and hands them to a provider's processors."""

    def take(self, blocks: list[Block]) -> None:
        """Take the next blocks of the run, in order."""

    def end(self) -> None:
        """Bring what was taken to the lake, if it goes there. Nothing follows."""

    def flush(self, timeout: float) -> bool:
        """Flush the processors, as OpenTelemetry's `force_flush` does."""

    def want(self, sequence: int) -> None:
        """Keep an event, because a span names it as its parent."""


class ProviderRecorder(Recorder):
    """Collects records and hands them to the processors of a `TracerProvider`.

    Args:
        provider: The provider, of the SDK.
        run: What describes the run.
        delivery: ``lossless`` waits for processors that are slow, though not for those that stand
            still; ``live`` never waits.
    """

    def __init__(
        self, provider: trace.TracerProvider, run: dict[str, Any], *, delivery: str = "lossless"
    ) -> None:
        home = importlib.import_module("fillpath.exporters.provider_way")
        self._taker: BlockTaker = home.ProviderWay(provider, run, lossless=delivery == "lossless")
        self._blocks = MemorySpool(run)
        self._handing = threading.Lock()
        self._handed_by = 0
        self._handed_at = time.monotonic()
        self._has_failed = False
        limit = MOST_BYTES if delivery == "live" else DEFAULT_LIMIT  # which waits long before
        super().__init__(self._blocks, delivery=delivery, limit=limit)

    @property
    def bytes_written(self) -> int:
        """There is no spool."""
        return 0

    @property
    def waiting(self) -> int:
        """Records that have not been handed on yet."""
        return super().waiting + self._blocks.waiting

    def lag(self) -> int:
        """Bytes that have not been handed on yet."""
        return self._blocks.written_behind(1, 0)

    def addressed(self, sequence: int) -> None:
        """Note that somebody asked for an event's ids: it is the parent of a span of the host's."""
        self._taker.want(sequence)

    def flush(self) -> None:
        """Pack what was taken so far, and hand it on if that is due."""
        super().flush()
        is_lossless = self._delivery == "lossless"
        if not is_lossless and threading.current_thread() is not self._thread:
            return  # a live host makes no spans
        waiting = self._blocks.waiting
        if waiting >= HAND_ON_EVENTS or time.monotonic() - self._handed_at >= HAND_ON_SECONDS:
            self._hand_on(may_wait=is_lossless and waiting >= MOST_WAITING)

    def _has_work(self) -> bool:
        return bool(self._blocks.waiting) or super()._has_work()

    def _hand_on(self, *, may_wait: bool) -> None:
        """Hand on what waits, unless another thread is doing that; no other lock is held."""
        me = threading.get_ident()
        if self._handed_by == me or not self._handing.acquire(blocking=may_wait):
            return  # a processor of the host's, or a signal handler, publishes
        self._handed_by = me
        try:
            with self._lock:
                blocks = self._blocks.take()
            self._handed_at = time.monotonic()
            if blocks:
                self._taker.take(blocks)
        except Exception as error:  # noqa: BLE001 - the host must not fail of its observer
            self._fail(error)
        finally:
            self._handed_by = 0
            self._handing.release()

    def force_flush(self, timeout: float) -> bool:
        """Hand on all that was recorded before this call; tells whether the processors took it.

        Args:
            timeout: Seconds after which the answer is False. Some of the SDK's processors go on
                trying; a thread is left to them.
        """
        done: list[bool] = []

        def flush() -> None:
            Recorder.flush(self)
            self._hand_on(may_wait=True)
            done.append(self._taker.flush(timeout))

        thread = threading.Thread(target=flush, name="fillpath-flush", daemon=True)
        thread.start()
        thread.join(timeout)
        return done == [True]

    def stop(self, end: dict[str, Any]) -> None:
        """Hand on everything, with what has not ended, and end the run."""
        super().stop(end)
        self._hand_on(may_wait=True)
        try:
            self._taker.end()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def abandon(self) -> None:
        """Take nothing more: in a forked child, the run is its parent's."""
        self._handing = threading.Lock()
        super().abandon()

    def _fail(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning(
                "fillpath could not hand spans to OpenTelemetry: %r", error, exc_info=error
            )


def exports_spans(provider: Any) -> bool:
    """Tell whether a provider is one of the SDK that gives spans to somebody."""
    active = getattr(provider, "_active_span_processor", None)
    return active is not None and bool(getattr(active, "_span_processors", (active,)))
