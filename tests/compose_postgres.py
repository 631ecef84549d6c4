"""A Postgres made as docker-compose.yml makes it: the same arguments, passwords and scripts.

It listens on loopback. The server is that of the embedded Postgres, without its keeper.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).parent))

from real_backends import ROOT, free_port

from fillpath.analytics.postgres_programs import account, launch, server_programs
from fillpath.analytics.server_folder import ServerFolder

SCRIPTS: Final = ROOT / "deploy/postgres"
_INITDB: Final = re.compile(r"POSTGRES_INITDB_ARGS: >-\n((?: {8}--.*\n)+)")
_START_SECONDS: Final = 30.0


@contextmanager
def compose_postgres(path: Path, secrets: Path) -> Iterator[int]:
    """Run it in a new folder until the context ends; yields its port.

    Args:
        path: The folder, which is made.
        secrets: The folder of passwords that `make secrets` makes.
    """
    folder = ServerFolder(path)
    path.mkdir(mode=0o700)
    runs_as = account(folder)
    folder.cluster.mkdir(mode=0o700)
    if runs_as is not None:
        os.chown(folder.cluster, runs_as["uid"], runs_as["gid"])
    found = _INITDB.search((ROOT / "docker-compose.yml").read_text())
    assert found, "docker-compose.yml does not say how the database is made"
    programs = server_programs()
    made = launch(
        folder,
        [
            str(programs / "initdb"),
            f"--pgdata={folder.cluster}",
            "--username=postgres",
            f"--pwfile={secrets / 'postgres_password'}",
            *found[1].split(),
        ],
        runs_as,
        stdin=subprocess.DEVNULL,
        output=subprocess.PIPE,
    )
    said, _ = made.communicate()
    assert made.returncode == 0, said.decode()
    port = free_port()
    with folder.log.open("wb") as log:
        server = launch(
            folder,
            [
                *(str(programs / "postgres"), "-D", str(folder.cluster)),
                *("-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"),
                *("-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "io_method=sync"),
            ],
            runs_as,
            stdin=subprocess.DEVNULL,
            output=log.fileno(),
        )
    try:
        _await(server, programs, port, folder.log)
        _run_scripts(programs / "psql", port, secrets)
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def _await(server: subprocess.Popen[bytes], programs: Path, port: int, log: Path) -> None:
    ready = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(ready, check=False).returncode != 0:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _run_scripts(psql: Path, port: int, secrets: Path) -> None:
    """Do as the image does on its first start: the database, then every script in order."""
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": (secrets / "postgres_password").read_text(),
        "SECRETS_FOLDER": str(secrets),
    }
    commands = [["--dbname=postgres", "--command=CREATE DATABASE fillpath"]]
    commands += [["--dbname=fillpath", f"--file={script}"] for script in sorted(SCRIPTS.iterdir())]
    for command in commands:
        done = subprocess.run(
            [psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
