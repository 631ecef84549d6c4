"""The recorder: takes event records from the trading thread and appends them to the spool.

The caller's thread only appends to a list. The list goes to the spool when it is full, when the
recorder's own thread finds it older than a few milliseconds, and at the end. Nothing here raises
into the host: what cannot be written is counted as dropped, with the reason.
"""

from __future__ import annotations

import logging
import operator
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from fillpath.instrumentation.emitter import FLUSH_EVENTS
from fillpath.instrumentation.event_columns import (
    Row,
    StrangeRows,
    is_inert,
    mended,
    pack_rows,
)
from fillpath.instrumentation.payload import pack
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import (
    COLUMNS,
    FLAGS_SHIFT,
    Count,
    EventRecord,
    Field,
    Flag,
    Site,
)
from fillpath.instrumentation.spool_limit import SpoolLimit
from fillpath.instrumentation.spool_writer import PackedEvents, SpoolWriter
from fillpath.instrumentation.tally import Tally

_log = logging.getLogger(__name__)
_OWN_CODE: Final = frozenset({"fillpath", "msgpack", "pathlib"})
_place_of: Final = operator.itemgetter(COLUMNS.index("place"))

Delivery = Literal["lossless", "live"]
FLUSH_SECONDS: Final = 0.01
"""Age after which the list is appended to the spool even when it is not full."""
MAX_BLOCK_EVENTS: Final = 4096
"""Most events in one block, when many have piled up."""
MAX_PILE: Final = 1 << 16
"""Events that may pile up in live delivery while another thread writes, before the host waits."""
DEFAULT_LIMIT: Final = 2 << 30
"""Bytes of a spool that may wait to be taken into the lake."""
_LOOK_SECONDS: Final = 0.002
READING_SECONDS: Final = 5.0
"""How long objects of the host may take to be read before their names must do."""
COUNTS_SECONDS: Final = 1.0
"""How often the totals are written while events are being dropped."""
DROPPED_ADAPTER_ERROR: Final = "adapter_error"
"""The engine's message could not be read."""
DROPPED_SPOOL_ERROR: Final = "spool_error"
"""The spool could not be written, for example because the disk is full."""
DROPPED_SPOOL_FULL: Final = "spool_full"
"""The spool was too far ahead of the process that takes it into the lake."""


