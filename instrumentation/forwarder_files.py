"""How a host knows what the process that sends its run by OTLP has done.

In the folder of a run's spool lies `otlp.json`, which that process replaces as a whole.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from fillpath.instrumentation.writer_files import read_content, words_of, write_content

FORWARDING_NAME: Final = "otlp.json"
LOG_NAME: Final = ".forwarder.log"
"""What forwarders say; in the folder of all spools."""
ForwardingState = Literal["following", "retrying", "refused", "ended", "gave_up", "left"]

AT_WORK: Final = frozenset({"following", "retrying", "refused"})
"""States of a process that goes on."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How far a run is on its way to an OTLP destination.

    Attributes:
        pid: The process that sends it.
        mark: Tells the process from a later one of the same number.
        destination: URL it is sent to, without anything secret; empty when that is not known.
        file: Number of a file of the spool.
        offset: Place in it, bytes: of everything before, what was to be sent has been answered for.
        selected: Spans that were to be sent, so far.
        acknowledged: Spans that the destination has taken.
        rejected: Spans that it took note of and did not want, as it said itself.
        refused: Spans that are left to a replay, since their request was refused.
        updated_at: When this was written, ns since the epoch.
        lag_bytes: Bytes of the spool that were not read.
        state: `following` the spool, `retrying` (the destination cannot be reached), `refused` (it
            does not accept what it is sent; tried again now and then), `ended` (all of the run was
            sent), `gave_up` (the run has ended and the rest waits for a replay) or `left` (the
            process was told to leave).
        error: Why something is not there.
        next_command: What would mend that.
        selection: `sampled` or `all`: what is to be sent.
    """

    pid: int
    mark: int = 0
    destination: str = ""
    file: int = 1
    offset: int = 0
    selected: int = 0
    acknowledged: int = 0
    rejected: int = 0
    refused: int = 0
    updated_at: int = 0
    lag_bytes: int = 0
    state: ForwardingState = "following"
    error: str | None = None
    next_command: str | None = None
    selection: str = "sampled"

    def become(self, state: ForwardingState, error: Exception | None = None) -> Self:
        """Give the same in another state."""
        text, next_command = words_of(error)
        return dataclasses.replace(self, state=state, error=text, next_command=next_command)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of what was read so far was turned down."""
        return not self.rejected and not self.refused

    @staticmethod
    def read(folder: Path) -> Forwarding | None:
        """Read that of a run's spool folder; None when there is none that makes sense."""
        return read_content(Forwarding, folder / FORWARDING_NAME)

    def write(self, folder: Path) -> None:
        """Put it into a run's spool folder, dated now; a disk that is full does not matter."""
        write_content(
            folder / FORWARDING_NAME, dataclasses.replace(self, updated_at=time.time_ns())
        )
