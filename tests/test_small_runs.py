"""Many small runs in one file: found, compressed and let go one by one as if each had its own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fillpath.analytics import cli
from fillpath.exporters import compaction
from fillpath.exporters.compaction import SHARED_LABEL, compact, plan_compaction
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_table import LakeConflict
from fillpath.exporters.parquet_file import rows_of_runs
from fillpath.exporters.retention import plan_retention, remove_run
from fillpath.exporters.run_writer import app_id
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.exporters.span_selection import SpanSelection
from fillpath.exporters.tiers import move, plan_tiers
from fillpath.instrumentation import identity

RUNS = [f"sweep-{n:03d}" for n in range(20)]
LOOKED_AT = (RUNS[0], RUNS[11], RUNS[-1])
CHAINS = 30
CHAIN = 4
FOREIGN = bytes(range(16))


def spans(run_id: str, first: int = 1, chains: int = CHAINS) -> pa.Table:
    key, rows = identity.run_key(run_id), SpanRows()
    for root in range(first, first + chains * CHAIN, CHAIN):
        trace_id = identity.trace_id(key, root).to_bytes(16, "big")
        for sequence in range(root, root + CHAIN):
            rows.add(
                Span(
                    run_id,
                    FOREIGN if root == 1 + CHAIN else trace_id,
                    identity.span_id(key, sequence).to_bytes(8, "big"),
                    identity.span_id(key, sequence - 1).to_bytes(8, "big")
                    if sequence > root
                    else None,
                    sequence,
                    root,
                    "publish TICK",
                    "PRODUCER",
                    "TICK",
                    "fund/book",
                    event_time=sequence,
                    attributes={"trading.order.client_id": f"O-{root}", "n": sequence},
                )
            )
    return rows.take()


def fill(store: EventStore, run_ids: list[str], started: int = 1) -> None:
    for number, run_id in enumerate(run_ids):
        store.append_spans(spans(run_id), run_id, app_id(run_id), 1)
        kept = CHAINS * CHAIN
        store.record_run(RunRecord(run_id, "Ended", ended_at=started + number, kept=kept))


def everything(store: EventStore, view: str = "spans") -> list[tuple[Any, ...]]:
    return list(store.query(f"FROM {view} ORDER BY run_id, sequence").rows)


def put_together(store: EventStore) -> None:
    for one in plan_compaction(store):
        assert compact(one)


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    store = EventStore(tmp_path)
    fill(store, RUNS)
    return store


def found(store: EventStore, run_id: str) -> list[Any]:
    """All that the lookups find of a run."""
    key = identity.run_key(run_id)
    trace_id = f"{identity.trace_id(key, 41):032x}"
    with store.connect() as connection:
        sql = [
            connection.execute(
                f"SELECT run_id, sequence FROM {macro}(?) ORDER BY ALL", [name]
            ).fetchall()
            for macro in ("chain", "raw_chain")
            for name in (trace_id, FOREIGN.hex(), "0" * 31 + "1")
        ]
    return [
        store.find_chain(trace_id).to_pylist(),
        store.find_chain(trace_id, run_id).to_pylist(),
        store.find_chain(FOREIGN.hex(), run_id).to_pylist(),
        store.find_span(f"{identity.span_id(key, 42):016x}").to_pylist(),
        store.find_named("client_order_id", "O-41", run_id).to_pylist(),
        [row for b in SpanSelection(store, run_id).batches() for row in b.to_pylist()],
        sql,
    ]


def test_small_runs_share_a_file_and_everything_of_each_is_found(store: EventStore) -> None:
    before, runs = everything(store), everything(store, "(SELECT *, 0 AS sequence FROM runs)")
    lookups = {run_id: found(store, run_id) for run_id in LOOKED_AT}
    assert all(len(parts[0]) == CHAIN and len(parts[-1][0]) == CHAIN for parts in lookups.values())
    put_together(store)
    (file,) = store.spans.files()
    assert (file.label, file.stage, file.is_shared) == (SHARED_LABEL, "compact", True)
    assert file.rows == len(before)
    assert rows_of_runs(file) == dict.fromkeys(RUNS, CHAINS * CHAIN)
    assert everything(store) == before
    assert everything(store, "(SELECT *, 0 AS sequence FROM runs)") == runs
    for opened in (store, EventStore(store.folder)):
        assert {run_id: found(opened, run_id) for run_id in LOOKED_AT} == lookups
        opened.close()
    assert plan_compaction(store) == []


def test_row_groups_end_where_runs_do(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fillpath.exporters.lake_rewriting.ROW_GROUP_ROWS", 500)
    put_together(store)
    (file,) = store.spans.files()
    metadata = pq.ParquetFile(file.path).metadata
    place = store.spans.schema.get_field_index("run_id")
    ends = [
        metadata.row_group(number).column(place).statistics
        for number in range(metadata.num_row_groups)
    ]
    assert len(ends) == 5
    assert all(one.max < other.min for one, other in pairwise(ends))


def test_large_and_running_runs_and_a_few_small_ones_keep_their_files(
    store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.record_run(RunRecord(RUNS[3], "Running"))
    store.append_spans(spans("unknown"), "unknown", "app", 1)  # nothing says that it is finished
    (one, of_runs) = plan_compaction(store)
    assert of_runs.table is store.runs
    assert {file.run_id for file in one.files} == {*RUNS} - {RUNS[3]}
    assert plan_compaction(store, RUNS) == []
    few = EventStore(tmp_path / "few")
    fill(few, RUNS[:15])
    assert plan_compaction(few) == []
    monkeypatch.setattr(compaction, "SMALL_RUN_BYTES", 10)
    assert [one.table.name for one in plan_compaction(store)] == ["runs"]


def test_a_sweep_that_goes_on_fills_the_file_up_and_begins_another(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_together(store)
    fill(store, [f"a-{n}" for n in range(20)])
    before = everything(store)
    put_together(store)
    (file,) = store.spans.files()
    assert len(rows_of_runs(file)) == 40
    monkeypatch.setattr(compaction, "SHARED_BYTES", file.size)
    fill(store, [f"b-{n}" for n in range(20)])
    before += [row for row in everything(store) if row[0].startswith("b-")]
    put_together(store)
    assert file.name in {one.name for one in store.spans.files()}  # full: it is let be
    assert everything(store) == sorted(before, key=lambda row: (row[0], row[5]))


def test_a_run_that_goes_on_all_the_same_is_whole(store: EventStore) -> None:
    """Part of it in the shared file, part in one of its own."""
    run_id = RUNS[7]
    put_together(store)
    store.append_spans(spans(run_id, 1_001), run_id, app_id(run_id), 2)
    late = spans(run_id, 41, 1).to_pylist()[0]
    row = {**late, "sequence": 5_000, "span_id": b"\x01" * 8}
    rows = pa.Table.from_pylist([row], schema=store.spans.schema)
    store.append_spans(rows, run_id, app_id(run_id), 3)
    trace_id = f"{identity.trace_id(identity.run_key(run_id), 41):032x}"
    expected = [41, 42, 43, 44, 5_000]
    assert store.find_chain(trace_id)["sequence"].to_pylist() == expected
    with store.connect() as connection:
        rows_found = connection.execute(f"SELECT sequence FROM chain('{trace_id}') ORDER BY 1")
        assert [sequence for (sequence,) in rows_found.fetchall()] == expected
    # Causes are in one file and effects in the other, so nothing of it may give way to a summary.
    planned = plan_tiers(store, 10**18, warm_after=0, cold_after=0, interval=10**9)
    assert planned == []


def test_runs_go_out_of_a_shared_file_one_by_one(store: EventStore) -> None:
    fill(store, ["alone"], started=100)
    store.append_spans(spans("alone", 1_001), "alone", app_id("alone"), 2)
    put_together(store)
    size = sum(file.size for file in store.spans.files())
    plan = plan_retention(store, 10**18, keep_runs=0)
    assert [one.rows for one in plan] == [CHAINS * CHAIN] * 20 + [2 * CHAINS * CHAIN]
    assert size - len(RUNS) <= sum(one.bytes for one in plan) <= size
    by_size = plan_retention(store, 10**18, max_bytes=size * 3 // 4)
    assert 0 < len(by_size) < len(RUNS)
    for one in plan[:5]:
        assert remove_run(store, one)
    rest = {*RUNS[5:], "alone"}
    assert {row[0] for row in everything(store)} == rest == {r.run_id for r in store.run_records()}
    assert {run for file in store.spans.files() for run in rows_of_runs(file)} == rest
    fill(store, RUNS[:1])  # its id can be used again
    assert [len(part) for part in found(store, RUNS[0])[:3]] == [CHAIN] * 3
    for one in plan_retention(store, 10**18, keep_runs=0):
        assert remove_run(store, one)
    assert store.spans.files() == []
    assert store.run_records() == []


def test_of_a_compaction_and_a_removal_at_once_one_gives_way(store: EventStore) -> None:
    (plan, _) = plan_compaction(store)
    (removal, *_) = plan_retention(store, 10**18, keep_runs=19)
    assert remove_run(store, removal)
    assert compact(plan) is None
    assert {row[0] for row in everything(store)} == {*RUNS[1:]}
    put_together(store)
    assert len(store.spans.files()) == 1
    with pytest.raises(LakeConflict):
        store.spans.replace(plan.files, [], data_change=True)


def test_a_run_beside_a_shared_file_moves_to_its_tier(store: EventStore) -> None:
    put_together(store)
    fill(store, ["sweep-0075"])  # by its name it could be in the shared file
    (planned,) = plan_tiers(store, 10**18, warm_after=0, cold_after=10**18, interval=1)
    assert planned.record.run_id == "sweep-0075"
    assert move(store, planned)


def test_the_command_says_what_it_puts_together(
    store: EventStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> Any:
        assert cli.main(["store", *words, "--json", "--data", str(store.folder.path)]) == 0
        return json.loads(capsys.readouterr().out)

    assert call("stats")["small_files"] == 20
    done = call("compact")
    assert [(one["table"], one["run_id"], len(one["files"])) for one in done["plan"]] == [
        ("spans", None, 20),
        ("runs", None, 20),
    ]
    assert call("stats")["small_files"] == 0
    assert not done["failures"]
