"""The lake's files, read by Spark without our code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.parquet_file import ROW_GROUP_ROWS
from fillpath.exporters.whole_parquet import write_whole

sys.path.append(str(Path(__file__).parent))

from recorded_market import record_market

IN_CI = os.environ.get("CI", "").lower() == "true"

# A process of its own: Spark leaves a Java machine and its sockets behind in the one that used it.
READ = """
import json, sys
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.log.level", "ERROR")
    .getOrCreate()
)
files, trace_id = json.loads(sys.argv[1]), sys.argv[2]
spans = spark.read.parquet(*files)
rows = (
    spans.select(
        "run_id",
        f.lower(f.hex("trace_id")).alias("trace_id"),
        f.lower(f.hex("span_id")).alias("span_id"),
        f.lower(f.hex("parent_span_id")).alias("parent_span_id"),
        "sequence", "root_sequence", "name", "event_type", "event_time",
        f.unix_micros("event_timestamp").alias("event_micros"),
        "start_time", "duration", "symbol", "client_order_id", "price", "quantity", "layout",
        "attributes", "sampling_probability",
        f.transform("links", lambda link: f.lower(f.hex(link["span_id"]))).alias("links"),
    )
    .orderBy("sequence")
    .collect()
)
chain = spans.where(spans["trace_id"] == f.unhex(f.lit(trace_id))).count()
large = spark.read.parquet(sys.argv[3])
seen = large.select(f.sum("sequence"), f.count("run_id"), f.count("side"), f.count("price"))
seen = list(seen.first())
print(json.dumps({"rows": [row.asDict() for row in rows], "chain": chain, "large": seen}))
spark.stop()
"""


def why_not() -> str | None:
    """Say what is missing; None when Spark can run."""
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return "Spark needs Java 17 or newer"
    try:
        import pyspark  # noqa: F401
    except ImportError:
        return "pyspark is not installed (uv pip install --group spark)"
    return None


@pytest.fixture(scope="module")
def spark_ready() -> None:
    if (reason := why_not()) is not None:
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("spark_ready")
def test_spark_reads_the_files_as_duckdb_does(tmp_path: Path) -> None:
    record_market(tmp_path, "spark", trades=2)
    store = EventStore(tmp_path)
    with store.connect(further_views=()) as connection:
        cursor = connection.execute(
            "SELECT run_id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, "
            "lower(hex(parent_span_id)) AS parent_span_id, sequence, root_sequence, name, "
            "event_type, event_time, epoch_us(event_timestamp) AS event_micros, start_time, "
            "duration, symbol, client_order_id, price, quantity, layout, attributes, "
            "sampling_probability, list_transform(links, lambda link: lower(hex(link.span_id))) "
            "AS links FROM raw_spans ORDER BY sequence"
        )
        names = [column[0] for column in cursor.description or ()]
        expected = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    large = several_row_groups(tmp_path / "large.parquet")
    files = [str(file.path) for file in store.spans.files()]
    told = read_with_spark(files, expected[0]["trace_id"], str(large))
    assert told["rows"] == json.loads(json.dumps(expected))
    assert len(told["rows"]) == 41
    rows = 3 * ROW_GROUP_ROWS
    assert told["large"] == [rows * (rows - 1) // 2, rows, rows // 2, 0]
    assert told["chain"] == sum(row["trace_id"] == expected[0]["trace_id"] for row in expected)


def several_row_groups(path: Path) -> Path:
    """A file whose row groups are mostly names and empty columns: Spark must miss none."""
    size = 3 * ROW_GROUP_ROWS
    same = pa.array([0] * size, pa.int32())
    sides = pa.array([n % 2 or None for n in range(size)], pa.int32())
    columns = {
        "run_id": pa.DictionaryArray.from_arrays(same, ["a run"]),
        "sequence": pa.array(range(size)),
        "side": pa.DictionaryArray.from_arrays(sides, ["BUY", "SELL"]),
        "price": pa.nulls(size, pa.float64()),
    }
    with path.open("wb") as file:
        write_whole(file, pa.table(columns))
    return path


def read_with_spark(files: list[str], trace_id: str, large: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", READ, json.dumps(files), trace_id, large],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
