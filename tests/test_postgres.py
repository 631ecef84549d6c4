"""The embedded Postgres as processes use it, and servers that are not there."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fillpath.analytics import embedded_postgres, server_locks
from fillpath.analytics.embedded_postgres import server_status
from fillpath.analytics.migrate import read_migrations
from fillpath.analytics.postgres import (
    ResultsDatabase,
    describe_dsn,
    open_results_database,
    results_database_url,
    stop_results_database,
)
from fillpath.analytics.results_error import ResultsError
from fillpath.instrumentation.errors import BackendUnreachable, FillpathError, UsageError
from fillpath.instrumentation.settings import ENV_POSTGRES_DSN, DataFolder

IS_ROOT = os.geteuid() == 0
NEWEST = read_migrations()[-1].version
NOBODY = pwd.getpwnam("nobody")
SECRET = "hunter2-sesame"  # noqa: S105 - made up

# What the processes of these tests run; argv[1] is the data folder.
PRELUDE = """
import os, sys, time
from pathlib import Path
from fillpath.analytics.postgres import *
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.settings import DataFolder
folder = DataFolder(Path(sys.argv[1]))
"""
USE = """
with open_results_database(folder) as database, database.connect() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS visits (pid integer)")
    connection.execute("INSERT INTO visits VALUES (%s)", [os.getpid()])
    print(connection.execute("SELECT count(*) FROM visits").fetchone()[0], flush=True)
"""
USE_AND_REPORT = f"""
try:
    {USE.strip().replace(chr(10), chr(10) + "    ")}
except FillpathError as error:
    print("FillpathError", error)
"""
HOLD = """
with open_results_database(folder) as database:
    print((folder.postgres / "cluster" / "postmaster.pid").read_text().split()[0], flush=True)
    sys.stdin.read()
"""
# Not root any more, but still able to read the interpreter, wherever it is.
AS_NOBODY = f"""
from fillpath.analytics.postgres_keeper import take_on
take_on({{"uid": {NOBODY.pw_uid}, "gid": {NOBODY.pw_gid}, "enters_anywhere": True,
         "open_otherwise": []}})
"""


def start(script: str, folder: DataFolder, prelude: str = PRELUDE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", prelude + script, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    with process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return output.strip()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def wait_until_stopped(folder: DataFolder, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while server_status(folder.postgres).state != "stopped":
        assert time.monotonic() < deadline, "the server runs on"
        time.sleep(0.02)


def count_schema(folder: DataFolder) -> int:
    with open_results_database(folder) as database, database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM schema_migrations").fetchone()
        assert row is not None
        return int(row[0])


def server_pid(folder: DataFolder) -> int:
    return int((folder.postgres / "cluster" / "postmaster.pid").read_text().split()[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A data folder with a cluster that nobody uses; for copying, not for using."""
    folder = DataFolder(tmp_path_factory.mktemp("made"))
    count_schema(folder)
    return folder


