"""Compaction, tiers, retention and vacuum: nothing goes that should not, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fillpath.analytics import cli
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.store_stats import show_stats
from fillpath.exporters import tiers
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_table import LakeConflict
from fillpath.exporters.reclaiming import plan_vacuum, vacuum
from fillpath.exporters.retention import plan_retention, remove_run
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.exporters.spool_folders import why_to_keep
from fillpath.exporters.thinning import COLUMNS_NEEDED, thin
from fillpath.instrumentation.errors import FillpathError, LakeError
from fillpath.instrumentation.semconv import EventType, Summary, Tick
from fillpath.instrumentation.spool import SUFFIX
from fillpath.instrumentation.tracing import Tracing

SECOND = 10**9
DAY = 86_400 * SECOND
FOREVER = 10_000 * DAY


def _id(sequence: int) -> bytes:
    return sequence.to_bytes(8, "big")


def _span(
    sequence: int,
    kind: str = EventType.BAR,
    parent: int | None = None,
    *,
    run_id: str = "r",
    time_ns: int | None = None,
    links: tuple[int, ...] = (),
    span_kind: str = "PRODUCER",
    **columns: Any,
) -> Span:
    operation = "process" if span_kind == "CONSUMER" else "publish"
    return Span(
        run_id,
        b"\xab" * 16,
        _id(sequence),
        None if parent is None else _id(parent),
        sequence,
        1,
        f"{operation} {kind}",
        span_kind,
        "DELIVERY" if span_kind == "CONSUMER" else kind,
        "demo/x",
        event_time=sequence * SECOND if time_ns is None else time_ns,
        links=[(b"\xab" * 16, _id(link)) for link in links],
        **columns,
    )


def _rows(spans: list[Span]) -> pa.Table:
    rows = SpanRows()
    for span in spans:
        rows.add(span)
    return rows.take()


def _fill(store: EventStore, run_id: str = "r", files: int = 6, each: int = 50) -> None:
    for version in range(1, files + 1):
        first = (version - 1) * each + 1
        rows = _rows([_span(n, run_id=run_id) for n in range(first, first + each)])
        store.append_spans(rows, run_id, f"app-{run_id}", version)


def _all(store: EventStore, sql: str) -> list[tuple[Any, ...]]:
    return list(store.query(sql).rows)


def _everything(store: EventStore) -> list[tuple[Any, ...]]:
    return _all(store, "FROM spans ORDER BY run_id, sequence, span_id")


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(tmp_path / "data")


class Call:
    """Calls `fillpath store` and reads its JSON."""

    def __init__(self, capsys: pytest.CaptureFixture[str], store: EventStore) -> None:
        self._capsys = capsys
        self._data = str(store.folder.path)

    def __call__(self, *words: str, code: int = 0) -> Any:
        given = cli.main(["store", *words, "--json", "--data", self._data])
        said, errors = self._capsys.readouterr()
        assert given == code, errors
        return json.loads(said) if said else errors


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], store: EventStore) -> Call:
    return Call(capsys, store)


# Compaction


def test_small_files_become_one_in_the_order_of_the_events(store: EventStore) -> None:
    _fill(store, "a")
    _fill(store, "b", files=3)
    later = _rows([_span(n, run_id="a") for n in range(25, 500, 50)])  # out of order
    store.append_spans(later, "a", "app-a", 7)
    before = _everything(store)
    (first, second) = plan_compaction(store)
    assert (first.run_id, len(first.files), first.rows) == ("a", 7, 310)
    assert compact(first)
    assert compact(second)
    assert _everything(store) == before
    files = store.spans.files()
    assert [(file.label, file.stage, file.rows) for file in files] == [
        ("a", "compact", 310),
        ("b", "compact", 150),
    ]
    sequences = pq.read_table(files[0].path)["sequence"].to_pylist()
    assert sequences == sorted(sequences)
    assert (files[0].smallest["sequence"], files[0].largest["sequence"]) == (1, 475)
    assert plan_compaction(store) == []
    assert store.spans.transaction_version("app-a") == 7
    commit = DeltaTable(store.spans.storage.uri).history(1)[0]
    assert commit


def test_compaction_says_in_the_log_that_no_row_has_changed(store: EventStore) -> None:
    _fill(store)
    compact(plan_compaction(store)[0])
    log = max((store.folder.lake / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    changes = [part["dataChange"] for one in actions for part in one.values() if "path" in part]
    assert changes == [False] * 7
    assert not any("txn" in one for one in actions)


def test_large_files_stay_as_they_are_and_new_ones_are_not_made_too_large(
    store: EventStore,
) -> None:
    _fill(store, files=12)
    size = store.spans.files()[0].size
    plan = plan_compaction(store, target_bytes=int(4.2 * size))
    assert [len(one.files) for one in plan] == [4, 4, 4]
    assert plan_compaction(store, target_bytes=size) == []
    for one in plan:
        compact(one, target_bytes=int(4.2 * size))
    assert len(store.spans.files()) == 3


def test_a_large_run_is_cut_into_files_of_the_target_size(store: EventStore) -> None:
    for version in range(2):
        first = version * 200_000 + 1
        base = _rows([_span(1)])
        n = 200_000
        rows = pa.concat_tables([base] * 1).take(pa.array([0] * n))
        place = rows.schema.get_field_index("sequence")
        sequence = pa.array(range(first, first + n), pa.int64())
        rows = rows.set_column(place, rows.schema.field(place), sequence)
        store.append_spans(rows, "r", "app", version + 1)
    (one,) = plan_compaction(store)
    new = compact(one, target_bytes=1)
    assert new is not None
    assert [file.rows for file in new] == [131_072, 131_072, 131_072, 6_784]
    assert sum(file.rows for file in store.spans.files()) == 400_000


def test_the_table_of_runs_is_put_together_with_the_newest_row_of_each(store: EventStore) -> None:
    for number in range(16):
        store.record_run(RunRecord(f"r{number}", "Running"))
    (one,) = plan_compaction(store)
    compact(one)
    assert len(store.runs.files()) == 1
    store.record_run(RunRecord("r3", "Ended", kept=5))
    store.record_run(RunRecord("r3", "Ended", kept=6))
    assert len(store.runs.files()) == 2
    records = {record.run_id: record for record in store.run_records()}
    assert len(records) == 16
    assert (records["r3"].status, records["r3"].kept) == ("Ended", 6)
    assert _all(store, "SELECT count(*) FROM runs WHERE status = 'Running'") == [(15,)]


WRITER = """
import sys, time
import pyarrow.parquet as pq
from fillpath.exporters.event_store import EventStore
store, rows = EventStore(sys.argv[1]), pq.read_table(sys.argv[2])
for version in range(1, 26):
    store.append_spans(rows, "r", "live", version)
