"""Where the embedded Postgres puts its socket: a socket's path must be short."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from fillpath.analytics.postgres_keeper import Account
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.server_folder import ServerFolder

SOCKET_PORT: Final = 5432
"""The number in the socket's name; no port is open."""

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH: Final = 107 if sys.platform == "linux" else 103


def socket_in(sockets: Path) -> Path:
    """Give the socket in the folder `sockets`."""
    return sockets / f".s.PGSQL.{SOCKET_PORT}"


def _fits(socket_folder: Path) -> bool:
    # libpq takes a comma for the end of a host, and wants UTF-8.
    text = str(socket_folder)
    plain = "," not in text and text.isprintable()
    path = socket_folder / f".s.PGSQL.{SOCKET_PORT}.lock"
    return plain and len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH


def _takes_sockets(folder: Path) -> bool:
    probe = folder / f"p{os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(probe))
    except OSError:
        return False
    probe.unlink()
    return True


def socket_folder(folder: ServerFolder, runs_as: Account | None) -> Path:
    """Make the folder for the socket: beside the cluster, or elsewhere if its path is too long.

    Raises:
        ResultsError: There is no place short enough.
        OSError: The folder cannot be made.
    """
    inside = folder.path / "socket"
    inside.mkdir(mode=0o700, exist_ok=True)
    chosen = inside
    if not (_fits(inside) and _takes_sockets(inside)):
        chosen = _short_socket_folder(folder, runs_as)
    if runs_as is not None:
        os.chown(chosen, runs_as["uid"], runs_as["gid"])
    return chosen


def _short_socket_folder(folder: ServerFolder, runs_as: Account | None) -> Path:
    digest = hashlib.sha256(os.fsencode(folder.path.resolve())).hexdigest()[:16]
    me = os.geteuid()
    bases = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108
    for base in filter(None, bases):
        mine = Path(base).absolute() / f"fillpath-{me}"
        chosen = mine / digest
        if not _fits(chosen):
            continue
        with suppress(OSError):
            with suppress(FileExistsError):
                mine.mkdir(mode=0o700)
            status = mine.lstat()
            # Somebody else may have made it first, in a folder that all can write to.
            if status.st_uid != me or mine.is_symlink() or status.st_mode & 0o022:
                continue
            chosen.mkdir(mode=0o700, exist_ok=True)
            if runs_as is not None and not runs_as["enters_anywhere"]:
                mine.chmod(0o711)
            return chosen
    raise ResultsError(
        f"The path {folder.path} is too long for a Unix socket, and no shorter place for it "
        "can be written to.",
        next_command="a shorter data folder with --data DIR, or TMPDIR=/a/short/folder",
    )
