"""Remembers which spans of a run a destination has answered for, whatever dies and whenever.

`<data>/otlp/<run>/<destination>.spans` is the set of these spans, `….json` what else is known, and
`….lock` is held while they are replaced. It is a set and no position in an order, so it stays right
when the lake is compacted, when requests are cut otherwise, and when several processes send.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from fillpath.exporters import host_process
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.span_set import SpanSet
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.forwarder_files import AT_WORK, ForwardingState
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.writer_files import read_content, write_content

SAVE_SECONDS: Final = 1.0
"""How often the set is written, at most: spans of this time may be sent twice after a crash."""
_SAVING_SHARE: Final = 20.0
"""Saving may take one part in so many of the time, though the set be large."""
_ENDING: Final = ".json"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is known of a run at one destination.

    Attributes:
        run_id: The run.
        started_at: When the run began, ns since the epoch; tells it from one of the same id.
        destination: URL without anything secret.
        selection: `sampled` or `all`: what was to be sent.
        selected: How many spans that is; as many as were found so far while `complete` is false.
        complete: Whether all of what was to be sent has been looked at.
        acknowledged: Spans that the destination took.
        rejected: Spans that it had, and did not want, as it said itself.
        state: As `Forwarding.state`.
        error: Why something is not there.
        next_command: What would mend that.
        pid: The process that sends, or sent last.
        mark: Tells it from a later one of the same number.
        updated_at: When this was written, ns since the epoch.
    """

    run_id: str
    started_at: int
    destination: str
    selection: str = "sampled"
    selected: int = 0
    complete: bool = False
    acknowledged: int = 0
    rejected: int = 0
    state: ForwardingState = "following"
    error: str | None = None
    next_command: str | None = None
    pid: int = 0
    mark: int = 0
    updated_at: int = 0

    @property
    def is_being_sent(self) -> bool:
        """Whether the process that sends is alive, on this machine."""
        at_work = self.state in AT_WORK and self.pid > 0
        return at_work and host_process.start_mark(self.pid) == self.mark

    @staticmethod
    def all_of(data: DataFolder, run_id: str | None = None) -> list[Delivered]:
        """Read what is known of all runs, or of one, at all destinations; the newest first."""
        found = (
            read_content(Delivered, path) for path in data.otlp.glob(f"{run_id or '*'}/*{_ENDING}")
        )
        known = [one for one in found if one is not None]
        return sorted(known, key=lambda one: (one.started_at, one.destination), reverse=True)


def replay_command(run_id: str, selection: str, *, missing: bool = True) -> str:
    """Give the command that sends what a destination lacks of a run, or all that was selected."""
    words = ["fillpath", "otlp", "replay", run_id]
    words += ["--missing"] * missing + ["--all"] * (selection == "all")
    return shlex.join(words)


def left_to_replay(
    error: FillpathError, run_id: str, selection: str, *, missing: bool = True
) -> FillpathError:
    """Give an error that ended a run's sending, with the command that sends the rest.

    What the error itself proposes comes first: without that the rest would be turned down, too.
    """
    command, mend = replay_command(run_id, selection, missing=missing), error.next_command
    if mend is None or mend.startswith("fillpath otlp replay "):
        return FillpathError(error.message, next_command=command)
    if mend.startswith("export "):
        return FillpathError(error.message, next_command=f"{mend} && {command}")
    message = f"{error.message} Try first: {mend}"
    return FillpathError(message, next_command=command)


def answered_spans(data: DataFolder, one: Delivered) -> SpanSet:
    """Read which spans of a run a destination has answered for."""
    for path in (data.otlp / one.run_id).glob("*.spans"):
        about = _about(one.run_id, one.started_at, one.destination)
        if (found := SpanSet.read(path, about)) is not None:
            return found
    return SpanSet()


def _about(run_id: str, started_at: int, destination: str) -> dict[str, str | int]:
    return {"run_id": run_id, "started_at": started_at, "destination": destination}