"""
COMPACTOR = """
import sys, time
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore
store = EventStore(sys.argv[1])
print("ready", flush=True)
done = 0
while done < 5:
    for one in plan_compaction(store):
        done += compact(one) is not None
print(done)
"""


def test_a_live_writer_and_two_compactions_do_not_disturb_each_other(
    store: EventStore, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.parquet"
    pq.write_table(_rows([_span(n) for n in range(1, 21)]), rows)
    _fill(store, files=2, each=10)
    folder = str(store.folder.path)
    scripts = [
        [WRITER, folder, str(rows)],
        [COMPACTOR, folder],
        [COMPACTOR.replace("done < 5", "done < 3"), folder],
    ]
    processes = [
        subprocess.Popen([sys.executable, "-P", "-c", *script], stderr=subprocess.PIPE)
        for script in scripts
    ]
    try:
        _, errors = processes[0].communicate(timeout=120)
        assert processes[0].returncode == 0, errors.decode()
        time.sleep(0.5)
        for process in processes[1:]:
            assert process.poll() in {None, 0}, process.communicate()[1].decode()
    finally:
        for process in processes[1:]:
            process.kill()
            process.communicate()
    assert _all(store, "SELECT count(*) FROM spans") == [(20 + 25 * 20,)]
    assert store.spans.transaction_version("live") == 25
    assert any(file.stage == "compact" for file in store.spans.files())


def test_of_two_who_replace_the_same_files_one_gives_way(store: EventStore) -> None:
    _fill(store)
    (one,) = plan_compaction(store)
    (same,) = plan_compaction(EventStore(store.folder))
    assert compact(one)
    assert compact(same) is None
    assert _all(store, "SELECT count(*) FROM spans") == [(300,)]
    names = {file.name for file in store.spans.files()}
    left = {path.name for path in store.folder.lake.glob("*.compact.parquet")}
    assert left == names
    with pytest.raises(LakeConflict):
        store.spans.replace(one.files, [], data_change=True)


DYING = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from deltalake import DeltaTable
from fillpath.exporters import parquet_file
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.tiers import move, plan_tiers
folder, verb, step, nth = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
calls = 0
def dying(owner, name, before):
    real = getattr(owner, name)
    def wrapped(*arguments, **keywords):
        global calls
        calls += 1
        if before and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **keywords)
        if not before and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)
store = EventStore(folder)
if verb == "compact":
    plan = plan_compaction(store)
else:
    plan = plan_tiers(store, 2 * 10**18, warm_after=0, cold_after=0, interval=10 * 10**9)
assert plan
{
    "write": lambda: dying(pq.ParquetWriter, "write_table", False),
    "close": lambda: dying(pq.ParquetWriter, "close", False),
    "fsync": lambda: dying(os, "fsync", True),
    "rename": lambda: dying(Path, "rename", True),
    "renamed": lambda: dying(Path, "rename", False),
    "commit": lambda: dying(DeltaTable, "create_write_transaction", True),
    "committed": lambda: dying(DeltaTable, "create_write_transaction", False),
    "record": lambda: dying(EventStore, "record_run", True),
}[step]()
for one in plan:
    compact(one) if verb == "compact" else move(store, one)
"""
STEPS = ["write", "close", "fsync", "rename", "renamed", "commit", "committed"]


