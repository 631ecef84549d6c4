"""Sends one run to an OTLP destination while it is recorded, and after, until all of it is there.

It reads the run's spool as the writer does, beside it and after its own speed. While a request
waits to be answered it reads nothing, so what waits stays in the spool and not in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from fillpath.exporters import host_process
from fillpath.exporters.host_process import HostWatch
from fillpath.exporters.otlp_delivery import Delivery
from fillpath.exporters.otlp_metrics import OTLP_METRICS, Sent
from fillpath.exporters.otlp_outcome import OtlpRefused, OtlpUnavailable
from fillpath.exporters.otlp_positions import Positions
from fillpath.exporters.otlp_sender import OtlpSender
from fillpath.exporters.paced_reader import PacedReader
from fillpath.exporters.run_description import described
from fillpath.exporters.spool_rows import POLICY, SpoolRows
from fillpath.instrumentation.errors import FillpathError, SpoolError
from fillpath.instrumentation.event_sampler import ALL
from fillpath.instrumentation.forwarder_files import Forwarding, ForwardingState
from fillpath.instrumentation.semconv import Resource
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.writer_files import is_awaited

_log = logging.getLogger("fillpath.otlp")

Selection = Literal["sampled", "all"]
PATIENCE_SECONDS: Final = 60.0
"""How long sending goes on without success after the run has ended."""
LOCK_NAME: Final = "forwarder.lock"
_DELAY_SECONDS: Final = 0.5
"""How long rows wait for more to come, so that a live run does not make a request of each."""
_ENOUGH_ROWS: Final = 16_384
_SHORT_PAUSE: Final = 0.02
_LONG_PAUSE: Final = 0.1
_PUBLISH_SECONDS: Final = 0.1
_REFRESH_SECONDS: Final = 2.0


class _Over(Exception):
    """The process leaves before all is sent."""

    def __init__(self, state: ForwardingState, error: FillpathError | None = None) -> None:
        super().__init__(state)
        self.state = state
        self.error = error


class OtlpForwarder:
    """Follows the spool of one run and sends what is selected of it.

    What it sends are the rows that the lake has of the run, or shall have: `all` is no more than
    the lake holds, and `sampled` chooses from that by the policy that the run was recorded with.

    Args:
        data: The data folder.
        run_id: The run.
        selection: What to send.
        sender: The destination.
        patience: Seconds without success, after the run has ended, until the rest is left to a
            replay.
        leaving: Tells that the process should leave at once.

    Raises:
        SpoolError: When the run has no spool.
        FillpathError: When nothing can be written to the data folder.
    """

    def __init__(
        self,
        data: DataFolder,
        run_id: str,
        selection: Selection,
        sender: OtlpSender,
        *,
        patience: float = PATIENCE_SECONDS,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        self._run_id = run_id
        self._folder = data.spool / run_id
        self._selection: Selection = selection
        self._patience = patience
        self._leaving = leaving
        self._reader = PacedReader(self._folder, in_shares=True)
        run = described(self._folder) or {}
        self._host = HostWatch(self._folder, run)
        lake_is_sampled = run.get("lake_sampling") == POLICY
        self._chooses = selection == "sampled" and not lake_is_sampled
        self._source = SpoolRows(
            run_id, self._folder, sampled=selection == "sampled" or lake_is_sampled
        )
        self._positions = Positions(data, run_id, run.get("started_at") or 0, sender.settings)
        mode = run.get("mode")
        self._delivery = Delivery(
            sender,
            self._positions,
            {run_id: {Resource.RUN_MODE: mode}} if mode else {},
            self._wait,
        )
        mark = host_process.start_mark(os.getpid()) or 0
        self._forwarding = Forwarding(os.getpid(), mark, sender.settings.destination)
        self._published_at = float("-inf")
        self._selected = 0
        self._place = (1, 0)
        self._oldest_row = time.monotonic()
        self._over_since: float | None = None

    def forward(self) -> ForwardingState:
        """Send the run; comes back when all is sent, or when the rest has to wait for a replay."""
        state: ForwardingState = "ended"
        error: FillpathError | None = None
        try:
            self._follow()
        except _Over as over:
            state, error = over.state, over.error
        except FileNotFoundError:
            state = "gave_up"
            error = FillpathError("The spool was deleted before all of it was sent.")
        except FillpathError as failure:
            state, error = "gave_up", failure
        if state == "ended":
            self._positions.note_selected(self._selection, self._selected, complete=True)
            if self._delivery.refused:
                error = FillpathError(
                    f"{self._delivery.refused} spans were refused: {self._delivery.trouble}"
                )
            elif self._delivery.trouble is not None:
                error = FillpathError(self._delivery.trouble)
        if error is not None and error.next_command is None and state != "left":
            missing = f"fillpath otlp replay {self._run_id}"
            # Spans that were rejected have been answered for: they are missing no more.
            if state != "ended" or self._delivery.refused:
                missing += " --missing"
            if self._selection == "all":
                missing += " --all"
            error = FillpathError(error.message, next_command=missing)
        if state == "gave_up":
            _log.warning("Run '%s' is not sent as a whole: %s", self._run_id, error)
        self._save(state, error)
        self._publish(state, error, at_once=True)
        return state

    def _follow(self) -> None:
        pause = _SHORT_PAUSE
        while True:
            gone = self._host.is_gone()  # asked first: what it wrote before is read then
            moved, damaged = self._read()
            over = self._source.ended or damaged or (gone and not moved)
            if over and not self._source.ended:
                self._source.rows.add_unfinished(new=True)
            if over or self._is_due():
                self._send()
            elif not len(self._source.rows):
                self._place = self._reader.file, self._reader.offset
            if over:
                self._delivery.deliver_what_was_set_aside()
                return
            if self._leaving():
                raise _Over("left")
            self._publish("following")
            self._save_if_due("following", None)
            pause = _SHORT_PAUSE if moved else min(1.5 * pause, _LONG_PAUSE)
            if not moved:
                time.sleep(pause)

    def _read(self) -> tuple[bool, bool]:
        """Take a share of the spool; tells whether there was any, and whether it is damaged."""
        before = self._reader.block
        try:
            for block in self._reader.blocks():
                if not len(self._source.rows):
                    self._oldest_row = time.monotonic()
                self._source.feed(block)
        except SpoolError:
            if not self._source.run:
                raise  # of another version, which a later fillpath can read
            return self._reader.block > before, True
        return self._reader.block > before, False

    def _is_due(self) -> bool:
        rows = len(self._source.rows)
        if not rows:
            return False
        age = time.monotonic() - self._oldest_row
        return rows >= _ENOUGH_ROWS or age >= _DELAY_SECONDS

    def _send(self) -> None:
        place = self._reader.file, self._reader.offset
        rows = self._source.rows.take()
        self._selected += len(rows)
        self._positions.note_selected(self._selection, self._selected, complete=False)
        if self._chooses:
            rows = as_the_lake_has_them(rows)
        for part in _parts(self._positions.left_of(rows)):
            self._delivery.deliver(part)
            self._publish("following")
            self._save_if_due("following", None)
        self._place = place

    def _wait(self, error: OtlpUnavailable | OtlpRefused, seconds: float) -> None:
        refused = isinstance(error, OtlpRefused)
        state: ForwardingState = "refused" if refused else "retrying"
        self._publish(state, error, at_once=True)
        self._save_if_due(state, error)
        until = time.monotonic() + seconds
        while True:
            if self._leaving():
                raise _Over("left", error)
            now = time.monotonic()
            if self._run_is_over():
                waited = now - max(self._over_since or now, self._delivery.answered_at)
                if refused or waited >= self._patience:
                    raise _Over("gave_up", error)
            if now >= until:
                return
            time.sleep(min(_LONG_PAUSE, until - now))

    def _run_is_over(self) -> bool:
        if self._over_since is None and (
            self._source.ended or is_awaited(self._folder) or self._host.is_gone()
        ):
            self._over_since = time.monotonic()
        return self._over_since is not None

    def _save_if_due(self, state: ForwardingState, error: FillpathError | None) -> None:
        # What cannot be written down now is sent once more after a crash, and that is all.
        with contextlib.suppress(FillpathError):
            self._positions.save_if_due(state, error)

    def _save(self, state: ForwardingState, error: FillpathError | None) -> None:
        try:
            self._positions.save(state, error)
        except FillpathError as failure:
            _log.warning("Run '%s': %s", self._run_id, failure)

    def _publish(
        self, state: ForwardingState, error: Exception | None = None, *, at_once: bool = False
    ) -> None:
        """Tell the host how far the run is, now or when it is time to."""
        now, before = time.monotonic(), self._forwarding
        moved = self._place != (before.file, before.offset) or state != before.state
        if not at_once and now - self._published_at < (
            _PUBLISH_SECONDS if moved else _REFRESH_SECONDS
        ):
            return
        made = Forwarding(
            before.pid,
            before.mark,
            before.destination,
            *self._place,
            self._selected,
            self._positions.acknowledged,
            self._positions.rejected,
            self._delivery.refused,
            lag_bytes=self._reader.lag_bytes(),
        )
        self._forwarding = made.become(state, error)
        self._forwarding.write(self._folder)
        turned_down = made.rejected + made.refused
        OTLP_METRICS.reached(
            self._run_id, made.destination, Sent(made.acknowledged, turned_down, made.lag_bytes)
        )
        self._published_at = now


def as_the_lake_has_them(rows: pa.Table) -> pa.Table:
    """Give rows that the policy chose as they are in a lake that keeps everything.

    There, no policy has decided on them: a span has the same attributes wherever it is seen.
    """
    for name, value in (("sampling_reason", ALL), ("sampling_probability", 1.0)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pa.repeat(pa.scalar(value), len(rows)))
    return rows


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, len(rows), _ENOUGH_ROWS):
        yield rows.slice(start, _ENOUGH_ROWS)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Be the one forwarder of a run; tells whether that could be had."""
    with (folder / LOCK_NAME).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
