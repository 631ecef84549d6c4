"""The folder of the embedded Postgres: what lies where in it, and what can be wrong with it."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fillpath.analytics.results_error import ResultsError

OTHER_PLACES: Final = (
    "another data folder with --data DIR (or FILLPATH_DATA), "
    "or a server of your own with FILLPATH_POSTGRES__DSN"
)
"""What to do when Postgres cannot be had in a folder."""


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The folder of one embedded server.

    In it are ``cluster/`` (Postgres's own), ``socket/``, ``server.log``, ``server.json`` (where
    the socket is) and the lock files.

    Args:
        path: The folder itself (``<data>/postgres``), absolute.
    """

    path: Path

    @property
    def cluster(self) -> Path:
        """Postgres's data directory."""
        return self.path / "cluster"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.path / "server.log"

    @property
    def keep_file(self) -> Path:
        """There while the server is to run on without users."""
        return self.path / "keep-running"

    @property
    def users_lock(self) -> Path:
        """Held (shared) by everybody who uses the server."""
        return self.path / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Held by the process that starts the server."""
        return self.path / "start.lock"

    @property
    def server_lock(self) -> Path:
        """Held by every process of the running server, by nobody else."""
        return self.path / "server.lock"

    @property
    def state(self) -> Path:
        """Where the running server's socket is."""
        return self.path / "server.json"

    def open(self, path: Path, flags: int) -> int:
        """Open a file of the folder, made if need be and owned by who owns the folder.

        Raises:
            OSError: It cannot be opened, or is a link.
        """
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        if os.geteuid() == 0:
            owner, made = self.path.stat(), os.fstat(descriptor)
            if made.st_uid != owner.st_uid:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    def explain(self, error: OSError) -> ResultsError:
        """Say what is the matter with the folder."""
        where = f"the results folder {self.path}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return ResultsError(
                f"No space left for {where}.", next_command=f"df -h {quoted(self.path.parent)}"
            )
        if error.errno == errno.EROFS:
            reason = "the file system is read-only"
        elif error.errno in {errno.EACCES, errno.EPERM}:
            reason = f"user {user_name(os.geteuid())} has no permission{_owner_hint(self.path)}"
        elif error.errno == errno.ENOTDIR:
            reason = "a part of this path is a file"
        else:
            reason = error.strerror or str(error)
        return ResultsError(
            f"Cannot use {where}: {reason}.",
            next_command=OTHER_PLACES,
        )


def quoted(path: Path) -> str:
    """Give the path as a shell takes it."""
    return shlex.quote(str(path))


def user_name(uid: int) -> str:
    """Give the account's name, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner_hint(path: Path) -> str:
    for candidate in (path, *path.parents):
        with suppress(OSError):
            status = candidate.stat()
            if status.st_uid == os.geteuid() and status.st_mode & 0o300 == 0o300:
                return ""
            return f" ({candidate} belongs to {user_name(status.st_uid)})"
    return ""
