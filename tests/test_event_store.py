"""The lake: committed once, read by anybody, and closed to whatever is not a read."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.instrumentation.errors import FillpathError, LakeError, UsageError
from fillpath.instrumentation.semconv import EventType, Fill

SPAN_COLUMNS = [
    "run_id",
    "portfolio",
    "trace_id",
    "span_id",
    "parent_span_id",
    "sequence",
    "name",
    "span_kind",
    "event_type",
    "correlation_id",
    "event_time",
    "start_time",
    "end_time",
    "strategy",
    "symbol",
    "venue",
    "order_id",
    "client_order_id",
    "fill_id",
    "position_id",
    "side",
    "order_type",
    "status",
    "quantity",
    "price",
    "commission",
    "currency",
    "handler",
    "links",
    "attributes",
    "root_sequence",
    "duration",
    "open",
    "high",
    "low",
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "strength",
    "status_code",
    "status_message",
    "sampling_reason",
    "sampling_probability",
    "service_name",
    "host_name",
    "scope_name",
]
RUN_COLUMNS = [
    "run_id",
    "mode",
    "status",
    "service_name",
    "engine",
    "engine_version",
    "started_at",
    "ended_at",
    "parameters",
    "published",
    "kept",
    "sampled_out",
    "dropped",
    "completeness",
    "error",
    "updated_at",
    "metadata",
    "source",
    "spool_block",
    "host_name",
    "pid",
]
_ORDER = [("run_id", "ascending"), ("sequence", "ascending")]


def _spans(run_id: str, *prices: str, first: int = 1) -> pa.Table:
    rows = SpanRows()
    for sequence, price in enumerate(prices, start=first):
        rows.add(
            Span(
                run_id,
                b"\xab" * 16,
                sequence.to_bytes(8, "big"),
                (sequence - 1).to_bytes(8, "big") if sequence > first else None,
                sequence,
                first,
                "publish FILL",
                "PRODUCER",
                EventType.FILL,
                "demo/x",
                event_time=sequence * 1000,
                attributes={Fill.PRICE: Decimal(price), "note": "it's"},
                links=[(b"\x01" * 16, b"\x02" * 8)],
            )
        )
    return rows.take()


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(tmp_path / "data")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    store = EventStore(tmp_path_factory.mktemp("filled") / "data")
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    store.record_run(RunRecord("r", "Running"))
    return store


def _all(store: EventStore, sql: str) -> list[tuple[Any, ...]]:
    return list(store.query(sql).rows)


def test_the_views_have_the_promised_columns_also_before_anything_was_recorded(
    store: EventStore,
) -> None:
    empty_spans, empty_runs = store.query("FROM spans"), store.query("FROM runs")
    assert empty_spans.columns == SPAN_COLUMNS
    assert empty_runs.columns == RUN_COLUMNS
    assert list(empty_spans.rows) == list(empty_runs.rows) == []
    assert not store.folder.path.exists()
    store.append_spans(_spans("r", "1.5"), "r", "app", 1)
    store.record_run(RunRecord("r", "Ended"))
    for empty, sql in ((empty_spans, "FROM spans"), (empty_runs, "FROM runs")):
        full = store.query(sql)
        assert (full.columns, full.types) == (empty.columns, empty.types)
        assert len(list(full.rows)) == 1
    assert empty_spans.types[SPAN_COLUMNS.index("price")] == "DECIMAL(38,9)"
    assert empty_spans.types[SPAN_COLUMNS.index("attributes")] == "JSON"


def test_a_span_is_seen_as_it_was(store: EventStore) -> None:
    store.append_spans(_spans("r", "1.5", "2.25"), "r", "app", 1)
    row = dict(zip(SPAN_COLUMNS, _all(store, "FROM spans WHERE sequence = 2")[0], strict=True))
    assert row["trace_id"] == "ab" * 16
    assert row["span_id"] == "0000000000000002"
    assert row["parent_span_id"] == "0000000000000001"
    assert row["price"] == Decimal("2.25")
    assert json.loads(row["links"]) == [{"trace_id": "01" * 16, "span_id": "02" * 8}]
    assert json.loads(row["attributes"]) == {"note": "it's"}
    assert _all(store, "SELECT attributes->>'note', links[0]->>'span_id' FROM spans LIMIT 1") == [
        ("it's", "02" * 8)
    ]


def test_the_raw_view_has_the_columns_of_the_files(store: EventStore) -> None:
    empty = store.query("FROM raw_spans")
    assert empty.columns == SPAN_SCHEMA.names
    store.append_spans(_spans("r", "1.5"), "r", "app", 1)
    full = store.query("FROM raw_spans")
    assert (full.columns, full.types) == (empty.columns, empty.types)
    row = dict(zip(full.columns, next(full.rows), strict=True))
    assert row["trace_id"] == b"\xab" * 16
    assert row["event_timestamp"] == dt.datetime(1970, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001 - it is UTC


def test_numbers_show_all_their_digits(store: EventStore) -> None:
    store.append_spans(_spans("r", "0.000000001"), "r", "app", 1)
    assert store.query("SELECT price FROM spans").types == ["DECIMAL(38,9)"]
    store.append_spans(_spans("r", "0.0000000000012345", first=2), "r", "app", 2)
    fine = store.query("SELECT price FROM spans ORDER BY sequence")
    assert fine.types == ["DECIMAL(38,18)"]
    assert list(fine.rows) == [(Decimal("0.000000001"),), (Decimal("0.0000000000012345"),)]


def test_other_engines_read_the_same(store: EventStore) -> None:
    written = [_spans("a", "1.5", "2.5"), _spans("b", "3.5")]
    for version, rows in enumerate(written, start=1):
        store.append_spans(rows, rows["run_id"][0].as_py(), "app", version)
    expected = pa.concat_tables(written).sort_by(
        [("run_id", "ascending"), ("sequence", "ascending")]
    )

    table = DeltaTable(str(store.folder.lake))
    arrow = table.to_pyarrow_table().sort_by(_ORDER)
    assert arrow.select(expected.schema.names).to_pylist() == expected.to_pylist()
    files = [str(store.folder.lake / Path(uri).name) for uri in table.file_uris()]
    frame = pl.read_parquet(files).sort("run_id", "sequence")
    assert frame["price"].to_list() == expected["price"].to_pylist()
    assert frame["trace_id"].to_list() == expected["trace_id"].to_pylist()
    found = duckdb.execute("SELECT sum(price) FROM read_parquet($1)", [files]).fetchone()
    assert found == (7.5,)


def test_the_log_tells_what_a_file_holds(store: EventStore) -> None:
    store.append_spans(_spans("a", "1.5", "2.5"), "a", "app-a", 1)
    store.append_spans(_spans("b", "0.123"), "b", "app-b", 1)
    (file,) = store.spans.files(["a"])
    assert (file.rows, file.smallest["sequence"], file.largest["sequence"]) == (2, 1, 2)
    assert (file.largest["decimal_scale"], file.largest["event_time"]) == (1, 2000)
    assert store.spans.files(["nothing"]) == []
    with store.connect(["b"]) as connection:
        assert connection.execute("SELECT DISTINCT run_id FROM spans").fetchall() == [("b",)]


def test_the_parquet_files_are_encoded_as_documented(store: EventStore) -> None:
    store.append_spans(_spans("a", *["1.5"] * 100), "a", "app", 1)
    (file,) = store.spans.files()
    group = pq.ParquetFile(file.path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    encodings = {column.path_in_schema: column.encodings for column in columns}
    assert "DELTA_BINARY_PACKED" in encodings["sequence"]
    assert "DELTA_BYTE_ARRAY" in encodings["span_id"]
    assert "BYTE_STREAM_SPLIT" in encodings["price"]
    assert "RLE_DICTIONARY" in encodings["event_type"]
    assert {column.compression for column in columns} == {"ZSTD"}


def test_a_version_is_committed_once(store: EventStore) -> None:
    store.append_spans(_spans("r", "1"), "r", "app", 7)
    for version in (7, 6):
        with pytest.raises(LakeError, match="up to 7"):
            EventStore(store.folder).append_spans(_spans("r", "1"), "r", "app", version)
    assert _all(store, "SELECT count(*) FROM spans") == [(1,)]
    assert store.spans.transaction_version("app") == 7
    assert store.spans.transaction_version("other") is None
    parquet = list(store.folder.lake.glob("*.parquet"))
    assert len(parquet) == 1


def test_what_was_not_committed_is_not_seen_and_is_removed(store: EventStore) -> None:
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    (known,) = store.folder.lake.glob("*.parquet")
    orphan = known.with_name("spans-r-0123456789ab.parquet")
    shutil.copy(known, orphan)
    torn = known.with_name(".spans-r-ba9876543210.parquet.tmp")
    torn.write_bytes(b"PAR1")
    other = known.with_name("spans-r-2-0123456789ab.parquet")  # of the run `r-2`
    shutil.copy(known, other)
    assert _all(store, "SELECT count(*) FROM spans") == [(1,)]
    assert store.spans.remove_uncommitted("r") == 2
    assert known.exists()
    assert other.exists()
    assert not orphan.exists()
    assert not torn.exists()


def test_the_newest_row_of_a_run_holds_and_replaces_the_older(store: EventStore) -> None:
    store.record_run(RunRecord("a", "Running", parameters={"size": Decimal("1.50")}, kept=1))
    store.record_run(RunRecord("b", "Running"))
    store.record_run(RunRecord("a", "Ended", parameters={"size": Decimal("1.50")}, kept=2))
    assert _all(store, "SELECT run_id, status, kept FROM runs ORDER BY run_id") == [
        ("a", "Ended", 2),
        ("b", "Running", 0),
    ]
    assert _all(store, "SELECT parameters->>'size' FROM runs WHERE run_id = 'a'") == [("1.50",)]
    assert len(store.runs.files()) == 2
    records = store.run_records()
    assert [(record.run_id, record.status) for record in records] == [
        ("a", "Ended"),
        ("b", "Running"),
    ]
    assert records[0].parameters == {"size": "1.50"}


WRITER = """
import sys
import pyarrow.parquet as pq
from fillpath.exporters.event_store import EventStore, RunRecord
store, run, rows = EventStore(sys.argv[1]), sys.argv[2], pq.read_table(sys.argv[3])
for version in range(1, 9):
    store.append_spans(rows, run, "app-" + run, version)
    store.record_run(RunRecord(run, "Running", kept=version))
