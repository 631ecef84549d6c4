"""An id that a host brought along, and is not there, is not looked for in any row group."""

from __future__ import annotations

import random
import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fillpath.exporters.bloom_filters import BYTES_A_ROW, filter_bytes, filters_worth_having
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.exporters.tiers import move, plan_tiers
from fillpath.instrumentation import identity

CHAIN = 5
LONG_AGO = 10**18
NAMES = ("client_order_id", "order_id", "fill_id", "position_id", "correlation_id")


def spans(
    run_id: str, first: int, chains: int, *, foreign: bool, name: str | None = None, every: int = 20
) -> pa.Table:
    """Chains with ids as random as they come; every so manieth has an order."""
    key, chance, rows = identity.run_key(run_id), random.Random(first), SpanRows()
    for root in range(first, first + CHAIN * chains, CHAIN):
        trace_id = identity.trace_id(key, root)
        if foreign:
            trace_id = chance.getrandbits(128)
        if name is not None:
            trace_id = identity.trace_id_of_correlation(run_id, f"{name}-{root}")
        has_order = (root - first) // CHAIN % every == 0
        attributes = {
            "trading.order.client_id": f"{chance.getrandbits(64):016x}",
            "trading.order.id": str(uuid.UUID(int=chance.getrandbits(128))),
        }
        for sequence in range(root, root + CHAIN):
            rows.add(
                Span(
                    run_id,
                    trace_id.to_bytes(16, "big"),
                    identity.span_id(key, sequence).to_bytes(8, "big"),
                    None,
                    sequence,
                    root,
                    "publish ORDER",
                    "PRODUCER",
                    "ORDER",
                    "fund/book",
                    start_time=sequence,
                    end_time=sequence + 1,
                    correlation_id=None if name is None else f"{name}-{root}",
                    attributes=attributes if has_order else {},
                )
            )
    return rows.take()


def filtered(file: LakeFile) -> set[str]:
    """Columns of which every row group has a filter."""
    metadata = pq.ParquetFile(file.path).metadata
    groups = [metadata.row_group(n).to_dict()["columns"] for n in range(metadata.num_row_groups)]
    return set.intersection(
        *(
            {c["path_in_schema"] for c in columns if c.get("bloom_filter_offset") is not None}
            for columns in groups
        )
    )


def scanned(store: EventStore, condition: str) -> tuple[int, int]:
    """How many row groups a search reads, of how many."""
    with store.connect() as connection:
        (_, plan), *_ = connection.execute(
            f"EXPLAIN ANALYZE SELECT * FROM raw_spans WHERE {condition}"
        ).fetchall()
    found = re.search(r"Row Groups Scanned: (\d+) / (\d+)", plan)
    assert found is not None, plan
    return int(found[1]), int(found[2])


def passed_on(store: EventStore) -> Any:
    """The store as it is written, and after everything that writes its files anew."""
    yield "hot"
    (one,) = plan_compaction(store)
    assert compact(one)
    yield "compact"
    for tier, cold_after in (("warm", 10**18), ("cold", 0)):
        for planned in plan_tiers(
            store, LONG_AGO, warm_after=0, cold_after=cold_after, interval=1, summarise=False
        ):
            assert move(store, planned) is not None
        yield tier


def test_an_absent_trace_id_of_a_host_reads_no_row_group_in_any_tier(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for version in range(3):
        rows = spans("run", version * 20_000 + 1, 3_000, foreign=True)
        store.append_spans(rows, "run", "app", version + 1)
    store.record_run(RunRecord("run", "Ended", ended_at=1))
    there = store.spans.files()[0]
    known = pq.read_table(there.path)["trace_id"][7].as_py()
    order = pq.read_table(there.path)["order_id"][0].as_py()
    absent = (known[:8] + bytes(8)).hex()
    for stage in passed_on(store):
        files = store.spans.files()
        assert {file.stage for file in files} == {stage}
        for file in files:
            assert filtered(file) == {"trace_id", "client_order_id", "order_id"}
        read, groups = scanned(store, f"trace_id = unhex('{absent}')")
        assert (read, groups >= 2) == (0, True)
        assert scanned(store, f"order_id = '{order[:9]}aaaa{order[13:]}'")[0] == 0
        assert scanned(store, f"trace_id = unhex('{known.hex()}')")[0] == 1
        assert store.find_chain(absent).num_rows == 0
        assert store.find_chain(known.hex()).num_rows == CHAIN
        assert store.find_named("order_id", order).num_rows == CHAIN
        store.close()


def test_trace_ids_of_our_own_need_no_filter_and_are_told_apart_without(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for version in range(2):
        rows = spans("run", version * 100_000 + 1, 7_000, foreign=False)
        store.append_spans(rows, "run", "app", version + 1)
    store.record_run(RunRecord("run", "Ended", ended_at=1))
    key = identity.run_key("run")
    for _ in passed_on(store):
        assert all("trace_id" not in filtered(file) for file in store.spans.files())
        trace_id = f"{identity.trace_id(key, 20_001):032x}"
        read, groups = scanned(store, f"trace_id = unhex('{trace_id}')")
        assert (read, groups >= 3) == (1, True)


def test_a_filter_is_as_large_as_what_is_in_it_wants(tmp_path: Path) -> None:
    few = spans("run", 1, 40, foreign=True)
    many = spans("run", 1, 4_000, foreign=True)
    assert filters_worth_having(few)["trace_id"] == 40
    assert filters_worth_having(many)["trace_id"] == 4_000
    assert filter_bytes(40) == 64
    assert filter_bytes(4_000) == 8_192
    assert filter_bytes(0) == 0
    store = EventStore(tmp_path)
    store.append_spans(few, "run", "app", 1)
    with store.connect() as connection:
        (file,) = store.spans.files()
        (length,) = connection.execute(
            "SELECT bloom_filter_length FROM parquet_metadata(?) WHERE path_in_schema = 'trace_id'",
            [str(file.path)],
        ).fetchall()[0]
    assert length < 100


@pytest.mark.parametrize("every", [1, 2, 5, 20, 100])
def test_filters_of_names_take_no_more_than_their_share(tmp_path: Path, every: int) -> None:
    rows = spans("run", 1, 6_000, foreign=False, name="deal", every=every)
    found = filters_worth_having(rows)
    assert sum(filter_bytes(found[n]) for n in NAMES if n in found) <= BYTES_A_ROW * len(rows)
    assert ("order_id" in found) is (every >= 5)
    assert "trace_id" in found  # a name's trace id is as good as random


def test_rows_of_several_runs_get_a_filter_for_their_trace_ids() -> None:
    rows = pa.concat_tables([spans(name, 1, 10, foreign=False) for name in ("a", "b")])
    assert "trace_id" in filters_worth_having(rows)
    assert filters_worth_having(rows.slice(0, 0)) == {}
