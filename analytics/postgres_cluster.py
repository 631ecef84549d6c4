"""The cluster of the embedded Postgres: who owns it, how it is made, checked and served."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fillpath.analytics.postgres_keeper import Account
from fillpath.analytics.postgres_programs import account, launch, server_major, server_programs
from fillpath.analytics.postgres_socket import SOCKET_PORT
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.server_folder import OTHER_PLACES, ServerFolder, quoted, user_name

OWNER_ROLE: Final = "fillpath"
"""The database role, and the database, of the embedded server."""

_INITDB = (
    f"--username={OWNER_ROLE}",
    "--auth=peer",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--wal-segsize=4",
)


def prepare(folder: ServerFolder) -> None:
    """Make the folder, for this user alone.

    Raises:
        OSError: It cannot be made.
    """
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)


def create(folder: ServerFolder, start_lock_fd: int) -> None:
    """Make the cluster, unless it is there. The caller holds the start lock.

    The cluster is made under another name and renamed when it is complete, so that a cluster by
    its name is never half a cluster.

    Raises:
        ResultsError: It cannot be made, or what is there is not a cluster of this version.
        OSError: The folder cannot be used.
    """
    for left_over in folder.path.glob("cluster.new-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    if folder.cluster.exists():
        _check(folder)
        return
    runs_as = account(folder)
    new = folder.path / f"cluster.new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    try:
        if runs_as is not None:
            _give(folder, new, runs_as)
        programs = server_programs()
        _run(
            folder,
            [str(programs / "initdb"), f"--pgdata={new}", *_INITDB],
            start_lock_fd,
            runs_as,
        )
        _run(
            folder,
            [str(programs / "postgres"), "--single", "-D", str(new), "template1"],
            start_lock_fd,
            runs_as,
            f'ALTER DATABASE postgres RENAME TO "{OWNER_ROLE}"\n',
        )
        new.rename(folder.cluster)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _give(folder: ServerFolder, new: Path, runs_as: Account) -> None:
    try:
        os.chown(new, runs_as["uid"], runs_as["gid"])
    except OSError as error:
        raise ResultsError(
            f"The embedded Postgres in {folder.path} cannot be made: Postgres does not run as "
            f"root, and this root may not give files to user {user_name(runs_as['uid'])} "
            f"({error.strerror}).",
            next_command="the same as an ordinary user, or a server of your own with "
            "FILLPATH_POSTGRES__DSN",
        ) from error


def _run(
    folder: ServerFolder,
    argv: Sequence[str],
    start_lock_fd: int,
    runs_as: Account | None,
    text: str = "",
) -> None:
    # It inherits the start lock: should this process be killed, nobody starts before it is done.
    process = launch(
        folder,
        argv,
        runs_as,
        stdin=subprocess.PIPE,
        output=subprocess.PIPE,
        inherit=(start_lock_fd,),
    )
    with process:
        output, _ = process.communicate(text.encode())
    said = output.decode(errors="replace")
    # A single-user Postgres gives 0 whatever happened.
    if process.returncode != 0 or "ERROR:" in said:
        raise complaint(folder, "made", said, OTHER_PLACES)


def complaint(folder: ServerFolder, verb: str, output: str, next_command: str) -> ResultsError:
    """Turn what a program of Postgres's said into an error."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return folder.explain(OSError(errno.ENOSPC, ""))
    telling = [
        line.partition(mark)[2].strip()
        for line in output.splitlines()
        for mark in ("FATAL:", "PANIC:", "initdb: error:", "ERROR:")
        if mark in line
    ]
    said = telling[0] if telling else (output.strip().splitlines() or ["it said nothing"])[-1]
    return ResultsError(
        f"The embedded Postgres in {folder.path} cannot be {verb}: {said.rstrip('.')}.",
        next_command=next_command,
    )


def _check(folder: ServerFolder) -> None:
    aside = f"mv {quoted(folder.path)} {quoted(folder.path.with_name('postgres.old'))}"
    version_file = folder.cluster / "PG_VERSION"
    try:
        version = version_file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        version = ""
    if not version or not (folder.cluster / "global" / "pg_control").exists():
        raise ResultsError(
            f"The embedded Postgres in {folder.path} is damaged: {folder.cluster} is not a whole "
            "cluster. The results can be loaded again from the lake.",
            next_command=aside,
        )
    if version != server_major():
        raise ResultsError(
            f"The embedded Postgres in {folder.path} was made by Postgres {version}, but "
            f"Postgres {server_major()} is installed. The results can be loaded again from "
            "the lake.",
            next_command=aside,
        )


def settle(folder: ServerFolder) -> None:
    """Make owner, modes and access rules of an existing cluster what the server wants."""
    runs_as = account(folder)
    me = os.geteuid()
    owner = folder.cluster.stat().st_uid
    if runs_as is None and owner != me:
        raise folder.explain(PermissionError(errno.EACCES, ""))
    wanted = (me, os.getegid()) if runs_as is None else (runs_as["uid"], runs_as["gid"])
    if runs_as is None or runs_as["enters_anywhere"]:
        # Postgres insists on it, and nobody else can have put a link in its place.
        folder.cluster.chmod(0o700)
    if owner != wanted[0]:
        for path, _, files, descriptor in os.fwalk(folder.cluster):
            os.chown(path, *wanted, follow_symlinks=False)
            for name in files:
                os.chown(name, *wanted, dir_fd=descriptor, follow_symlinks=False)
    # Whoever may own the folder may log in, and root; another process of nobody's may not.
    allowed = {user_name(0)} | {user_name(me)}
    if runs_as is not None and not runs_as["enters_anywhere"]:
        allowed.add(user_name(runs_as["uid"]))
    quoted = sorted('"' + name.replace('"', '""') + '"' for name in allowed)
    rules = {
        "pg_hba.conf": f"local all all peer map={OWNER_ROLE}\n",
        "pg_ident.conf": "".join(f"{OWNER_ROLE} {name} {OWNER_ROLE}\n" for name in quoted),
    }
    for name, text in rules.items():
        rule_file = folder.cluster / name
        rule_file.unlink(missing_ok=True)
        descriptor = os.open(rule_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            stream.write(text)
            os.fchown(descriptor, *wanted)


def server_command(folder: ServerFolder, sockets: Path) -> list[str]:
    """Give the command line that serves the cluster on a socket in `sockets`, and no TCP port."""
    quoted = '"' + str(sockets).replace('"', '""') + '"'
    settings = {
        "listen_addresses": "",
        "port": str(SOCKET_PORT),
        "unix_socket_directories": quoted,
        "unix_socket_permissions": "0700",
        "max_connections": "50",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",
        # One machine, no replica: less to start and less to write.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        "io_method": "sync",
        # What a load writes goes to the disk while it goes on, not all at once when it commits.
        "backend_flush_after": "2MB" if sys.platform == "linux" else "0",
        # Containers give /dev/shm little room.
        "max_parallel_workers_per_gather": "0",
    }
    command = [str(server_programs() / "postgres"), "-D", str(folder.cluster)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command