def _die(store: EventStore, verb: str, step: str, nth: int = 1) -> None:
    command = [sys.executable, "-P", "-c", DYING, str(store.folder.path), verb, step, str(nth)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def _age_everything(store: EventStore) -> None:
    for table in (store.folder.lake, store.folder.runs):
        for path in table.glob("**/*.parquet*"):
            os.utime(path, (1, 1))
        for path in table.glob("**/.*.tmp"):
            os.utime(path, (1, 1))


@pytest.mark.parametrize("step", STEPS)
def test_a_compaction_that_is_killed_leaves_the_old_or_the_new_files(
    store: EventStore, step: str
) -> None:
    _fill(store)
    before = _everything(store)
    _die(store, "compact", step)
    assert _everything(store) == before
    assert len(store.spans.files()) == (1 if step == "committed" else 6)
    for one in plan_compaction(store):
        assert compact(one)
    assert _everything(store) == before
    _age_everything(store)
    vacuum(plan_vacuum(store, grace_hours=0))
    named = {file.name for file in store.spans.files()}
    assert {path.name for path in store.folder.lake.iterdir()} == named | {"_delta_log"}
    assert _everything(store) == before


FAILING = """
import os, resource, signal, sys
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.instrumentation.errors import LakeError
store = EventStore(sys.argv[1])
plan = plan_compaction(store)
if sys.argv[2] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
elif os.geteuid() == 0:
    os.seteuid(65534)
try:
    compact(plan[0])
except LakeError as error:
    print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that any user may read."""
    folder = Path(tempfile.mkdtemp(prefix="fillpath-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("trouble", "said"), [("full", "File too large"), ("read-only", "Permission denied")]
)
def test_a_full_disk_or_a_read_only_folder_ends_a_compaction_without_loss(
    open_folder: Path, trouble: str, said: str
) -> None:
    store = EventStore(open_folder)
    _fill(store)
    before = _everything(store)
    if trouble == "read-only":
        store.folder.lake.chmod(0o555)
    command = [sys.executable, "-P", "-c", FAILING, str(open_folder), trouble]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert said in done.stdout.decode()
    assert str(store.folder.lake) in done.stdout.decode()
    assert _everything(store) == before
    assert [path.name for path in store.folder.lake.iterdir() if "compact" in path.name] == []


def test_a_newer_lake_is_refused_by_every_verb(store: EventStore, call: Call) -> None:
    _fill(store, files=2)
    log = store.folder.lake / "_delta_log/00000000000000000000.json"
    text = log.read_text()
    log.write_text(text.replace('"fillpath.schemaVersion":"2"', '"fillpath.schemaVersion":"9"'))
    before = sorted(path.name for path in store.folder.lake.iterdir())
    for words in (
        ("stats",),
        ("compact",),
        ("tier", "--warm-after", "0s", "--yes"),
        ("retain", "--keep-runs", "0", "--yes"),
        ("vacuum", "--grace", "0h", "--yes"),
    ):
        assert "schema version 9" in call(*words, code=1)
    assert sorted(path.name for path in store.folder.lake.iterdir()) == before


# Tiers

KINDS = [EventType.TICK, EventType.FEATURES, EventType.SIGNAL, EventType.BAR, "DELIVERY"]


@st.composite
def markets(draw: st.DrawFn) -> list[Span]:
    spans: list[Span] = []
    for sequence in range(1, draw(st.integers(1, 40)) + 1):
        parent = draw(st.integers(0, sequence - 1)) or None
        kind = draw(st.sampled_from(KINDS))
        handler = kind == "DELIVERY" and parent is not None
        links = draw(st.sets(st.integers(1, sequence), max_size=1)) - {sequence}
        spans.append(
            _span(
                sequence,
                EventType.BAR if kind == "DELIVERY" else kind,
                parent,
                time_ns=draw(st.integers(0, 5)) * SECOND,
                links=tuple(links) if not handler else (),
                span_kind="CONSUMER" if handler else "PRODUCER",
                symbol=draw(st.sampled_from(["A", None])),
                attributes={Tick.PRICE: draw(st.integers(1, 9))},
            )
        )
    return spans


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), st.integers(1, 4))
def test_thinning_keeps_every_cause_and_every_kind_but_the_two(
    spans: list[Span], seconds: int
) -> None:
    table = _rows(spans)
    thinning = thin(table.select(list(COLUMNS_NEEDED)), seconds * SECOND)
    kept = {span.sequence for span, stays in zip(spans, thinning.kept, strict=True) if stays}
    by_id = {span.span_id: span.sequence for span in spans}
    for span in spans:
        gone = span.sequence not in kept
        handler = span.span_kind == "CONSUMER"
        if gone:
            assert handler or span.event_type in {EventType.TICK, EventType.FEATURES}
        else:
            causes = [span.parent_span_id, *(link[1] for link in span.links)]
            assert all(by_id[cause] in kept for cause in causes if cause is not None)
        if handler and span.parent_span_id is not None:
            assert gone == (by_id[span.parent_span_id] not in kept)
    events = [span for span in spans if span.span_kind == "PRODUCER"]
    removed = sum(span.sequence not in kept for span in events)
    assert sum(thinning.removed.values()) == removed
    # The last of every group stays and stands for all of it.
    groups: dict[Any, list[Span]] = {}
    for span in events:
        if span.event_type in {EventType.TICK, EventType.FEATURES}:
            bucket = (span.event_time or 0) // (seconds * SECOND)
            groups.setdefault((span.event_type, span.symbol, bucket), []).append(span)
    for group in groups.values():
        last = max(group, key=lambda span: (span.event_time or 0, span.sequence))
        assert last.sequence in kept
        summary = thinning.summaries.get(last.sequence - 1)
        assert (summary[Summary.COUNT] if summary else 1) == len(group)