@pytest.fixture
def folder(made: DataFolder, tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder of the test's own, with a cluster."""
    own = DataFolder(tmp_path / "data")
    shutil.copytree(made.postgres, own.postgres, ignore=shutil.ignore_patterns("socket"))
    yield own
    stop_results_database(own)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter and write to, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    """A server that runs for all tests here, to be used like a server of the user's own."""
    with open_results_database(DataFolder(tmp_path_factory.mktemp("shared"))) as database:
        yield database


@pytest.mark.smoke
def test_server_runs_exactly_as_long_as_it_is_used(folder: DataFolder) -> None:
    assert server_status(folder.postgres).state == "stopped"
    with open_results_database(folder) as database:
        assert server_status(folder.postgres).state == "running"
        with database.connect() as connection:
            row = connection.execute("SHOW listen_addresses").fetchone()
            assert row == ("",)
    assert server_status(folder.postgres).state == "stopped"
    assert not (folder.postgres / "cluster" / "postmaster.pid").exists()
    assert count_schema(folder) == NEWEST


def test_data_folder_without_a_server_says_so(tmp_path: Path) -> None:
    nothing = DataFolder(tmp_path / "nothing")
    assert server_status(nothing.postgres).state == "absent"
    assert stop_results_database(nothing) is False
    assert not nothing.path.exists()


def test_processes_that_start_together_share_one_server(tmp_path: Path) -> None:
    new = DataFolder(tmp_path / "new")
    processes = [start(HOLD, new) for _ in range(3)]
    try:
        pids = {first_line(process) for process in processes}
    finally:
        for process in processes:
            finish(process)
    assert len(pids) == 1
    assert server_status(new.postgres).state == "stopped"


def test_who_leaves_does_not_stop_the_server_of_others(folder: DataFolder) -> None:
    with open_results_database(folder) as database, database.connect() as connection:
        assert finish(start(USE, folder)) == "1"
        connection.execute("SELECT 1")
        with open_results_database(folder):
            pass
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (1,)


def test_server_stops_when_its_user_is_killed(folder: DataFolder) -> None:
    process = start(HOLD, folder)
    with process:
        first_line(process)
        process.kill()
    wait_until_stopped(folder)


def test_server_outlives_the_killed_process_that_started_it(folder: DataFolder) -> None:
    first = start(HOLD, folder)
    first_line(first)
    with open_results_database(folder) as database, database.connect() as connection:
        first.kill()
        with first:
            first.communicate()
        time.sleep(0.2)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    wait_until_stopped(folder)


def test_killed_server_is_started_again_with_its_data(folder: DataFolder) -> None:
    with open_results_database(folder):
        assert finish(start(USE, folder)) == "1"
        os.kill(server_pid(folder), signal.SIGKILL)
        assert finish(start(USE, folder)) == "2"
    assert finish(start(USE, folder)) == "3"


@pytest.mark.full
def test_killed_keeper_takes_the_server_with_it(folder: DataFolder) -> None:
    with open_results_database(folder):
        keeper = embedded_postgres._keepers[-1]
        keeper.kill()
        keeper.wait()
        wait_until_stopped(folder)
    assert count_schema(folder) == NEWEST


def test_pid_file_whose_number_is_somebody_elses_now(folder: DataFolder) -> None:
    cluster = folder.postgres / "cluster"
    # The server would take a live process of its own user for a server, and refuse to start.
    owner = NOBODY.pw_uid if IS_ROOT else None
    other = subprocess.Popen(["sleep", "60"], user=owner)
    with other:
        lines = [str(other.pid), str(cluster), "1700000000", "5432", "/nowhere", "", "1 1", "ready"]
        (cluster / "postmaster.pid").write_text("\n".join(lines) + "\n")
        assert count_schema(folder) == NEWEST
        other.kill()


@pytest.mark.parametrize(
    "name",
    [
        "with a space",
        "“quoted” 'a' \"b\" $HOME `id` 漢字-é-🙂",
        "comma, comma",
        "long-" + "x" * 200,
        "line\nend",
    ],
)
def test_data_folder_of_any_name(made: DataFolder, tmp_path: Path, name: str) -> None:
    odd = DataFolder(tmp_path / name)
    shutil.copytree(made.postgres, odd.postgres, ignore=shutil.ignore_patterns("socket"))
    with open_results_database(odd) as database:
        assert count_schema(odd) == NEWEST
        url = database.dsn
    assert server_status(odd.postgres).state == "stopped"
    assert len(url) < 800


@pytest.mark.full
def test_cluster_is_made_in_a_folder_with_a_long_odd_name(tmp_path: Path) -> None:
    assert count_schema(DataFolder(tmp_path / ("sp ace 漢'\"$x" + "y" * 120))) == NEWEST


def test_url_left_running_until_it_is_stopped(folder: DataFolder) -> None:
    url = finish(start("print(results_database_url(folder).dsn)", folder))
    assert server_status(folder.postgres).state == "kept"
    with ResultsDatabase(url, embedded=True).connect() as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert finish(start(USE, folder)) == "1"
    assert server_status(folder.postgres).state == "kept"
    assert stop_results_database(folder) is True
    assert server_status(folder.postgres).state == "stopped"
    assert stop_results_database(folder) is False
    with open_results_database(folder):
        pass
    assert server_status(folder.postgres).state == "stopped"


def test_server_in_use_is_not_stopped_by_others(folder: DataFolder) -> None:
    results_database_url(folder)
    with open_results_database(folder) as database:
        with pytest.raises(ResultsError, match="in use by another process"):
            stop_results_database(folder)
        with database.connect() as connection:
            connection.execute("SELECT 1")
    assert server_status(folder.postgres).state == "stopped"


def test_folder_stays_private(folder: DataFolder) -> None:
    parents = [path.stat().st_mode for path in folder.path.parents]
    with open_results_database(folder):
        assert folder.postgres.stat().st_mode & 0o777 == 0o700
        assert (folder.postgres / "cluster").stat().st_mode & 0o777 == 0o700
        status = Path(f"/proc/{server_pid(folder)}/status")
        if status.exists():
            assert "\nUid:\t0\t" not in status.read_text()
    assert [path.stat().st_mode for path in folder.path.parents] == parents


@pytest.mark.full
def test_cluster_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    new = DataFolder(tmp_path / "new")
    killed = start(USE, new)
    with killed:
        while not list(new.postgres.glob("cluster.new-*/global")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert not (new.postgres / "cluster").exists()
    assert count_schema(new) == NEWEST
    assert not list(new.postgres.glob("cluster.new-*"))


def test_damaged_cluster_is_named(folder: DataFolder) -> None:
    (folder.postgres / "cluster" / "PG_VERSION").unlink()
    with pytest.raises(ResultsError, match="is damaged") as raised:
        count_schema(folder)
    assert raised.value.next_command is not None
    assert raised.value.next_command.startswith("mv ")


def test_cluster_that_does_not_start_says_why(folder: DataFolder) -> None:
    control = folder.postgres / "cluster" / "global" / "pg_control"
    control.write_bytes(b"\0" * control.stat().st_size)
    with pytest.raises(
        ResultsError, match="cannot be started: database files are incompatible"
    ) as raised:
        count_schema(folder)
    assert raised.value.next_command is not None
    assert raised.value.next_command.startswith("tail ")
    assert server_status(folder.postgres).state == "stopped"


def test_cluster_of_another_version_is_named(folder: DataFolder) -> None:
    (folder.postgres / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ResultsError, match=r"made by Postgres 9, but Postgres \d+ is installed"):
        count_schema(folder)


def test_cluster_that_another_server_uses_is_locked(folder: DataFolder) -> None:
    with open_results_database(folder):
        pid = server_pid(folder)
        # As if the server had been started without fillpath: nobody holds our lock.
        (folder.postgres / "server.lock").unlink()
        with pytest.raises(ResultsError, match=f"is locked: .*process {pid}"):
            count_schema(folder)
    deadline = time.monotonic() + 10
    while (folder.postgres / "cluster" / "postmaster.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_folder_whose_start_hangs_is_locked(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(server_locks, "LOCK_SECONDS", 0.2)
    with (folder.postgres / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="is locked: another process"):
            count_schema(folder)
    assert count_schema(folder) == NEWEST


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResultsError, match="a part of this path is a file"):
        count_schema(DataFolder(tmp_path / "file"))


def test_disk_that_takes_no_cluster(tmp_path: Path) -> None:
    new = DataFolder(tmp_path / "new")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({2**18}, {2**18}))\n"
    said = finish(start(USE_AND_REPORT, new, PRELUDE + limit))
    assert said.startswith("FillpathError The embedded Postgres in ")
    assert "cannot be made" in said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert [path.name for path in new.postgres.glob("cluster*")] == []


def test_full_disk_is_named(tmp_path: Path) -> None:
    from fillpath.analytics.postgres_cluster import complaint
    from fillpath.analytics.server_folder import ServerFolder

    output = 'initdb: error: could not write file "pg_wal": No space left on device\n'
    error = complaint(ServerFolder(tmp_path), "made", output, "ls")
    assert error.message == f"No space left for the results folder {tmp_path}."
    assert error.next_command is not None
    assert error.next_command.startswith("df ")


if IS_ROOT:

    def test_ordinary_user_has_a_server_of_its_own(public_folder: Path) -> None:
        own = DataFolder(public_folder / "data")
        assert finish(start(USE, own, PRELUDE + AS_NOBODY)) == "1"
        assert own.postgres.stat().st_uid == NOBODY.pw_uid
        assert finish(start(USE, own, PRELUDE + AS_NOBODY)) == "2"

    @pytest.mark.full
    def test_root_uses_the_server_of_an_ordinary_user(public_folder: Path) -> None:
        own = DataFolder(public_folder / "data")
        holder = start(HOLD, own, PRELUDE + AS_NOBODY)
        first_line(holder)
        assert count_schema(own) == NEWEST
        finish(holder)
        assert finish(start(USE, own, PRELUDE + AS_NOBODY)) == "1"

    def test_ordinary_user_has_no_use_of_roots_server(public_folder: Path) -> None:
        roots = DataFolder(public_folder / "data")
        with open_results_database(roots) as database:
            said = finish(start(USE_AND_REPORT, roots, PRELUDE + AS_NOBODY))
            assert said.startswith("FillpathError Cannot use the results folder")
            assert f"({roots.postgres} belongs to root)" in said
            # Even if it got to the socket, it could not log in.
            roots.postgres.chmod(0o711)
            dial = (
                f"try: ResultsDatabase({database.dsn!r}, embedded=True).connect()\n"
                "except FillpathError as error: print(error)\n"
            )
            assert "Peer authentication failed" in finish(start(dial, roots, PRELUDE + AS_NOBODY))

    def test_read_only_folder(public_folder: Path) -> None:
        public_folder.chmod(0o555)
        new = DataFolder(public_folder / "data")
        said = finish(start(USE_AND_REPORT, new, PRELUDE + AS_NOBODY))
        assert "FillpathError Cannot use the results folder" in said
        assert "has no permission" in said

    @pytest.mark.full
    def test_root_without_capabilities_to_hand_on(public_folder: Path, tmp_path: Path) -> None:
        # PR_SET_SECUREBITS: NO_CAP_AMBIENT_RAISE, locked, as a container might have it.
        lock = "import ctypes; assert ctypes.CDLL(None).prctl(28, 0xC0, 0, 0, 0) == 0\n"
        open_folder = DataFolder(public_folder / "data")
        said = finish(start(USE_AND_REPORT, open_folder, PRELUDE + lock))
        where = Path(sys.prefix).absolute()
        entered = all(path.stat().st_mode & 0o001 for path in (where, *where.parents))
        assert said == "1" if entered else "Permission denied" in said
        closed = DataFolder(tmp_path / "data")
        said = finish(start(USE_AND_REPORT, closed, PRELUDE + lock))
        assert said.startswith("FillpathError The embedded Postgres in ")

else:

    def test_folder_without_permission(folder: DataFolder) -> None:
        folder.path.chmod(0)
        try:
            with pytest.raises(ResultsError, match="has no permission"):
                count_schema(folder)
            assert server_status(folder.postgres).state == "unreadable"
        finally:
            folder.path.chmod(0o700)

    def test_own_read_only_folder(tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        try:
            with pytest.raises(ResultsError, match="has no permission"):
                count_schema(DataFolder(tmp_path / "data"))
        finally:
            tmp_path.chmod(0o700)


def test_server_of_the_users_own(
    shared: ResultsDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path / "data")
    monkeypatch.setenv(ENV_POSTGRES_DSN, shared.dsn)
    with open_results_database(folder) as database:
        assert not database.embedded
        with database.connect() as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert results_database_url(folder).dsn == shared.dsn
    assert not folder.path.exists()


def test_argument_wins_over_environment(
    shared: ResultsDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_POSTGRES_DSN, "postgresql://nobody.invalid/x")
    with open_results_database(DataFolder(tmp_path), shared.dsn) as database:
        assert database.dsn == shared.dsn


def unreachable(dsn: str, tmp_path: Path) -> BackendUnreachable:
    began = time.monotonic()
    with (
        pytest.raises(BackendUnreachable) as raised,
        open_results_database(DataFolder(tmp_path), dsn),
    ):
        pass
    assert time.monotonic() - began < 10
    assert raised.value.exit_code == 4
    everything = [str(raised.value), repr(raised.value)]
    cause: BaseException | None = raised.value
    while cause is not None:
        everything.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    assert SECRET not in " ".join(everything)
    return raised.value


def test_no_server_at_the_port(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = unreachable(f"postgresql://me:{SECRET}@127.0.0.1:{port}/db", tmp_path)
    assert f"postgresql://me@127.0.0.1:{port}/db" in error.message


def test_server_that_never_answers(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        dsn = f"host=127.0.0.1 port={deaf.getsockname()[1]} password={SECRET} connect_timeout=2"
        assert "timeout" in unreachable(dsn, tmp_path).message


def test_refused_login(shared: ResultsDatabase, tmp_path: Path) -> None:
    dsn = shared.dsn.replace("fillpath@", f"stranger:{SECRET}@", 1)
    assert "authentication failed" in unreachable(dsn, tmp_path).message


def test_refused_login_that_repeats_the_password(shared: ResultsDatabase, tmp_path: Path) -> None:
    dsn = shared.dsn.replace("fillpath@/fillpath", f"fillpath:{SECRET}@/no-{SECRET}", 1)
    with pytest.raises(FillpathError) as raised, open_results_database(DataFolder(tmp_path), dsn):
        pass
    assert "does not exist" in raised.value.message


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://me:{SECRET}@[host/db",
        f"me:{SECRET}@host",
        f"host=h pasword={SECRET}",
        f"postgresql://me:{SECRET}@host:port:more/db",
    ],
)
def test_connection_string_that_is_none(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(FillpathError) as raised, open_results_database(DataFolder(tmp_path), dsn):
        pass
    assert isinstance(raised.value, UsageError | BackendUnreachable)
    assert SECRET not in str(raised.value)


def test_description_keeps_secrets() -> None:
    assert describe_dsn(f"postgresql://me:{SECRET}@host:1/db") == "postgresql://me@host:1/db"
    options = describe_dsn(f"postgresql://host/db?password={SECRET}&sslmode=require")
    assert "***" in options
    assert SECRET not in options
    assert SECRET not in repr(ResultsDatabase(f"password={SECRET}", embedded=False))


def test_missing_server_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fillpath.analytics import postgres_programs
    from fillpath.instrumentation.errors import MissingExtra

    monkeypatch.setattr(postgres_programs, "SERVER_PACKAGE", "embedded-postgres-that-is-not-there")
    with pytest.raises(MissingExtra, match="postgres-embedded"):
        count_schema(DataFolder(tmp_path / "data"))
