"""The embedded Postgres: started by its first user, stopped when the last one leaves.

Several processes may use it at once; `server_locks` tells how they keep out of each other's way.
The keeper (`postgres_keeper`) does the stopping, also for users that were killed.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from fillpath.analytics import postgres_cluster, postgres_programs, postgres_socket, server_locks
from fillpath.analytics.postgres_cluster import OWNER_ROLE
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.server_folder import ServerFolder, quoted

START_SECONDS: Final = 60.0
"""How long a start may take; a server that was killed first repeats what it had not written."""

_LOG_BYTES_KEPT = 1_000_000
# Keepers outlive the calls that start them; Python wants its children remembered.
_keepers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """What is known about an embedded server without starting it.

    Args:
        state: ``absent`` (never made), ``stopped``, ``running``, ``kept`` (running without users
            because somebody asked for it) or ``unreadable`` (not ours to look at).
        folder: Where it is.
        major: Version of Postgres that made it, such as ``18``; empty if unknown.
    """

    state: Literal["absent", "stopped", "running", "kept", "unreadable"]
    folder: Path
    major: str


@contextmanager
def embedded_server(path: Path) -> Iterator[str]:
    """Use the embedded server in the folder `path`; yields its connection URL.

    Raises:
        ResultsError: It cannot be made, started or reached; says why and what to do.
        MissingExtra: The server is not installed.
    """
    folder = ServerFolder(path.absolute())
    with ExitStack() as held:
        try:
            postgres_cluster.prepare(folder)
            users = held.enter_context(
                server_locks.locked(folder, folder.users_lock, fcntl.LOCK_SH)
            )
            with server_locks.locked(folder, folder.start_lock, fcntl.LOCK_EX) as start:
                sockets = _ensure_running(folder, start)
        except OSError as error:
            raise folder.explain(error) from error
        held.callback(_leave, folder, users)
        yield _url(sockets)


def keep_running(path: Path) -> None:
    """Let the server in `path` run on without users, until `stop_server`. The caller uses it."""
    folder = ServerFolder(path.absolute())
    os.close(folder.open(folder.keep_file, os.O_WRONLY))


def stop_server(path: Path) -> bool:
    """Stop the server in `path`, also one that was left running; tell whether there was one.

    Raises:
        ResultsError: Another process uses it (it then stops when that one leaves), or it does
            not stop.
    """
    folder = ServerFolder(path.absolute())
    try:
        folder.keep_file.unlink(missing_ok=True)
        if not folder.users_lock.exists() or not server_locks.lives(folder):
            return False
        server_locks.await_stop(folder)
    except OSError as error:
        raise folder.explain(error) from error
    if server_locks.lives(folder):
        raise ResultsError(
            f"The embedded Postgres in {folder.path} is in use by another process; it stops "
            "when that process ends."
        )
    return True


def server_status(path: Path) -> EmbeddedStatus:
    """Look at the server in `path` without starting or changing anything."""
    folder = ServerFolder(path.absolute())
    try:
        if not folder.path.exists() or not folder.cluster.exists():
            return EmbeddedStatus("absent", folder.path, "")
        version = folder.cluster / "PG_VERSION"
        major = version.read_text(errors="replace").strip() if version.exists() else ""
        if not (folder.server_lock.exists() and server_locks.lives(folder)):
            return EmbeddedStatus("stopped", folder.path, major)
        kept = folder.keep_file.exists()
        return EmbeddedStatus("kept" if kept else "running", folder.path, major)
    except OSError:
        return EmbeddedStatus("unreadable", folder.path, "")


def _url(sockets: Path) -> str:
    host = quote(os.fsencode(sockets), safe="")
    return f"postgresql://{OWNER_ROLE}@/{OWNER_ROLE}?host={host}&port={postgres_socket.SOCKET_PORT}"


def _answers(sockets: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(postgres_socket.socket_in(sockets)))
        except OSError:
            return False
    return True


def _pid_file(folder: ServerFolder) -> list[str]:
    with suppress(OSError):
        text = (folder.cluster / "postmaster.pid").read_text(errors="surrogateescape")
        return text.splitlines()
    return []


def _ensure_running(folder: ServerFolder, start_lock: int) -> Path:
    """Find the server running or start it; give the folder of its socket."""
    deadline = time.monotonic() + START_SECONDS
    started = False
    log_start = 0
    while time.monotonic() < deadline:
        server_lock = folder.open(folder.server_lock, os.O_RDWR)
        try:
            if server_locks.try_lock(server_lock, fcntl.LOCK_EX):
                if started:
                    raise _start_failure(folder, log_start)
                log_start = _start(folder, start_lock, server_lock)
                started = True
        finally:
            os.close(server_lock)
        sockets = _running_sockets(folder)
        if sockets is not None:
            return sockets
        time.sleep(server_locks.POLL_SECONDS)
    raise postgres_cluster.complaint(
        folder,
        "reached",
        f"no answer within {START_SECONDS:.0f} seconds",
        f"tail {quoted(folder.log)}",
    )


def _running_sockets(folder: ServerFolder) -> Path | None:
    if [line.strip() for line in _pid_file(folder)[-1:]] != ["ready"]:
        return None
    try:
        sockets = Path(json.loads(folder.state.read_text(encoding="utf-8"))["socket_folder"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return sockets if _answers(sockets) else None


def _start(folder: ServerFolder, start_lock: int, server_lock: int) -> int:
    """Start the server and its keeper; give where in the log they begin to write."""
    postgres_cluster.create(folder, start_lock)
    _remove_stale_pid_file(folder)
    postgres_cluster.settle(folder)
    runs_as = postgres_programs.account(folder)
    sockets = postgres_socket.socket_folder(folder, runs_as)
    folder.keep_file.unlink(missing_ok=True)
    new_state = folder.state.with_suffix(".new")
    new_state.unlink(missing_ok=True)
    with open(folder.open(new_state, os.O_WRONLY), "w", encoding="utf-8") as stream:  # noqa: PTH123
        json.dump({"socket_folder": str(sockets)}, stream)
    new_state.rename(folder.state)
    if folder.log.exists() and folder.log.stat().st_size > _LOG_BYTES_KEPT:
        folder.log.rename(folder.log.with_suffix(".log.1"))
    if runs_as is not None and runs_as["enters_anywhere"] and sockets.parent != folder.path:
        runs_as["open_otherwise"].append(str(sockets.parent))
    log = folder.open(folder.log, os.O_WRONLY | os.O_APPEND)
    try:
        log_start = os.fstat(log).st_size
        keeper = postgres_programs.launch(
            folder,
            postgres_cluster.server_command(folder, sockets),
            runs_as,
            stdin=subprocess.DEVNULL,
            output=log,
            server_lock_fd=server_lock,
        )
    finally:
        os.close(log)
    _keepers[:] = [known for known in _keepers if known.poll() is None] + [keeper]
    return log_start


def _remove_stale_pid_file(folder: ServerFolder) -> None:
    # Nobody holds the server's lock, so the file is from a server that was killed; left there,
    # it stops Postgres as soon as any process has got that number since.
    lines = _pid_file(folder)
    if not lines:
        return
    pid = lines[0].strip()
    if pid.isdigit() and _is_live_postgres(int(pid), folder):
        raise ResultsError(
            f"The results folder {folder.path} is locked: a Postgres that fillpath did not start "
            f"(process {pid}) uses its cluster.",
            next_command=f"kill -INT {pid}",
        )
    (folder.cluster / "postmaster.pid").unlink(missing_ok=True)


def _is_live_postgres(pid: int, folder: ServerFolder) -> bool:
    with suppress(OSError):
        # Postgres goes to its cluster and stays there; this also tells a zombie, which has none.
        return Path(f"/proc/{pid}/cwd").readlink() == folder.cluster.resolve()
    if Path("/proc/self/cwd").exists():
        return False
    listed = subprocess.run(
        ["ps", "-o", "stat=,comm=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return listed.endswith("postgres") and not listed.startswith("Z")


def _start_failure(folder: ServerFolder, log_start: int) -> ResultsError:
    with suppress(OSError), folder.log.open("rb") as log:
        log.seek(log_start)
        output = log.read().decode(errors="replace")
        return postgres_cluster.complaint(folder, "started", output, f"tail {quoted(folder.log)}")
    return postgres_cluster.complaint(folder, "started", "", f"ls -la {quoted(folder.path)}")


def _leave(folder: ServerFolder, users: int) -> None:
    """Stop using the server; if that was its last user, see it stopped."""
    fcntl.flock(users, fcntl.LOCK_UN)
    with suppress(OSError):
        if not folder.keep_file.exists():
            server_locks.await_stop(folder)
    _keepers[:] = [keeper for keeper in _keepers if keeper.poll() is None]


@atexit.register
def _forget_keepers() -> None:
    # They belong to the other users of their servers now.
    for keeper in _keepers:
        if keeper.poll() is None:
            keeper.returncode = 0