def _market(run_id: str = "r") -> list[Span]:
    """Ticks of ten seconds, each with features; the 25th leads to a signal."""
    spans: list[Span] = []
    for number in range(40):
        sequence = 3 * number + 1
        tick = {Tick.PRICE: 100 + number % 7, Tick.SIZE: number}

        def one(kind: str, parent: int | None = None, **attributes: Any) -> Span:
            return _span(
                1 + len(spans),
                kind,
                parent,
                run_id=run_id,
                time_ns=number * SECOND // 4,  # noqa: B023 - it is called at once
                symbol="ACME",
                **attributes,
            )

        spans.append(one(EventType.TICK, attributes=tick))
        spans.append(one(EventType.FEATURES, sequence))
        kind = EventType.SIGNAL if number == 25 else EventType.FEATURES
        spans.append(one(kind, sequence + 1))
    return spans


def _finished(store: EventStore, run_id: str = "r", *, days_ago: float = 100) -> None:
    spans = _market(run_id)
    for version, first in enumerate(range(0, 120, 40), start=1):
        rows = _rows(spans[first : first + 40])
        store.append_spans(rows, run_id, f"app-{run_id}", version)
    counts = {EventType.TICK: 40, EventType.FEATURES: 79, EventType.SIGNAL: 1}
    store.record_run(
        RunRecord(
            run_id,
            "Ended",
            started_at=time.time_ns() - int(days_ago * DAY) - SECOND,
            ended_at=time.time_ns() - int(days_ago * DAY),
            published=121,
            kept=120,
            sampled_out=1,
            completeness=[
                {
                    "portfolio": "demo/x",
                    "event_type": kind,
                    "published": number + (kind == EventType.TICK),
                    "kept": number,
                    "sampled_out": int(kind == EventType.TICK),
                    "dropped": {},
                }
                for kind, number in counts.items()
            ],
        )
    )