class Recorder:
    """Collects records and appends them to a spool.

    The lock may be taken again by the thread that has it: a signal handler or a finaliser of the
    host can publish at any point of the code below.

    Args:
        spool: Where the records go. The recorder owns it from here on.
        delivery: ``lossless`` waits when the spool is too far ahead of the process that takes it
            into the lake; ``live`` never waits for that, and counts what it drops.
        limit: Bytes that the spool may be ahead.
        expects_writer: Whether a process that takes the spool has been started.
        sync_seconds: How often the spool is made durable; never if None.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        *,
        delivery: str = "lossless",
        limit: int = DEFAULT_LIMIT,
        expects_writer: bool = False,
        sync_seconds: float | None = None,
    ) -> None:
        self._spool = spool
        self._delivery = delivery
        self._limit = SpoolLimit(spool, limit, is_expected=expects_writer)
        self._sync_seconds = sync_seconds
        self._lock = threading.RLock()
        self._flushing = False
        self._events: list[Row] = []  # always the same list: others append to it
        self._writing: tuple[Row, int, tuple[int, int]] | None = None
        self._mended: dict[int, Row] = {}
        self._strange_since: float | None = None
        self._passed_on = 0
        self._lost = 0
        self._sites: list[Site] = []
        self._site_numbers: dict[tuple[Any, ...], int] = {}
        self._all_sites: dict[int, Site] = {}
        self._slots = 0
        self._note: dict[str, Any] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._counts_written_at = 0.0
        self._stopped = threading.Event()
        self._failure: str | None = None
        self._nobody_takes = False
        self._complaints: set[str] = set()
        self._places: Counter[int] | None = None
        self.append: Callable[[Row], None] = self._events.append
        self._thread = threading.Thread(target=self._flush_often, name="fillpath", daemon=True)
        self._thread.start()

    # -- Taking -----------------------------------------------------------------------------------

    def site(
        self,
        operation: str,
        event_type: str,
        portfolio: str,
        strategy: str | None,
        symbol: str | None,
        venue: str | None,
        handler: str | None,
        *,
        fields: Sequence[Field] = (),
        texts: Sequence[tuple[str, Any]] = (),
        counted: bool = True,
    ) -> int:
        """Number of the site with these parts; the same parts give the same number."""
        parts = (operation, event_type, portfolio, strategy, symbol, venue, handler)
        key = (*parts, tuple(fields), pack(texts) if texts else b"", counted)
        number = self._site_numbers.get(key)
        if number is not None:
            return number
        with self._lock:
            number = self._site_numbers.get(key)
            if number is None:
                number = len(self._site_numbers) + 1
                site = Site(number, *parts, tuple(fields), tuple(texts), counted)
                self._all_sites[number] = site
                self._slots = max(self._slots, len(fields))
                self._sites.append(site)
                self._site_numbers[key] = number
        return number

    def tally(self, portfolio: str, event_type: str) -> Tally:
        """Totals of a portfolio and event type."""
        found = self._tallies.get((portfolio, event_type))
        if found is None:
            with self._lock:
                found = self._tallies.setdefault((portfolio, event_type), Tally())
        return found

    def published(self, portfolio: str, event_type: str) -> None:
        """Count one published event, before anything can happen to it."""
        with self._lock:
            self.tally(portfolio, event_type).published += 1

    def dropped(self, portfolio: str, event_type: str, reason: str) -> None:
        """Count one event that will not be in the spool."""
        with self._lock:
            dropped = self.tally(portfolio, event_type).dropped
            dropped[reason] = dropped.get(reason, 0) + 1

    def note(self, facts: dict[str, Any]) -> None:
        """Write down what has become known of the run, before anything can happen to it."""
        with self._lock:
            self._note.update(facts)

    def addressed(self, sequence: int) -> None:
        """Take note that somebody asked for the ids of an event."""

    # -- Telling ----------------------------------------------------------------------------------

    def count_sites(self) -> None:
        """Count from now on the records of each site, which takes time as blocks are written."""
        with self._lock:
            self._places = Counter() if self._places is None else self._places

    def totals(self) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
        """Events that were published, by portfolio and type; and dropped, by the reason as well.

        Events of emitters count as soon as they are in the spool, those since `count_sites`.
        """
        published: Counter[tuple[str, ...]] = Counter()
        dropped: Counter[tuple[str, ...]] = Counter()
        for key, tally in list(self._tallies.items()):
            if number := tally.published + tally.opened:
                published[key] += number
            for reason, number in list(tally.dropped.items()):
                dropped[*key, reason] += number
        for place, number in list((self._places or {}).items()):
            site = self._all_sites[place & 0xFFFFFFFF]
            is_event = site.operation != PROCESS and not place >> FLAGS_SHIFT & Flag.FINISH
            if is_event and not site.counted:
                published[site.portfolio, site.event_type] += number
        return published, dropped

    @property
    def bytes_written(self) -> int:
        """Bytes of the spool."""
        return self._spool.written_behind(1, 0)

    @property
    def waiting(self) -> int:
        """Records that are not in the spool yet."""
        return len(self._events)

    def lag(self) -> int:
        """Bytes of the spool that no writer has taken; reads a small file."""
        return self._limit.lag()

    def record(self, event: Row, side: bytes | None = None) -> None:
        """Take a flat event record, whose numbers are floats, and its side record.

        It is written no earlier than with the next call of `flush` or `flush_if_full`.
        """
        if self._stopped.is_set():
            return
        self._events.append((*event, side))

    # -- Writing ----------------------------------------------------------------------------------

    def flush_if_full(self) -> None:
        """Append what was taken to the spool if it is much."""
        if len(self._events) >= FLUSH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Append what was taken so far to the spool; if very much has piled up, a part of it."""
        while self._acquire():
            try:
                strange = self._flush()
            finally:
                self._lock.release()
            if not self._mend(strange):
                break
        self._complain()

    def _acquire(self) -> bool:
        """Take the lock; a live host does not wait for another thread that is writing."""
        may_wait = self._delivery == "lossless" or len(self._events) > MAX_PILE
        return self._lock.acquire(blocking=may_wait)

    def written(self, deadline: float) -> tuple[int, int] | None:
        """Wait until what was recorded before this call is in the spool.

        The recorder's own thread writes it: this one may be in the middle of the host's work.

        Args:
            deadline: Until when to wait, by the monotonic clock.

        Returns:
            File and place where the spool ends then; None when it did not come to that in time, or
            something was dropped meanwhile.
        """
        target: int | None = None
        lost = self._lost
        while True:
            if self._lock.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
                try:
                    if target is None:
                        target = self._passed_on + len(self._events)
                    if self._passed_on >= target:
                        return self._spool.mark() if self._lost == lost else None
                finally:
                    self._lock.release()
            if time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK_SECONDS)

    def stop(self, end: dict[str, Any]) -> None:
        """Flush, write the totals and the END block, and close the spool. Once only."""
        # Threads of the host that publish meanwhile must not keep it going for ever.
        rounds = 10 + 2 * len(self._events) // MAX_BLOCK_EVENTS
        while not self._stopped.is_set():
            with self._lock:
                if self._stopped.is_set():
                    break
                strange = self._flush()
                if not strange:
                    rounds -= 1
                    if not self._events or not rounds:
                        self._stopped.set()
                        self._finish(end)
            if strange and not self._mend(strange):
                time.sleep(FLUSH_SECONDS)
        self._complain()
        if self._thread is not threading.current_thread():
            self._thread.join(READING_SECONDS)

    def _finish(self, end: dict[str, Any]) -> None:
        self._write_counts()
        try:
            self._spool.finish(end)  # even if the totals found no room: END may
        except Exception as error:  # noqa: BLE001
            self._failure = str(error)

    def abandon(self) -> None:
        """Take nothing more and leave the spool alone: in a forked child, it is the parent's.

        A lock that another thread of the parent held stays locked here for ever, so none is asked.
        """
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._events.clear()
        self._spool.close()

    def _flush_often(self) -> None:
        synced_at = time.monotonic()
        while not self._stopped.wait(FLUSH_SECONDS):
            if self._has_work():
                self.flush()
            now = time.monotonic()
            if self._sync_seconds is not None and now - synced_at >= self._sync_seconds:
                synced_at = now
                self._sync()
            self._complain()

    def _has_work(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._events or self._sites or self._note)

    def _sync(self) -> None:
        """Make the spool durable; without the lock, because a disk takes its time."""
        with self._lock:
            try:
                descriptors = self._spool.unsynced()
            except OSError as error:
                self._failure, descriptors = str(error), []
        for descriptor in descriptors:
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                self._failure = str(error)
            finally:
                os.close(descriptor)

    def _mend(self, rows: list[Row]) -> bool:
        """Prepare rows that hold no plain numbers; whether it is worth while to try them again.

        Objects of the host are read by the recorder's own thread, without any lock: they may ask
        for a lock of the host's that the thread which happens to flush is holding. Those that take
        too long are not read.
        """
        may_read = threading.current_thread() is self._thread
        if not rows:
            self._strange_since = None
            return False
        now = time.monotonic()
        since = self._strange_since = self._strange_since or now
        has_waited = now - since >= READING_SECONDS
        mending = False
        for row in rows:
            if may_read or has_waited or is_inert(row):
                site = self._all_sites[row[len(COLUMNS) - 1] & 0xFFFFFFFF]
                by_name = has_waited and not may_read
                self._mended[row[0]] = mended(row, site.fields, by_name=by_name)
                mending = True
        return mending

    def _flush(self) -> list[Row]:
        """Append to the spool, or give the rows to `mend` first. The caller holds the lock."""
        if self._stopped.is_set():
            self._events.clear()
            return []
        if self._flushing:
            return []
        self._flushing = True
        try:
            self._forget_written()
            return self._append()
        finally:
            self._flushing = False

    def _append(self) -> list[Row]:
        # The rows first: a site is there before the first row that names it.
        rows = self._events[:MAX_BLOCK_EVENTS]
        original = rows[:1]
        if self._mended:
            rows = [self._mended.get(row[0], row) for row in rows]
        try:
            payload, sides = pack_rows(rows, self._slots) if rows else (b"", [])
        except StrangeRows as found:
            return found.rows
        if not self._has_room():
            self._drop(rows, DROPPED_SPOOL_FULL)
            if time.monotonic() - self._counts_written_at >= COUNTS_SECONDS:
                self._write_counts()
            return []
        sites, self._sites = self._sites, []
        note, self._note = self._note, {}
        if not (rows or sites or note):
            return []
        mark = self._spool.mark()
        if rows:
            self._writing = original[0], len(rows), mark
        try:
            self._spool.append_packed(
                PackedEvents(len(rows), self._slots, payload),
                sides,
                sites,
                self._counts(),
                note,
            )
        except BaseException as error:
            # Later records name these sites: they go with the next block that can be written.
            self._sites = sites + self._sites
            self._note = {**note, **self._note}
            if not isinstance(error, Exception) or _is_of_signal_handler(error):
                raise  # Control-C goes on to the host, and costs nothing: see `_forget_written`
            self._failure = str(error)
            self._drop(rows, DROPPED_SPOOL_ERROR)
            return []
        self._forget_written()
        return []

    def _forget_written(self) -> None:
        """Take from the list what the spool has; also after a Control-C at any point before."""
        if self._writing is not None:
            first, number, mark = self._writing
            if self._events and self._events[0] is first and self._spool.has_grown_since(mark):
                if self._places is not None:
                    self._places.update(map(_place_of, self._events[:number]))
                self._forget(number)
            self._writing = None
        if not self._events:
            self._mended.clear()

    def _forget(self, number: int) -> None:
        if self._mended:
            for row in self._events[:number]:
                self._mended.pop(row[0], None)
        del self._events[:number]
        self._passed_on += number

    def _has_room(self) -> bool:
        """Whether the rows may be written; waits for that if nothing may be lost."""
        if not self._limit.is_exceeded():
            return True
        if self._delivery == "live":
            return False
        if not self._limit.wait():
            self._nobody_takes = True
        return True

    def _drop(self, rows: list[Row], reason: str) -> None:
        self._writing = None
        self._forget(len(rows))
        self._lost += len(rows)
        for row in rows:
            record = EventRecord(*row[: len(COLUMNS)])
            site = self._all_sites.get(record.site)
            if site is None or site.operation == PROCESS or record.flags & Flag.FINISH:
                continue
            self.dropped(site.portfolio, site.event_type, reason)
            if not site.counted:
                self.published(site.portfolio, site.event_type)

    def _write_counts(self) -> None:
        self._counts_written_at = time.monotonic()
        try:
            self._spool.append_packed(PackedEvents(0, 0, b""), [], [], self._counts())
        except Exception as error:  # noqa: BLE001 - the host must not fail of its observer
            self._failure = str(error)

    def _counts(self) -> list[Count]:
        return [
            Count(portfolio, kind, tally.published + tally.opened, dict(tally.dropped))
            for (portfolio, kind), tally in sorted(self._tallies.items())
            if tally.published or tally.opened or tally.dropped
        ]

    def _complain(self) -> None:
        """Say once what went wrong. A host's log may take locks, so none is held here."""
        if self._failure is not None and "failure" not in self._complaints:
            self._complaints.add("failure")
            _log.warning(
                "fillpath cannot write its spool in %s (%s); the host goes on, "
                "events that are not recorded are counted as dropped",
                self._spool.folder,
                self._failure,
            )
        if self._nobody_takes and "limit" not in self._complaints:
            self._complaints.add("limit")
            _log.warning(
                "nothing takes the spool in %s into the lake, so it grows beyond its limit; "
                "see: fillpath doctor",
                self._spool.folder,
            )