"""


def test_several_processes_can_write_at_once(store: EventStore, tmp_path: Path) -> None:
    runs = ["a", "b"]
    processes = []
    for run in runs:
        rows = tmp_path / f"{run}.parquet"
        pq.write_table(_spans(run, "1", "2"), rows)
        command = [sys.executable, "-P", "-c", WRITER, str(store.folder.path), run, str(rows)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE))
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    counted = _all(store, "SELECT run_id, count(*), sum(price) FROM spans GROUP BY 1 ORDER BY 1")
    assert counted == [(run, 16, 24) for run in runs]
    assert _all(store, "SELECT run_id, kept FROM runs ORDER BY 1") == [(run, 8) for run in runs]


READS = [
    "SELECT 1",
    "  -- a comment\n SELECT count(*) FROM spans;",
    "FROM spans",
    "TABLE runs",
    "VALUES (1)",
    "DESCRIBE spans",
    "SHOW TABLES",
    "SUMMARIZE spans",
    "EXPLAIN SELECT * FROM spans",
    "EXPLAIN ANALYZE SELECT 1",
    "/* why */ explain (FORMAT json) SELECT 1",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) FROM n",
    "SELECT * FROM spans INTERSECT SELECT * FROM spans",
    "SELECT (SELECT max(sequence) FROM spans), [x FOR x IN [1]], EXISTS(FROM runs)",
    "PIVOT spans ON side IN ('BUY') USING count(*)",
    "FROM raw_spans",
    "FROM raw_runs",
]
REFUSED = [
    "INSERT INTO spans SELECT * FROM spans",
    "UPDATE runs SET status = 'Ended'",
    "DELETE FROM runs",
    "DROP VIEW spans",
    "CREATE TABLE t (a INT)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "COPY (SELECT 1) TO '{outside}'",
    "COPY (SELECT 1) TO '{file}' (USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1) TO '{file}' (USE_TMP_FILE false)) FROM x",
    "WITH x AS (INSERT INTO runs SELECT * FROM runs RETURNING *) FROM x",
    "EXPORT DATABASE '{outside}'",
    "ATTACH '{file}' AS other",
    "ATTACH '{outside}' AS other",
    "SET threads = 1",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CHECKPOINT",
    "INSTALL httpfs",
    "LOAD httpfs",
    "BEGIN",
    "VACUUM",
    "PIVOT spans ON side USING count(*)",
    "FROM read_text('/etc/passwd')",
    "FROM '{outside}'",
    "FROM glob('/*')",
    "FROM read_parquet('http://localhost:1/x.parquet')",
    "FROM query('COPY (SELECT 1) TO ''{file}'' (USE_TMP_FILE false)')",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{file}'' (USE_TMP_FILE false)) FROM x')",
]
WRONG = [
    "",
    "   -- nothing\n",
    "SELEC 1",
    "SELECT nope FROM spans",
    "SELECT * FROM nope",
    "SELECT nope(1)",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW spans",
]


@pytest.mark.parametrize("sql", READS)
def test_a_read_is_answered(filled: EventStore, sql: str) -> None:
    list(filled.query(sql).rows)


@pytest.mark.parametrize("sql", REFUSED)
def test_anything_else_is_refused_and_leaves_no_trace(
    filled: EventStore, tmp_path: Path, sql: str
) -> None:
    outside = tmp_path / "outside.csv"
    (file,) = filled.folder.lake.glob("*.parquet")
    before = file.read_bytes()
    with pytest.raises(FillpathError) as caught:
        list(filled.query(sql.format(outside=outside, file=file)).rows)
    in_text = sql.startswith("FROM query")  # DuckDB calls it a query that does not parse
    assert caught.value.exit_code == (2 if in_text else 1)
    assert not outside.exists()
    assert file.read_bytes() == before


@pytest.mark.parametrize("sql", WRONG)
def test_a_wrong_query_is_a_usage_error(filled: EventStore, sql: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(filled.query(sql).rows)
    assert caught.value.exit_code == 2
    assert caught.value.message


def test_a_query_that_fails_as_it_runs_says_so(store: EventStore) -> None:
    with pytest.raises(FillpathError, match="Could not convert") as caught:
        list(store.query("SELECT CAST(range || 'x' AS INTEGER) FROM range(5000)").rows)
    assert caught.value.exit_code == 1


def test_a_query_takes_parameters_and_gives_many_rows(store: EventStore) -> None:
    result = store.query("SELECT range AS n FROM range($1)", [2500])
    assert result.columns == ["n"]
    assert [row[0] for row in result.rows] == list(range(2500))


def test_a_connection_reads_the_lake_and_nothing_else(store: EventStore, tmp_path: Path) -> None:
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with store.connect() as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (1,)
        for sql in (
            f"FROM read_csv('{secret}')",
            f"COPY (SELECT 1) TO '{tmp_path / 'new.csv'}'",
            f"ATTACH '{tmp_path / 'new.db'}'",
            f"FROM read_text('{store.folder.lake}/_delta_log/00000000000000000000.json')",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET threads = 1",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql).fetchall()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "secret.csv"}


@pytest.mark.parametrize("table", ["lake", "runs"])
@pytest.mark.parametrize(
    "harm", ["no log", "garbage", "foreign", "newer", "older", "a file", "lost file"]
)
def test_a_lake_that_is_not_one_is_explained(
    store: EventStore, tmp_path: Path, table: str, harm: str
) -> None:
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    store.record_run(RunRecord("r", "Running"))
    folder = getattr(store.folder, table)
    log = folder / "_delta_log"
    if harm == "no log":
        shutil.rmtree(log)
    elif harm == "garbage":
        (log / "00000000000000000001.json").write_text("{garbage")
    elif harm == "foreign":
        shutil.rmtree(folder)
        DeltaTable.create(str(folder), pa.schema([pa.field("a", pa.int64())]))
    elif harm in {"newer", "older"}:
        first = log / "00000000000000000000.json"
        other = {"newer": "3", "older": "1"}[harm]
        text = first.read_text().replace('schemaVersion":"2"', f'schemaVersion":"{other}"')
        assert text != first.read_text()
        first.write_text(text)
    elif harm == "a file":
        shutil.rmtree(folder)
        folder.write_text("")
    else:
        next(folder.glob("*.parquet")).unlink()
    with pytest.raises(LakeError) as caught:
        list(EventStore(store.folder).query("SELECT * FROM spans, runs").rows)
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.next_command
    if harm == "lost file":
        facts = store.facts()
        assert len(facts[{"lake": "spans", "runs": "runs"}[table]].missing) == 1


def test_a_table_whose_making_was_cut_short_is_made_again(store: EventStore) -> None:
    (store.folder.lake / "_delta_log").mkdir(parents=True)
    assert _all(store, "FROM spans") == []
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    assert _all(store, "SELECT count(*) FROM spans") == [(1,)]


@pytest.mark.parametrize("name", ["with space", "it's", "[x]*", "100%", "é🦊", "a;b"])
def test_the_data_folder_may_have_an_odd_name(tmp_path: Path, name: str) -> None:
    store = EventStore(tmp_path / name)
    store.append_spans(_spans("r", "1"), "r", "app", 1)
    store.record_run(RunRecord("r", "Ended"))
    assert _all(store, "SELECT count(*) FROM spans, runs") == [(1,)]
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208


def test_a_folder_name_that_the_delta_library_cannot_use_is_refused(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "a%41b")
    with pytest.raises(LakeError, match="percent"):
        store.append_spans(_spans("r", "1"), "r", "app", 1)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_size_of_the_lake_is_known(store: EventStore) -> None:
    store.append_spans(_spans("r", "1", "2"), "r", "app", 1)
    facts = store.facts()
    assert (facts["spans"].files, facts["spans"].rows, facts["spans"].missing) == (1, 2, [])
    assert facts["spans"].bytes == sum(
        p.stat().st_size for p in store.folder.lake.glob("*.parquet")
    )
    assert facts["runs"].files == 0