def _plan(store: EventStore, **given: Any) -> list[tiers.Tiering]:
    ages = {"warm_after": 7 * DAY, "cold_after": 90 * DAY, "interval": 5 * SECOND, **given}
    return tiers.plan_tiers(store, time.time_ns(), **ages)


def test_a_warm_run_has_the_same_rows_in_one_file_and_is_moved_once(store: EventStore) -> None:
    _finished(store, days_ago=10)
    before = _everything(store)
    (one,) = _plan(store)
    assert (one.tier, one.rows_removed) == ("warm", 0)
    assert tiers.move(store, one)
    assert _everything(store) == before
    assert [file.stage for file in store.spans.files()] == ["warm"]
    assert _plan(store) == []
    assert plan_compaction(store) == []


def test_a_cold_run_keeps_bars_of_its_ticks_and_what_led_to_the_signal(store: EventStore) -> None:
    _finished(store)
    (one,) = _plan(store)
    assert one.tier == "cold"
    assert dict(one.removed) == {("demo/x", "TICK"): 37, ("demo/x", "FEATURES"): 74}
    tiers.move(store, one)
    assert _plan(store) == []
    kinds = "SELECT event_type, count(*) FROM spans GROUP BY 1 ORDER BY 1"
    assert _all(store, kinds) == [("FEATURES", 5), ("SIGNAL", 1), ("TICK", 3)]
    bars = _all(
        store,
        """
        SELECT sequence, [attributes->>('trading.summary.' || part) FOR part IN
            ['count', 'first_time', 'open', 'high', 'low', 'close', 'volume']]
        FROM spans WHERE attributes->>'trading.summary.count' IS NOT NULL
            AND event_type = 'TICK' ORDER BY 1
        """,
    )
    assert bars == [
        (58, ["20", "0", "100", "106", "100", "105", "190"]),
        (118, ["20", "5000000000", "106", "106", "100", "104", "590"]),
    ]
    orphans = """
        SELECT count(*) FROM spans AS s WHERE parent_span_id IS NOT NULL
        AND NOT EXISTS (FROM spans AS p WHERE p.span_id = s.parent_span_id)
    """
    assert _all(store, orphans) == [(0,)]


