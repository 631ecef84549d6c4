"""Files by which the processes that record and the one that writes the lake know of each other.

`<data>/spool/.writer.lock` is held by the writer process of the data folder as long as it lives,
and `<data>/spool/.writer.json` is its heartbeat. (A run's name cannot begin with a dot.) In the
folder of each spool lie `progress.json`, which says how far the run is, and `awaited`, which the
host leaves when it has ended the run and waits for it to be in the lake.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar, cast

from fillpath.instrumentation.errors import FillpathError

LOCK_NAME: Final = ".writer.lock"
HEARTBEAT_NAME: Final = ".writer.json"
LOG_NAME: Final = ".writer.log"
"""What the writer process says; in the folder of all spools."""
PROGRESS_NAME: Final = "progress.json"
AWAITED_NAME: Final = "awaited"

_Content = TypeVar("_Content")
State = Literal["following", "retrying", "ended", "gave_up"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is on its way into the lake.

    Attributes:
        pid: The process that writes it.
        block: Number of the last block that was taken from the spool.
        file: Number of the file that comes next; every block before it and `offset` was taken.
        offset: Place in that file, bytes.
        committed_block: Number of the last block that is in the lake.
        waiting_rows: Rows that were made of these blocks and are not in the lake.
        updated_at: When this was written, ns since the epoch.
        lag_bytes: Bytes of the spool that were not taken.
        state: `following` the spool, `retrying` after an error, `ended` (all that can be read of
            the spool is in the lake) or `gave_up` (its host has ended the run or is gone, and the
            next command that reads tries again).
        error: Why it is not in the lake.
        next_command: What would mend that.
    """

    pid: int
    block: int = 0
    file: int = 1
    offset: int = 0
    committed_block: int = 0
    waiting_rows: int = 0
    updated_at: int = 0
    lag_bytes: int = 0
    state: State = "following"
    error: str | None = None
    next_command: str | None = None

    def become(self, state: State, error: Exception | None = None) -> Self:
        """Give the same progress in another state."""
        text, next_command = words_of(error)
        return dataclasses.replace(self, state=state, error=text, next_command=next_command)

    @staticmethod
    def read(folder: Path) -> Progress | None:
        """Read that of a run's spool folder; None when there is none that makes sense."""
        return read_content(Progress, folder / PROGRESS_NAME)

    def write(self, folder: Path) -> None:
        """Put it into a run's spool folder, dated now; a disk that is full does not matter."""
        write_content(folder / PROGRESS_NAME, dataclasses.replace(self, updated_at=time.time_ns()))


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life of the writer process of a data folder.

    Attributes:
        pid: The process.
        host_name: Where it runs.
        mark: Tells the process from a later one of the same number.
        started_at: When it began, ns since the epoch.
        updated_at: When this was written, ns since the epoch; it rests while nothing is recorded.
        runs: How many runs it follows.
    """

    pid: int
    host_name: str
    mark: int = 0
    started_at: int = 0
    updated_at: int = 0
    runs: int = 0

    def with_runs(self, runs: int) -> Self:
        """Give the same with another number of runs."""
        return dataclasses.replace(self, runs=runs)

    @staticmethod
    def read(spool: Path) -> Heartbeat | None:
        """Read that in the folder of all spools; None when there is none that makes sense."""
        return read_content(Heartbeat, spool / HEARTBEAT_NAME)

    def write(self, spool: Path) -> None:
        """Put it into the folder of all spools, dated now; a disk that is full does not matter."""
        write_content(spool / HEARTBEAT_NAME, dataclasses.replace(self, updated_at=time.time_ns()))


def words_of(error: Exception | None) -> tuple[str | None, str | None]:
    """Give what a file says of an error, and the command that would mend it."""
    if error is None:
        return None, None
    if isinstance(error, FillpathError):
        return error.message, error.next_command
    return f"{type(error).__name__}: {error}", None


def read_content(kind: type[_Content], path: Path) -> _Content | None:
    """Read a dataclass from a file of JSON; None when there is none that makes sense."""
    try:
        found = json.loads(path.read_bytes())
        fields = dataclasses.fields(cast("Any", kind))
        known = {field.name for field in fields}
        made = kind(**{key: value for key, value in found.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    # Whoever compares these must not fail of a file that somebody edited.
    numbers = (getattr(made, field.name) for field in fields if field.type == "int")
    return made if all(type(number) is int for number in numbers) else None


def write_content(path: Path, content: Any) -> None:
    """Write a dataclass to a file, as a whole; a disk that is full does not matter."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(dataclasses.asdict(content)))
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def take_lock(spool: Path) -> int | None:
    """Become the writer process of a data folder, if there is none.

    The lock lives as long as a process has the descriptor open, so it can be handed to a child and
    does not outlive a killed one.

    Args:
        spool: The folder of all spools.

    Returns:
        The descriptor that holds the lock, or None when another process holds it.

    Raises:
        OSError: When the file cannot be opened.
    """
    while True:
        descriptor = os.open(spool / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if holds_lock(spool, descriptor):
            return descriptor
        os.close(descriptor)  # the file was taken away between the two


def holds_lock(spool: Path, descriptor: int) -> bool:
    """Tell whether this is still the lock of the folder, which may have been deleted and remade."""
    try:
        return os.path.samestat(os.fstat(descriptor), (spool / LOCK_NAME).stat())
    except OSError:
        return False


def release_lock(descriptor: int) -> None:
    """Give up the place of the writer process."""
    os.close(descriptor)


def await_run(folder: Path) -> None:
    """Leave word in a run's spool folder that its host has ended it and waits."""
    with contextlib.suppress(OSError):
        (folder / AWAITED_NAME).touch()


def is_awaited(folder: Path) -> bool:
    """Tell whether the host of this spool has ended its run and left word that it waits."""
    return (folder / AWAITED_NAME).exists()
