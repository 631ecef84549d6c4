"""The recorder: takes event records from the trading thread and appends them to the spool.

The caller's thread only appends to a list. The list goes to the spool when it is full, when the
recorder's own thread finds it older than a few milliseconds, and at the end. Nothing here raises
into the host: what cannot be written is counted as dropped, with the reason.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from typing import Any, Final

from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import COLUMNS, Count, EventRecord, Flag, Site
from fillpath.instrumentation.spool_writer import SpoolWriter

_log = logging.getLogger(__name__)

FLUSH_EVENTS: Final = 512
"""Events after which the list is appended to the spool."""
FLUSH_SECONDS: Final = 0.01
"""Age after which the list is appended to the spool even when it is not full."""
DROPPED_ADAPTER_ERROR: Final = "adapter_error"
"""The engine's message could not be read."""
DROPPED_SPOOL_ERROR: Final = "spool_error"
"""The spool could not be written, for example because the disk is full."""


class Recorder:
    """Collects records and appends them to a spool.

    The lock may be taken again by the thread that has it: a signal handler or a finaliser of the
    host can publish at any point of the code below.

    Args:
        spool: Where the records go. The recorder owns it from here on.
    """

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool
        self._lock = threading.RLock()
        self._flushing = False
        self._events: list[tuple[Any, ...]] = []
        self._side: list[bytes] = []
        self._sites: list[Site] = []
        self._site_numbers: dict[tuple[str | None, ...], int] = {}
        self._published: dict[tuple[str, str], int] = defaultdict(int)
        self._dropped: dict[tuple[str, str], dict[str, int]] = {}
        self._counted_sites: dict[int, tuple[str, str]] = {}  # of events, not of handler runs
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._complained = False
        self._thread = threading.Thread(target=self._flush_often, name="fillpath", daemon=True)
        self._thread.start()

    def site(
        self,
        operation: str,
        event_type: str,
        portfolio: str,
        strategy: str | None,
        symbol: str | None,
        venue: str | None,
        handler: str | None,
    ) -> int:
        """Number of the site with these parts; the same parts give the same number."""
        key = (operation, event_type, portfolio, strategy, symbol, venue, handler)
        number = self._site_numbers.get(key)
        if number is not None:
            return number
        with self._lock:
            number = self._site_numbers.get(key)
            if number is None:
                number = len(self._site_numbers) + 1
                self._site_numbers[key] = number
                if operation != PROCESS:
                    self._counted_sites[number] = (portfolio, event_type)
                self._sites.append(
                    Site(number, operation, event_type, portfolio, strategy, symbol, venue, handler)
                )
        return number

    def published(self, portfolio: str, event_type: str) -> None:
        """Count one published event, before anything can happen to it."""
        with self._lock:
            self._published[portfolio, event_type] += 1

    def dropped(self, portfolio: str, event_type: str, reason: str) -> None:
        """Count one event that will not be in the spool."""
        with self._lock:
            self._count_drop(portfolio, event_type, reason)

    def _count_drop(self, portfolio: str, event_type: str, reason: str) -> None:
        reasons = self._dropped.setdefault((portfolio, event_type), {})
        reasons[reason] = reasons.get(reason, 0) + 1

    def record(self, event: tuple[Any, ...], side: bytes | None = None) -> None:
        """Take one event record, in the order of `spool.EventRecord`, and its side record."""
        with self._lock:
            if self._stopped.is_set():
                return
            if side is not None:
                self._side.append(side)
            self._events.append(event)
            if len(self._events) >= FLUSH_EVENTS:
                self._flush()

    def flush(self) -> None:
        """Append everything taken so far to the spool."""
        with self._lock:
            self._flush()
        self._complain()

    def stop(self, end: dict[str, Any]) -> None:
        """Flush, write the totals and the END block, and close the spool. Once only."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._stopped.set()
            self._flush()
            try:
                self._spool.append([], [], [], self._counts())
            except Exception as error:  # noqa: BLE001 - the host must not fail of its observer
                self._failure = error
            try:
                self._spool.finish(end)  # even if the totals found no room: END may
            except Exception as error:  # noqa: BLE001
                self._failure = error
        self._complain()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """Take nothing more and leave the spool alone: in a forked child, it is the parent's.

        A lock that another thread of the parent held stays locked here for ever, so none is asked.
        """
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._events, self._side, self._sites = [], [], []
        self._spool.close()

    def _flush_often(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            if self._events or self._sites:
                self.flush()
            self._complain()

    def _flush(self) -> None:
        """Append to the spool. The caller holds the lock."""
        if self._flushing or not (self._events or self._side or self._sites):
            return
        events, self._events = self._events, []
        side, self._side = self._side, []
        sites, self._sites = self._sites, []
        self._flushing = True
        before = self._spool.mark()
        try:
            self._spool.append(events, side, sites, self._counts())
        except BaseException as error:
            # Later records name these sites: they go with the next block that can be written.
            self._sites = sites + self._sites
            if isinstance(error, Exception):  # the host must not fail of its observer
                self._count_lost(events)
                self._failure = error
                return
            # Control-C goes on to the host, and costs nothing.
            if not self._spool.has_grown_since(before):
                self._events, self._side = events + self._events, side + self._side
            raise
        finally:
            self._flushing = False

    def _count_lost(self, events: list[tuple[Any, ...]]) -> None:
        for event in events:
            record = EventRecord(*event[: len(COLUMNS)])
            counted = self._counted_sites.get(record.site)
            if counted is not None and not record.flags & Flag.FINISH:
                self._count_drop(*counted, DROPPED_SPOOL_ERROR)

    def _counts(self) -> list[Count]:
        keys = sorted(set(self._published) | set(self._dropped))
        return [
            Count(
                portfolio,
                kind,
                self._published.get((portfolio, kind), 0),
                dict(self._dropped.get((portfolio, kind), {})),
            )
            for portfolio, kind in keys
        ]

    def _complain(self) -> None:
        """Say once what went wrong. A host's log may take locks, so none is held here."""
        if self._failure is not None and not self._complained:
            self._complained = True
            _log.warning(
                "fillpath cannot write its spool in %s (%s); the host goes on, "
                "events that are not recorded are counted as dropped",
                self._spool.folder,
                self._failure,
            )


class NoRecorder(Recorder):
    """Stands where a recorder is needed while recording is switched off; takes nothing."""

    def __init__(self) -> None:
        """There is no spool to write to."""

    def site(self, *_: str | None) -> int:
        """Give every site the same number."""
        return 0

    def published(self, portfolio: str, event_type: str) -> None:
        """Count nothing."""

    def dropped(self, portfolio: str, event_type: str, reason: str) -> None:
        """Count nothing."""

    def record(self, event: tuple[Any, ...], side: bytes | None = None) -> None:
        """Take nothing."""

    def flush(self) -> None:
        """There is nothing to append."""

    def stop(self, end: dict[str, Any]) -> None:
        """Nothing has begun."""

    def abandon(self) -> None:
        """Nothing is held."""