def _assert_adds_up(store: EventStore) -> None:
    (record,) = store.run_records()
    assert record.published == record.kept + record.sampled_out + record.dropped
    held = dict(_all(store, "SELECT event_type, count(*) FROM spans GROUP BY 1"))
    for row in record.completeness:
        assert row["kept"] == held.get(row["event_type"], 0)
        assert row["published"] == row["kept"] + row["sampled_out"]
    by_kind = {row["event_type"]: row for row in record.completeness}
    assert by_kind[EventType.TICK][tiers.SUMMARISED] == 37
    assert by_kind[EventType.TICK]["sampled_out"] == 38
    assert tiers.SUMMARISED not in by_kind[EventType.SIGNAL]
    story = tiers.told_tier(record)
    assert story is not None
    assert (story["rows_before"], story["rows_removed"]) == (120, 111)


def test_what_a_cold_run_has_lost_is_counted_and_said(store: EventStore, call: Call) -> None:
    _finished(store)
    (one,) = _plan(store)
    tiers.move(store, one)
    _assert_adds_up(store)
    assert tiers.mend_records(store) == 0
    stats = call("stats")
    assert stats["tiers"] == {"cold": {"files": 1, "rows": 9, "bytes": stats["spans"]["bytes"]}}
    assert stats["summarised"][0]["rows_removed"] == 111


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 finished spools"), (1, "1 finished spool,"), (2, "2 finished spools")],
)
def test_spools_that_are_not_needed_are_counted_in_words(
    store: EventStore, capsys: pytest.CaptureFixture[str], number: int, words: str
) -> None:
    for one in range(number):
        _finished(store, f"r{one}")
        (store.folder.spool / f"r{one}").mkdir(parents=True)
        (store.folder.spool / f"r{one}" / f"000001{SUFFIX}").write_bytes(b"x")
    show_stats(Invocation(data=str(store.folder.path)))
    assert words in capsys.readouterr().out


def test_a_kind_that_the_run_holds_critical_stays_whole(store: EventStore) -> None:
    _finished(store)
    (record,) = store.run_records()
    sampling = {"critical_kinds": ["TICK", "SIGNAL"]}
    store.record_run(replace(record, metadata={"sampling": sampling}))
    (one,) = _plan(store)
    assert ("demo/x", "TICK") not in one.removed
    (whole,) = _plan(store, summarise=False)
    assert whole.rows_removed == 0


def test_a_running_run_is_in_no_plan(store: EventStore) -> None:
    _fill(store)
    store.record_run(RunRecord("r", "Running", started_at=1, pid=os.getpid()))
    assert _plan(store) == []
    assert plan_retention(store, time.time_ns(), older_than=0, keep_runs=0, max_bytes=0) == []


@pytest.mark.parametrize("step", ["rename", "commit", "committed", "record"])
def test_a_tiering_that_is_killed_leaves_a_whole_run_or_a_cold_one(
    store: EventStore, step: str
) -> None:
    _finished(store)
    before = _everything(store)
    _die(store, "tier", step)
    cold = step in {"committed", "record"}
    assert (_everything(store) == before) is not cold
    assert tiers.mend_records(store) == int(cold)
    interval = 10 if cold else 5
    for one in _plan(store):
        tiers.move(store, one)
    if interval == 5:
        _assert_adds_up(store)
    else:
        (record,) = store.run_records()
        assert record.kept == len(_everything(store))
        assert record.published == record.kept + record.sampled_out


# Retention and vacuum


