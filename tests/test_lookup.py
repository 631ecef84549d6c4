"""Spans found by their ids: the right ones, and without reading what cannot hold them."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from fillpath.analytics.span_places import spans_by_id, spans_named
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.exporters.tiers import move, plan_tiers
from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import LakeError

FILES = 6
CHAINS_A_FILE = 40
HOST_UUID = "0b9e2b6c-7c5e-4f7a-9f3d-2f6a3c1d9e10"
NAME = "trade 7 / été"


def made_span(run_id: str, sequence: int, root: int, parent: int | None, **parts: Any) -> Span:
    key = identity.run_key(run_id)
    span = Span(
        run_id,
        identity.trace_id(key, root).to_bytes(16, "big"),
        identity.span_id(key, sequence).to_bytes(8, "big"),
        None if parent is None else identity.span_id(key, parent).to_bytes(8, "big"),
        sequence,
        root,
        "publish ORDER",
        "PRODUCER",
        "ORDER",
        "fund/book",
        start_time=sequence,
        end_time=sequence + 1,
        attributes={
            "trading.order.client_id": f"O-{root}",
            "trading.order.id": str(uuid.UUID(int=random.Random(root).getrandbits(128))),
        },
    )
    return replace(span, **parts)


def renamed(span: Span, run_id: str, name: str) -> Span:
    trace_id = identity.trace_id_of_correlation(run_id, name).to_bytes(16, "big")
    return replace(span, trace_id=trace_id, correlation_id=name)


def fill_run(store: EventStore, run_id: str) -> None:
    """Commit a run in several files whose chains reach from one file into the next."""
    sequence = 0
    waiting: list[Span] = []
    for version in range(FILES):
        rows = SpanRows()
        spans, waiting = waiting, []
        for number in range(CHAINS_A_FILE):
            root = sequence + 1
            chain = [
                made_span(run_id, root + k, root, root + k - 1 if k else None) for k in range(5)
            ]
            sequence += 5
            if version == 2 and number in {3, 4}:  # a name that two chains share
                chain = [renamed(span, run_id, HOST_UUID) for span in chain]
            if version == 3 and number == 5:
                chain = [renamed(span, run_id, NAME) for span in chain]
            if version == 4 and number == 6:  # an event that bears the name in another's chain
                chain[2] = replace(chain[2], correlation_id=NAME)
            spans += chain[:3]
            (waiting if number == CHAINS_A_FILE - 1 else spans).extend(chain[3:])
        if version == FILES - 1:
            spans += waiting
        for span in spans:
            rows.add(span)
        store.append_spans(rows.take(), run_id, f"made/{run_id}", version)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("lookup")
    store = EventStore(data)
    for run_id in ("one", "two"):
        fill_run(store, run_id)
    return data


@pytest.fixture
def store(folder: Path) -> Iterator[EventStore]:
    opened = EventStore(folder)
    yield opened
    opened.close()


def everything(store: EventStore) -> pa.Table:
    return pa.concat_tables([pa.parquet.read_table(file.path) for file in store.spans.files()])


def keys_of(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["run_id"], row["sequence"]) for row in rows]


def test_every_chain_is_found_whole_by_its_trace_id(store: EventStore) -> None:
    by_trace: dict[bytes, list[dict[str, Any]]] = {}
    for row in (
        everything(store).sort_by([("run_id", "ascending"), ("sequence", "ascending")]).to_pylist()
    ):
        by_trace.setdefault(row["trace_id"], []).append(row)
    assert len(by_trace) > 400
    for trace_id, rows in by_trace.items():
        found = store.find_chain(trace_id.hex())
        assert found.schema.equals(SPAN_SCHEMA)
        assert found.to_pylist() == rows


def test_a_chain_that_the_host_named_is_found_by_the_name_and_by_any_form_of_a_uuid(
    store: EventStore,
) -> None:
    for given in (
        HOST_UUID,
        HOST_UUID.upper(),
        HOST_UUID.replace("-", ""),
        f"urn:uuid:{HOST_UUID}",
    ):
        found = store.find_chain(given)
        assert len(found) == 20  # two chains in either run
    assert len(store.find_chain(HOST_UUID, run_id="two")) == 10
    named = store.find_chain(NAME).to_pylist()
    assert len(named) == 12  # the chain, and the event that bears its name elsewhere
    assert {row["correlation_id"] for row in named} == {NAME}
    assert keys_of(named) == sorted(keys_of(named))


def test_spans_are_found_by_span_id_and_by_the_ids_of_the_engine(store: EventStore) -> None:
    rows = everything(store).to_pylist()
    for row in random.Random(1).sample(rows, 40):
        assert store.find_span(row["span_id"].hex()).to_pylist() == [row]
        for column in ("order_id", "client_order_id"):
            same = [other for other in rows if other[column] == row[column]]
            found = store.find_named(column, row[column])
            assert sorted(keys_of(found.to_pylist())) == sorted(keys_of(same))
    assert len(store.find_named("client_order_id", "O-1", run_id="two")) == 5


@pytest.mark.parametrize(
    "unknown", ["", "x", "f" * 32, "0" * 32, "trade-8", "'; DROP TABLE spans; --", "zz" * 16]
)
def test_what_is_not_there_is_not_found(store: EventStore, unknown: str) -> None:
    assert len(store.find_chain(unknown)) == 0
    assert len(store.find_span(unknown)) == 0
    assert len(store.find_named("fill_id", unknown)) == 0


def test_an_id_of_a_run_that_the_sampling_left_out_is_not_found(store: EventStore) -> None:
    missing = identity.trace_id(identity.run_key("one"), 4_000_000)
    assert len(store.find_chain(f"{missing:032x}")) == 0


def test_an_empty_lake_holds_nothing(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    assert store.find_chain("f" * 32).num_rows == 0
    assert store.find_named("fill_id", "F-1").num_rows == 0


def test_only_the_file_that_holds_a_chain_is_read(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    fill_run(store, "one")
    wanted = store.spans.files()[3]
    root = int(wanted.smallest["root_sequence"]) + 50
    for file in store.spans.files():
        if file.path != wanted.path:
            file.path.unlink()
    trace_id = identity.trace_id(identity.run_key("one"), root // 5 * 5 + 1)
    assert len(store.find_chain(f"{trace_id:032x}")) == 5


def test_sql_for_a_chain_reads_only_the_files_that_can_hold_it(store: EventStore) -> None:
    own = f"{identity.trace_id(identity.run_key('two'), 201):032x}"
    with store.connect() as connection:
        (_, plan), *_ = connection.execute(f"EXPLAIN ANALYZE FROM chain('{own}')").fetchall()
    read = re.search(r"Total Files Read: (\d+)", plan)
    assert read is not None, plan
    # DuckDB opens the first file of a list to learn the columns, whatever it is asked.
    assert int(read[1]) <= 2


def test_a_store_that_stays_open_finds_what_is_committed_later(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    trace_id = f"{identity.trace_id(identity.run_key('two'), 1):032x}"
    assert len(store.find_chain(trace_id)) == 0
    fill_run(EventStore(tmp_path), "one")
    assert len(store.find_chain(trace_id)) == 0
    assert len(store.find_named("client_order_id", "O-1")) == 5
    fill_run(EventStore(tmp_path), "two")
    assert len(store.find_chain(trace_id)) == 5
    assert len(store.find_named("client_order_id", "O-1")) == 10


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    fill_run(store, "one")
    for file in store.spans.files():
        file.path.write_bytes(b"PAR1 this is no Parquet file PAR1")
    trace_id = f"{identity.trace_id(identity.run_key('one'), 1):032x}"
    with pytest.raises(LakeError, match="missing or damaged"):
        store.find_chain(trace_id)
    with pytest.raises(LakeError):
        store.find_named("fill_id", "F-1")


def test_a_checkpoint_of_the_log_changes_nothing(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    fill_run(store, "one")
    trace_id = f"{identity.trace_id(identity.run_key('one'), 6):032x}"
    before = store.find_chain(trace_id)
    DeltaTable(store.folder.lake).create_checkpoint()
    assert EventStore(tmp_path).find_chain(trace_id).equals(before)


def test_sql_gives_one_chain_by_any_name(store: EventStore) -> None:
    with store.connect() as connection:
        columns = [row[0] for row in connection.execute("DESCRIBE spans").fetchall()]
        assert [
            row[0] for row in connection.execute("DESCRIBE FROM chain('x')").fetchall()
        ] == columns
        own = f"{identity.trace_id(identity.run_key('two'), 201):032x}"
        for name, condition in (
            (own, f"trace_id = '{own}'"),
            (HOST_UUID, f"trace_id = '{HOST_UUID.replace('-', '')}'"),
            (NAME, f"correlation_id = '{NAME}'"),
            ("f" * 32, "false"),
            ("trade-8", "false"),
        ):
            expected = connection.execute(
                f"FROM spans WHERE {condition} ORDER BY run_id, sequence"
            ).fetchall()
            found = connection.execute("FROM chain(?) ORDER BY run_id, sequence", [name]).fetchall()
            assert found == expected
            raw = connection.execute("SELECT count(*) FROM raw_chain(?)", [name]).fetchone()
            assert raw == (len(expected),)


def test_a_query_of_the_command_line_can_ask_for_a_chain(store: EventStore) -> None:
    own = f"{identity.trace_id(identity.run_key('two'), 201):032x}"
    result = store.query(f"SELECT sequence FROM chain('{own}') ORDER BY 1")
    assert [row[0] for row in result.rows] == [201, 202, 203, 204, 205]


def test_the_command_line_reads_spans_by_place(store: EventStore) -> None:
    with store.connect(further_views=()) as connection:
        for column, value, count in (
            ("trace_id", HOST_UUID.replace("-", ""), 10),
            ("correlation_id", NAME, 6),
            ("client_order_id", "O-1", 5),
            ("span_id", "0" * 16, 0),
        ):
            spans = spans_named(connection, "one", column, [value])
            assert len(spans) == count
            assert [span.sequence for span in spans] == sorted(span.sequence for span in spans)
            assert all(span.run_id == "one" for span in spans)
        ids = [span.span_id for span in spans_named(connection, "one", "client_order_id", ["O-1"])]
        assert [span.span_id for span in spans_by_id(connection, "one", [*ids, "f" * 16])] == ids


def rewritten(store: EventStore) -> Iterator[str]:
    """Compact the lake, then move it to the warm and to the cold tier."""
    for run_id in ("one", "two"):
        store.record_run(RunRecord(run_id, "Ended", ended_at=1))
    for one in plan_compaction(store):
        assert compact(one)
    yield "compact"
    for tier, cold_after in (("warm", 10**18), ("cold", 0)):
        for planned in plan_tiers(store, 10**18, warm_after=0, cold_after=cold_after, interval=1):
            assert move(store, planned) is not None
        yield tier


def test_chains_are_found_whole_in_compacted_and_tiered_files(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for run_id in ("one", "two"):
        fill_run(store, run_id)
    own = [f"{identity.trace_id(identity.run_key('two'), root):032x}" for root in (1, 201, 1196)]
    names = [*own, HOST_UUID, NAME, "f" * 32, "trade-8"]
    order = everything(store)["order_id"][0].as_py()
    before = [store.find_chain(name) for name in names]
    assert [len(chain) for chain in before] == [5, 5, 5, 20, 12, 0, 0]
    by_order = store.find_named("order_id", order)
    for stage in rewritten(store):
        assert {file.stage for file in store.spans.files()} == {stage}
        finders = store, EventStore(tmp_path)  # one that knows the files of before, and a new one
        for name, expected in zip(names, before, strict=True):
            assert all(finder.find_chain(name).equals(expected) for finder in finders)
        assert store.find_named("order_id", order).equals(by_order)
        span_id = before[0]["span_id"][0].as_py().hex()
        assert store.find_span(span_id).equals(before[0].slice(0, 1))
        with store.connect() as connection:
            for name, expected in zip(names, before, strict=True):
                for macro in ("chain", "raw_chain"):
                    rows = connection.execute(
                        f"SELECT run_id, sequence FROM {macro}(?) ORDER BY ALL", [name]
                    ).fetchall()
                    wanted = [
                        (row["run_id"], row["sequence"])
                        for row in expected.to_pylist()
                        # To SQL a name is a name, not also the rest of the chain that bears it.
                        if name != NAME or row["correlation_id"] == NAME
                    ]
                    assert rows == wanted
        finders[1].close()
    store.close()
