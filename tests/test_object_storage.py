"""A lake in an object store: the same code, against a real S3-compatible server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from fillpath.analytics.cli import main
from fillpath.analytics.spool_checks import check_spools
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_storage import ObjectStorage
from fillpath.exporters.lineage import Lineage
from fillpath.exporters.parquet_file import read_parquet
from fillpath.exporters.reclaiming import plan_vacuum, vacuum
from fillpath.exporters.retention import plan_retention, remove_run
from fillpath.exporters.run_writer import app_id
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.exporters.tiers import move, plan_tiers
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.semconv import EventType, Fill
from fillpath.instrumentation.tracing import Tracing

sys.path.append(str(Path(__file__).parent))

from real_backends import program
from recorded_market import record_market

ROOT = Path(__file__).parent.parent
BUCKET = "lakes"
KEYS = {"AWS_ACCESS_KEY_ID": "fillpath", "AWS_SECRET_ACCESS_KEY": "fillpath-secret"}
START = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"


class Server:
    """The server over a folder, on a port of its own; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / BUCKET).mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [program("versitygw"), "--port", f"127.0.0.1:{self.port}", "posix", self.folder],
            env={
                **os.environ,
                "ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"],
                "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"],
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=5)  # noqa: S310 - it is http
            except urllib.error.HTTPError:
                return  # it answers that we may not
            except OSError:
                assert self.process.poll() is None, "versitygw does not start"
                time.sleep(0.02)
        raise AssertionError("versitygw does not answer")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": started.url}.items():
        monkeypatch.setenv(name, value)
    return started


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    shutil.rmtree(server.folder / BUCKET / request.node.name, ignore_errors=True)
    return f"s3://{BUCKET}/{request.node.name}"


def _spans(run_id: str, number: int, first: int = 1) -> pa.Table:
    rows = SpanRows()
    for sequence in range(first, first + number):
        rows.add(
            Span(
                run_id,
                b"\xab" * 16,
                sequence.to_bytes(8, "big"),
                None,
                sequence,
                None,
                "publish FILL",
                "PRODUCER",
                EventType.FILL,
                "demo/x",
                event_time=sequence * 1000,
                attributes={Fill.PRICE: Decimal(sequence), "note": "it's"},
            )
        )
    return rows.take()


def _all(store: EventStore, sql: str) -> list[tuple[Any, ...]]:
    return list(store.query(sql).rows)


def test_a_lake_in_an_object_store_answers_as_one_in_a_folder_does(
    tmp_path: Path, url: str
) -> None:
    stores = [EventStore(tmp_path / "local"), EventStore(tmp_path / "remote", url)]
    answers = []
    for store in stores:
        assert _all(store, "FROM spans") == _all(store, "FROM runs") == []
        for run_id in ("a", "b"):
            store.append_spans(_spans(run_id, 50), run_id, f"app-{run_id}", 1)
            store.append_spans(_spans(run_id, 50, 51), run_id, f"app-{run_id}", 2)
            store.record_run(RunRecord(run_id, "Running"))
            store.record_run(RunRecord(run_id, "Ended", kept=100, parameters={"x": 1}))
        answers.append(
            [
                _all(store, "FROM spans ORDER BY run_id, sequence"),
                _all(store, "SELECT * EXCLUDE (updated_at) FROM runs ORDER BY run_id"),
                _all(store, "SELECT run_id, sum(price) FROM spans GROUP BY 1 ORDER BY 1"),
                [record.kept for record in store.run_records()],
                {name: (facts.files, facts.rows) for name, facts in store.facts().items()},
            ]
        )
        assert not store.facts()["spans"].missing
    assert answers[0] == answers[1]
    assert not (tmp_path / "remote").exists()
    with pytest.raises(FillpathError, match="up to 2"):
        stores[1].append_spans(_spans("a", 1), "a", "app-a", 2)