def test_runs_go_by_age_by_number_and_by_size_the_oldest_first(store: EventStore) -> None:
    for number, days in enumerate((100, 50, 10)):
        _finished(store, f"r{number}", days_ago=days)
    now = time.time_ns()

    def chosen(**rule: Any) -> list[str]:
        return [one.record.run_id for one in plan_retention(store, now, **rule)]

    assert chosen(older_than=90 * DAY) == ["r0"]
    assert chosen(older_than=20 * DAY) == ["r0", "r1"]
    assert chosen(keep_runs=1) == ["r0", "r1"]
    assert chosen(keep_runs=3) == chosen(older_than=FOREVER) == chosen(max_bytes=10**9) == []
    total = sum(file.size for file in store.spans.files())
    assert chosen(max_bytes=total - 1) == ["r0"]
    assert chosen(max_bytes=0) == ["r0", "r1", "r2"]
    (first, *_) = plan_retention(store, now, keep_runs=1)
    assert (first.rows, first.reason) == (120, "is not among the newest 1")


def test_a_run_that_goes_leaves_nothing_and_its_id_can_be_used_again(tmp_path: Path) -> None:
    store = EventStore(tmp_path)

    def record(run_id: str, events: int) -> None:
        with Tracing(run_id, data=tmp_path, writer="inline") as tracing:
            for _ in range(events):
                with tracing.tracer.event("BAR", symbol="ACME"):
                    pass

    record("r1", 300)
    record("r2", 5)
    removals = plan_retention(store, time.time_ns() + DAY, keep_runs=1)
    assert [one.record.run_id for one in removals] == ["r1"]
    assert removals[0].spool_bytes > 0
    assert remove_run(store, removals[0])
    assert _all(store, "SELECT run_id, count(*) FROM spans GROUP BY 1") == [("r2", 5)]
    assert [record.run_id for record in store.run_records()] == ["r2"]
    assert not (store.folder.spool / "r1").exists()
    record("r1", 3)
    counts = "SELECT run_id, count(*) FROM spans GROUP BY 1 ORDER BY 1"
    assert _all(store, counts) == [("r1", 3), ("r2", 5)]
    assert {record.run_id: record.kept for record in store.run_records()} == {"r1": 3, "r2": 5}


def test_a_run_goes_from_files_that_hold_others_too(store: EventStore) -> None:
    for number in range(16):
        _finished(store, f"r{number:02}", days_ago=20 - number)
    for one in plan_compaction(store):
        if one.run_id is None:
            compact(one)
    assert len(store.runs.files()) == 1
    for removal in plan_retention(store, time.time_ns(), keep_runs=14):
        assert remove_run(store, removal)
    assert [record.run_id for record in store.run_records()] == [f"r{n:02}" for n in range(2, 16)]
    assert _all(store, "SELECT min(run_id), count(*) FROM spans") == [("r02", 14 * 120)]


def test_vacuum_deletes_replaced_files_and_leftovers_and_no_others(store: EventStore) -> None:
    _fill(store)
    compact(plan_compaction(store)[0])
    before = _everything(store)
    lake = store.folder.lake
    leftovers = [lake / "spans-r-0123456789ab.parquet", lake / ".spans-r-0123456789ab.parquet.tmp"]
    fresh = lake / "spans-r-ba9876543210.parquet"
    for path in (*leftovers, fresh):
        path.write_bytes(b"PAR1")
    foreign = lake / "notes.parquet"
    foreign.write_bytes(b"mine")
    for path in (*leftovers, foreign):
        os.utime(path, (1, 1))
    assert [Path(one.name) for one in plan_vacuum(store).shown] == sorted(leftovers)
    plan = plan_vacuum(store, grace_hours=0)
    assert len(plan.files) == 6 + 2
    vacuum(plan)
    assert _everything(store) == before
    named = {file.name for file in store.spans.files()}
    assert {path.name for path in lake.iterdir()} == {
        *named, foreign.name, fresh.name, "_delta_log",
    }  # fmt: skip


