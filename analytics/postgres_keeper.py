"""The process that stays beside the embedded Postgres and stops it when nobody uses it any more.

It runs as a script of its own (``python -I -S postgres_keeper.py SPEC``), so it imports nothing
but the standard library. Every user of the server holds a shared lock on one file for as long as
it needs the server; the kernel drops that lock even when the user is killed. The keeper waits,
asleep, for the exclusive lock: when it gets it, the last user has left, and it stops the server.

Postgres refuses to run as root. For root the script takes on an unprivileged account first, and
keeps one capability from root, to search and read folders: the data folder and the installation
may lie below folders that only root may enter, and opening those to everybody is not for us.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import NoReturn, TypedDict

KEEP_POLL_SECONDS = 0.5
"""How often the keeper looks whether a server left running on purpose may stop."""

EXIT_CANNOT_START = 126

# From linux/prctl.h, linux/securebits.h and linux/capability.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


class Account(TypedDict):
    """The account the server runs under when root starts it.

    `enters_anywhere` asks for the capability to search and read every folder. Where the kernel
    does not give it, the folders in `open_otherwise` are made passable (0711) instead.
    """

    uid: int
    gid: int
    enters_anywhere: bool
    open_otherwise: list[str]


class Spec(TypedDict):
    """What the script is to do: `argv` as `account`, watched over if `watch` is set."""

    argv: list[str]
    account: Account | None
    watch: bool
    server_lock_fd: int
    users_lock: str
    keep_file: str


class _ServerEnded(Exception):
    """The server ended by itself."""


class _StopRequested(Exception):
    """Somebody asked the keeper to end."""


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return libc


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _keep_search_capability(uid: int, gid: int) -> None:
    """Become `uid` and hold on to one capability of root's, across exec too.

    Raises:
        OSError: The kernel or the container does not allow it; nothing has changed then, or the
            account has been taken on without the capability.
    """
    libc = _libc()
    # Without this, access(2), which Postgres asks about its own files, ignores capabilities.
    _checked(libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    # Containers often withhold the narrower one, which cannot write.
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        mask = 1 << capability
        if libc.capset(header, struct.pack("6I", mask, mask, mask, 0, 0, 0)) == 0:
            _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))
            return
    raise PermissionError(errno.EPERM, "this process has no capability to search folders")


def take_on(account: Account) -> None:
    """Give up root for `account`.

    Raises:
        OSError: This process may not change its user.
    """
    uid, gid = account["uid"], account["gid"]
    if account["enters_anywhere"] and sys.platform == "linux" and _may_keep_capability():
        _keep_search_capability(uid, gid)
        return
    if account["enters_anywhere"]:
        for folder in account["open_otherwise"]:
            Path(folder).chmod(0o711)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _may_keep_capability() -> bool:
    """Try it in a child, for there is no way back once a process has changed its user."""
    child = os.fork()
    if child == 0:
        try:
            _keep_search_capability(65534, 65534)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _execute(spec: Spec) -> NoReturn:
    """Replace this process by the program, or say on stderr why that cannot be."""
    try:
        if spec["account"] is not None:
            take_on(spec["account"])
        if spec["watch"] and sys.platform == "linux":
            # Should the keeper be killed, the server still stops in order.
            _libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        os.execv(spec["argv"][0], spec["argv"])  # noqa: S606 - no shell is wanted
    except OSError as error:
        who = f" as uid {spec['account']['uid']}" if spec["account"] is not None else ""
        os.write(2, f"FATAL:  cannot run {spec['argv'][0]}{who}: {error}\n".encode())
    os._exit(EXIT_CANNOT_START)


def _on_child(_number: int, _frame: object) -> None:
    raise _ServerEnded


def _on_terminate(_number: int, _frame: object) -> None:
    raise _StopRequested


def _wait_until_unused(users_lock: str, keep_file: Path) -> None:
    """Return, holding the lock of the users, when nobody has it and nobody asked to keep on."""
    users = os.open(users_lock, os.O_RDWR | os.O_CLOEXEC)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        if not keep_file.exists():
            return
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(KEEP_POLL_SECONDS)


def keep(spec: Spec) -> int:
    """Run the server until it is unused or ends by itself; give its exit code."""
    server = os.fork()
    if server == 0:
        _execute(spec)
    # From here on only the server and its children hold this lock: it tells that they live.
    os.close(spec["server_lock_fd"])
    try:
        signal.signal(signal.SIGTERM, _on_terminate)
        signal.signal(signal.SIGCHLD, _on_child)
        # The server may have ended before the handler was there.
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        _wait_until_unused(spec["users_lock"], Path(spec["keep_file"]))
    except _ServerEnded:
        pass
    except _StopRequested:
        pass
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ended, status = os.waitpid(server, os.WNOHANG)
    if not ended:
        os.kill(server, signal.SIGINT)
        _, status = os.waitpid(server, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Do what the specification on the command line says."""
    spec: Spec = json.loads(sys.argv[1])
    if spec["watch"]:
        return keep(spec)
    _execute(spec)


if __name__ == "__main__":
    sys.exit(main())