class Positions:
    """The spans of a run that a destination has answered for.

    Args:
        data: The data folder.
        run_id: The run.
        started_at: When it began, ns since the epoch; what is known of an earlier run of the same
            id is not used.
        settings: The destination.

    Attributes:
        about: What else is known.
        before: What was known when it was opened.
        spans: The spans that need not be sent.

    Raises:
        FillpathError: When the folder cannot be written.
    """

    def __init__(
        self, data: DataFolder, run_id: str, started_at: int, settings: OtlpSettings
    ) -> None:
        folder = data.otlp / run_id
        self._path = folder / f"{settings.fingerprint}.spans"
        self._about = _about(run_id, started_at, settings.destination)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self.spans = SpanSet.read(self._path, self._about) or SpanSet()
        known = read_content(Delivered, self._path.with_suffix(_ENDING))
        if known is None or known.started_at != started_at:
            known = Delivered(run_id, started_at, settings.destination)
        self.before = known
        mark = host_process.start_mark(os.getpid()) or 0
        self.about = dataclasses.replace(known, pid=os.getpid(), mark=mark)
        self._newly_rejected = 0
        self._seen = self._stamp()
        self._changed = False
        self._begins_anew = False
        self._forgotten = False
        self._saved_at = float("-inf")
        self._saving_seconds = 0.0

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def left_of(self, rows: pa.Table) -> pa.Table:
        """Give those of some rows whose spans are not answered for."""
        held = self.spans.holds(rows)
        return rows.filter(pa.array(~held)) if held.any() else rows

    def answered(self, rows: pa.Table, rejected: int) -> None:
        """Note that the destination has answered for rows, some of which it may have rejected."""
        if self._begins_anew:
            self._begins_anew = False
            self.spans = SpanSet()
            self._newly_rejected = 0
            self.about = dataclasses.replace(self.about, rejected=0)
            self._forgotten = True
        self.spans.add(rows)
        self._newly_rejected += rejected
        self._changed = True

    def begin_anew(self) -> None:
        """Forget what was answered for, with the first new answer: everything is sent again.

        A destination that does not answer still has what it had.
        """
        self._begins_anew = True

    def note_selected(
        self, selection: str, number: int, *, complete: bool, whole: int | None = None
    ) -> None:
        """Note how many spans were to be sent.

        Who was to have the whole run shall have it still after its sample was sent once more.

        Args:
            selection: `sampled` or `all`.
            number: How many spans that is.
            complete: Whether all of the run was looked at.
            whole: How many spans the run has, if that is known.
        """
        if selection == "all" or self.about.selection != "all":
            self.about = dataclasses.replace(
                self.about, selection=selection, selected=number, complete=complete
            )
        elif complete and whole is not None:
            self.about = dataclasses.replace(self.about, selected=whole, complete=True)

    @property
    def rejected(self) -> int:
        """How many spans the destination has rejected, ever."""
        return self.about.rejected + self._newly_rejected

    @property
    def acknowledged(self) -> int:
        """How many spans the destination has taken."""
        return max(len(self.spans) - self.rejected, 0)

    def save_if_due(self, state: ForwardingState, error: FillpathError | None) -> None:
        """Write it down if that is some time ago."""
        pause = max(SAVE_SECONDS, _SAVING_SHARE * self._saving_seconds)
        if time.monotonic() - self._saved_at >= pause:
            self.save(state, error)

    def save(self, state: ForwardingState, error: FillpathError | None = None) -> None:
        """Write it down, together with what others have written meanwhile.

        Raises:
            FillpathError: When that is not possible.
        """
        began = time.monotonic()
        try:
            with self._locked():
                self._save(state, error)
        except OSError as failure:
            raise _unwritable(self._path.parent, failure) from failure
        self._saved_at = time.monotonic()
        self._saving_seconds = self._saved_at - began

    def _save(self, state: ForwardingState, error: FillpathError | None) -> None:
        rejected = self.about.rejected
        known = read_content(Delivered, self._path.with_suffix(_ENDING))
        if known is not None and known.started_at != self.about.started_at:
            known = None
        if known is not None and known.selection == "all" != self.about.selection:
            self.about = dataclasses.replace(
                self.about, selection="all", selected=known.selected, complete=known.complete
            )
        if self._stamp() != self._seen and not self._forgotten:
            if (others := SpanSet.read(self._path, self._about)) is not None:
                self.spans.add_set(others)
            if known is not None:
                rejected = known.rejected
        if self._changed:
            self.spans.write(self._path, self._about)
            self._seen = self._stamp()
        self._changed = self._forgotten = False
        rejected, self._newly_rejected = rejected + self._newly_rejected, 0
        self.about = dataclasses.replace(
            self.about,
            rejected=rejected,
            acknowledged=max(len(self.spans) - rejected, 0),
            state=state,
            error=None if error is None else error.message,
            next_command=None if error is None else error.next_command,
            updated_at=time.time_ns(),
        )
        write_content(self._path.with_suffix(_ENDING), self.about)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _unwritable(folder: Path, error: OSError) -> FillpathError:
    return FillpathError(
        f"What was sent by OTLP cannot be written down in {folder}: {error.strerror or error}.",
        next_command="fillpath doctor",
    )