def _is_of_signal_handler(error: Exception) -> bool:
    """Whether a signal handler of the host's raised it, such as a time limit's.

    A handler runs in between, wherever the main thread is. So it is the host's code that the error
    comes from. What the system refuses has a number.
    """
    place = error.__traceback__
    if place is None or threading.current_thread() is not threading.main_thread():
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return False
    while place.tb_next is not None:
        place = place.tb_next
    module = str(place.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] not in _OWN_CODE


class NoRecorder(Recorder):
    """Stands where a recorder is needed while recording is switched off; takes nothing."""

    def __init__(self) -> None:
        """There is no spool to write to."""
        self.append = lambda _: None

    def site(self, *_: str | None, **__: Any) -> int:
        """Give every site the same number."""
        return 0

    def tally(self, portfolio: str, event_type: str) -> Tally:
        """Give totals that nobody reads."""
        return Tally()

    def published(self, portfolio: str, event_type: str) -> None:
        """Count nothing."""

    def dropped(self, portfolio: str, event_type: str, reason: str) -> None:
        """Count nothing."""

    def note(self, facts: dict[str, Any]) -> None:
        """There is nowhere to write it."""

    def record(self, event: Row, side: bytes | None = None) -> None:
        """Take nothing."""

    def flush_if_full(self) -> None:
        """There is nothing to append."""

    def flush(self) -> None:
        """There is nothing to append."""

    def stop(self, end: dict[str, Any]) -> None:
        """Nothing has begun."""

    def abandon(self) -> None:
        """Nothing is held."""