def test_spools_of_finished_runs_go_only_when_all_of_them_is_in_the_lake(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for run_id in ("whole", "short", "waiting"):
        waits = run_id == "waiting"
        with Tracing(run_id, data=tmp_path, writer="none" if waits else "inline") as tracing:
            tracing.tracer.open("BAR")
    records = {record.run_id: record for record in store.run_records()}
    store.record_run(replace(records["short"], spool_block=1))
    plan = plan_vacuum(store, spools=True)
    kept = {Path(one.name).name: one.reason for one in plan.shown if one.kept}
    assert set(kept) == {"short", "waiting"}
    assert kept["waiting"] == "the run is not finished"
    assert "not in the lake" in kept["short"]
    assert vacuum(plan) == 0
    assert not list((store.folder.spool / "whole").glob("*.spool"))
    assert list((store.folder.spool / "short").glob("*.spool"))
    with pytest.raises(FillpathError, match="already has a spool"):
        Tracing("whole", data=tmp_path).start()
    damaged = next((store.folder.spool / "short").glob("*.spool"))
    content = bytearray(damaged.read_bytes())
    content[40] ^= 0xFF
    damaged.write_bytes(content)
    assert "damaged" in (why_to_keep(damaged.parent, records["short"]) or "")


# The command line


def test_every_destructive_verb_shows_its_plan_and_waits_for_yes(
    store: EventStore, call: Call
) -> None:
    _finished(store)
    _fill(store, "s", files=2)
    before = _everything(store)
    verbs = [
        ("tier", "--cold-after", "1d", "--interval", "5s"),
        ("retain", "--older-than", "90d"),
    ]
    for words in verbs:
        shown = call(*words)
        assert shown["done"] is False
        assert [step["run_id"] for step in shown["plan"]] == ["r"]
        assert all(step["reason"] and step["bytes"] > 0 for step in shown["plan"])
        assert _everything(store) == before
    assert call("compact", "--plan")["done"] is False
    assert len(call("compact")["plan"]) == 2
    assert _everything(store) == before
    assert call("tier", "--cold-after", "1d", "--yes")["plan"][0]["done"]
    assert len(_everything(store)) < len(before)
    assert call("tier", "--cold-after", "1d", "--yes")["plan"] == []
    files = len(list(store.folder.lake.glob("*.parquet")))
    assert len(call("vacuum", "--grace", "0h")["plan"]) > 0
    assert len(list(store.folder.lake.glob("*.parquet"))) == files
    assert call("vacuum", "--grace", "0h", "--yes")["done"]
    assert len(list(store.folder.lake.glob("*.parquet"))) == len(store.spans.files()) == 2
    assert call("retain", "--keep-runs", "0", "--yes")["done"]
    assert _all(store, "SELECT DISTINCT run_id FROM spans") == [("s",)]


@pytest.mark.parametrize(
    "words",
    [
        ("retain",),
        ("retain", "--older-than", "soon"),
        ("retain", "--max-size", "10 parsecs"),
        ("tier", "--interval", "0s"),
        ("compact", "--target-size", "0"),
        ("vacuum", "--grace", "-1h"),
    ],
)
def test_a_rule_that_makes_no_sense_is_a_usage_error(call: Call, words: tuple[str, ...]) -> None:
    assert call(*words, code=2)


def test_an_empty_store_has_nothing_to_do(store: EventStore, call: Call) -> None:
    assert call("stats")["spans"] == {"files": 0, "rows": 0, "bytes": 0}
    for verb in ("compact", "tier", "vacuum"):
        assert call(verb)["plan"] == []
    assert not store.folder.path.exists()


def test_a_file_that_could_not_be_written_is_gone_again(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(store)
    (one,) = plan_compaction(store)

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", failing)
        with pytest.raises(LakeError, match="No space left"):
            compact(one)
    assert not [path for path in store.folder.lake.iterdir() if "compact" in path.name]