def test_a_query_opens_only_the_files_that_can_hold_its_run(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore("data", url)
    for run_id in ("a", "b", "c"):
        store.append_spans(_spans(run_id, 10), run_id, "app-" + run_id, 1)
    opened: set[str] = set()
    real = ObjectStorage.open

    def noting(self: ObjectStorage, name: str) -> Any:
        opened.add(name)
        return real(self, name)

    monkeypatch.setattr(ObjectStorage, "open", noting)
    with store.connect(["b"]) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (10,)
    assert {name.split("-")[1] for name in opened} == {"b"}


def test_a_connection_reads_the_files_of_the_lake_and_writes_nothing(
    server: Server, url: str, tmp_path: Path
) -> None:
    store = EventStore("data", url)
    store.append_spans(_spans("r", 10), "r", "app", 1)
    (file,) = store.spans.files()
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    stored = server.folder / BUCKET / url.rpartition("/")[2] / "lake" / file.name
    before = stored.read_bytes()
    log = f"{url}/lake/_delta_log/00000000000000000000.json"
    with store.connect() as connection:
        for sql in (
            f"COPY (SELECT 1) TO '{file.address}' (USE_TMP_FILE false)",
            f"COPY (SELECT 1) TO '{url}/lake/new.csv'",
            f"FROM read_text('{log}')",
            f"FROM read_csv('{secret}')",
            f"FROM glob('{url}/*')",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (10,)
    assert stored.read_bytes() == before


def test_a_recorded_run_is_found_by_every_command(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("FILLPATH_LAKE", url)
    with Tracing("r1", data=data, portfolio="fund/x") as tracing:
        tracer = tracing.tracer
        with tracer.event("BAR", symbol="ACME"), tracer.event("SIGNAL", symbol="ACME"):
            pass
    monkeypatch.delenv("FILLPATH_LAKE")
    assert not (data / "lake").exists()

    def call(*words: str) -> Any:
        command = [sys.executable, "-P", "-c", START, *words, "--data", str(data), "--json"]
        done = subprocess.run([*command, "--lake", url], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    assert [run["run_id"] for run in call("runs", "list")] == ["r1"]
    assert call("sql", "SELECT count(*) AS n FROM spans") == [{"n": 2}]
    assert call("doctor")["passed"]
    assert call("store", "path")["lake"] == f"{url}/lake"


QUESTIONS = [
    ("runs", "list"),
    ("trace", "show", "latest"),
    ("trace", "show", "F-1"),
    ("trace", "path", "latest"),
    ("trace", "ancestors", "F-2", "--links"),
    ("trace", "descendants", "O-1", "--links"),
    ("sql", "SELECT count(*) FROM spans"),
    ("sql", "SELECT completeness, published, kept FROM runs"),
    ("sql", "SELECT portfolio, count(*) FROM fills GROUP BY 1"),
]


@pytest.mark.full
def test_every_question_has_the_answer_that_a_lake_in_a_folder_gives(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for run_id in ("r1", "r2"):
        record_market(data, run_id, trades=3)
    local, remote = EventStore(data), EventStore(data, url)
    for file in local.spans.files():
        assert file.run_id is not None
        remote.append_spans(read_parquet(file), file.run_id, app_id(file.run_id), 1)
    for record in local.run_records():
        remote.record_run(record)

    def call(*words: str) -> Any:
        code = main([*words, "--data", str(data), "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        answer = json.loads(said.out)
        if words[:2] == ("runs", "list"):  # when the rows were written is not the same
            return [{**row, "updated_at": None} for row in answer]
        return answer

    trace = call("trace", "show", "latest")["chains"][0]["trace_id"]
    chain = ("sql", f"SELECT sequence, name, attributes FROM chain('{trace}') ORDER BY sequence")
    assert len(call(*chain)) > 5
    for words in (*QUESTIONS, chain):
        assert call(*words, "--lake", url) == call(*words), words
    written: list[dict[str, bytes]] = []
    for lake in ((), ("--lake", url)):
        here = tmp_path / f"out{len(written)}"
        here.mkdir()
        for form, selected in (
            ("otlp-json", ()),
            ("otlp-json", ("--trace", "F-2")),
            ("otlp-json", ("--sampled",)),
            ("parquet", ("--trace", "F-2")),
        ):
            name = f"{form}{len(selected)}{'-'.join(selected)}"
            call("export", "r1", "--format", form, *selected, "-o", str(here / name), *lake)
        call("report", "r1", "-o", str(here / "report.html"), *lake)
        written.append({path.name: path.read_bytes() for path in here.iterdir()})
    reports = [files.pop("report.html").decode() for files in written]
    assert written[0] == written[1]
    assert len(written[0]) == 4
    assert reports[1].replace(f"{url}/lake", f"{data}/lake").count("F-2") == reports[0].count("F-2")
    assert f"{url}/lake" in reports[1]

    key = next(iter(read_parquet(local.spans.files()[0])["trace_id"].to_pylist())).hex()
    asked: list[Callable[[EventStore], pa.Table]] = [
        lambda store: store.find_chain(key),
        lambda store: store.find_span(trace[-16:]),
        lambda store: store.find_named("fill_id", "F-2"),
        lambda store: store.find_chain("f" * 32),
        lambda store: Lineage(store, "r2").fill_latencies(),
    ]
    for ask in asked:
        assert ask(remote).equals(ask(local))


WRITER = """
import sys, time
import pyarrow.parquet as pq
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.instrumentation.errors import LakeError
store, run, rows = EventStore("data", sys.argv[1]), sys.argv[2], pq.read_table(sys.argv[3])
for version in range(1, int(sys.argv[4]) + 1):
    for attempt in range(20):
        try:
            store.append_spans(rows, run, "app-" + run, version)
            break
        except LakeError:
            if attempt == 19:
                raise
            time.sleep(0.05)
    print(version, flush=True)
"""


def _writers(
    store: EventStore, url: str, folder: Path, number: int, commits: int
) -> list[subprocess.Popen[bytes]]:
    import pyarrow.parquet as pq

    started = []
    for run in (f"run{n}" for n in range(number)):
        rows = folder / f"{run}.parquet"
        pq.write_table(_spans(run, 7), rows)
        command = [sys.executable, "-P", "-c", WRITER, url, run, str(rows), str(commits)]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    return started


def _assert_exactly_once(store: EventStore, writers: int, commits: int) -> None:
    assert _all(store, "SELECT run_id, count(*) FROM spans GROUP BY 1 ORDER BY 1") == [
        (f"run{n}", 7 * commits) for n in range(writers)
    ]
    for n in range(writers):
        assert store.spans.transaction_version(f"app-run{n}") == commits
    assert len(store.spans.files()) == writers * commits


def test_several_processes_write_at_once(tmp_path: Path, url: str) -> None:
    store = EventStore(tmp_path, url)
    for process in _writers(store, url, tmp_path, 4, 5):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    _assert_exactly_once(store, 4, 5)
    table = DeltaTable(f"{url}/lake", storage_options=store.spans.storage.options)
    # One version for the making of the table, and one more for each that made it at the same time.
    assert 4 * 5 <= table.version() < 4 * 5 + 4


def test_small_files_are_put_together_and_what_they_replace_is_deleted(
    tmp_path: Path, server: Server, url: str
) -> None:
    store = EventStore(tmp_path, url)
    for version in range(1, 7):
        store.append_spans(_spans("r", 10, version * 10), "r", "app", version)
    store.record_run(RunRecord("r", "Ended", kept=60, ended_at=1))
    before = _all(store, "FROM spans ORDER BY sequence")
    for one in plan_compaction(store):
        assert compact(one)
    (file,) = store.spans.files()
    assert (file.stage, file.rows) == ("compact", 60)
    for tiering in plan_tiers(store, 10**18, warm_after=0, cold_after=10**18, interval=1):
        assert move(store, tiering)
    plan = plan_vacuum(store, grace_hours=0)
    assert len(plan.files) == 7
    vacuum(plan)
    assert _all(store, "FROM spans ORDER BY sequence") == before
    folder = server.folder / BUCKET / url.rpartition("/")[2] / "lake"
    assert [path.name for path in folder.glob("*.parquet")] == [store.spans.files()[0].name]
    for removal in plan_retention(store, 10**18, older_than=0):
        assert remove_run(store, removal)
    assert _all(store, "FROM spans") == _all(store, "FROM runs") == []


def test_a_server_that_is_killed_amid_commits_loses_and_repeats_nothing(
    tmp_path: Path, server: Server, url: str
) -> None:
    store = EventStore(tmp_path, url)
    writers = _writers(store, url, tmp_path, 3, 25)
    log = server.folder / BUCKET / url.rpartition("/")[2] / "lake/_delta_log"
    kills = 0
    deadline = time.monotonic() + 120
    while any(process.poll() is None for process in writers) and time.monotonic() < deadline:
        seen = len(list(log.glob("*.json")))
        # Wait for the next commit, and strike at another moment behind it each time.
        while (
            len(list(log.glob("*.json"))) == seen
            and any(process.poll() is None for process in writers)
            and time.monotonic() < deadline
        ):
            time.sleep(0.001)
        time.sleep((kills % 7) * 0.003)
        if kills < 10:
            server.kill()
            server.start()
            kills += 1
    for process in writers:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert kills >= 5
    _assert_exactly_once(store, 3, 25)


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore("data", url)
    store.append_spans(_spans("r", 5), "r", "app", 1)
    real = DeltaTable.create_write_transaction

    def answer_lost(self: DeltaTable, *arguments: Any, **keywords: Any) -> None:
        real(self, *arguments, **keywords)
        raise OSError("Generic S3 error: error sending request")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", answer_lost)
        store.append_spans(_spans("r", 5), "r", "app", 2)
    assert _all(store, "SELECT count(*) FROM spans") == [(10,)]


def test_a_store_that_does_not_answer_or_refuses_is_said_to(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, said in (
        ("AWS_SECRET_ACCESS_KEY", "wrong", "SignatureDoesNotMatch"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "refused"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(FillpathError, match=said) as caught:
                EventStore(tmp_path, url).query("FROM spans")
        assert caught.value.exit_code == 4
    with pytest.raises(FillpathError, match="NoSuchBucket"):
        EventStore(tmp_path, "s3://no-such-bucket/x").query("FROM spans")


@pytest.mark.parametrize("place", ["gs://bucket/x", "s3:///x", "file:///tmp/x"])
def test_a_url_that_is_none_of_an_object_store_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        EventStore("data", place)


def test_a_run_goes_to_the_lake_it_was_recorded_for_whoever_brings_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"

    def record(run_id: str, writer: Literal["process", "none"], lake: Path | None) -> None:
        with monkeypatch.context() as patch:
            if lake is not None:
                patch.setenv("FILLPATH_LAKE", str(lake))
            with Tracing(run_id, data=data, writer=writer) as tracing:
                tracing.tracer.open("BAR")

    record("here", "process", None)
    record("there", "process", other)  # by the same writer process
    record("waits", "none", other)
    stores = EventStore(data), EventStore(data, other)
    for expected in (["there"], ["there", "waits"]):
        assert [run.run_id for run in stores[0].run_records()] == ["here"]
        assert [run.run_id for run in stores[1].run_records()] == expected
        assert catch_up(stores[0].folder) == {}
        if "waits" not in expected:
            assert catch_up(stores[1].folder) == {"waits": "Ended"}
    findings = [one.finding for one in check_spools(stores[0].folder)]
    assert findings == [
        "2 of the runs here belong to another lake",
        "1 run is completely in the lake",
    ]
