# ruff: noqa: T201
"""Measures whether partitioning the lake would help: `python benchmarks/partitioning.py [--full]`.

Two lakes at the ends of what there is: a sweep of many small runs, one commit each, and a live run
that commits every second. Each is written as the lake is (no partitions, the log's statistics
prune), partitioned by run and partitioned by day. The rows are the same; of a partitioned table
the files lie in a folder for each value. The live run is also written with checkpoints of the log
at other distances. Times are CPU time, since a machine is seldom alone; each is a median. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from fillpath.exporters.parquet_file import write_parquet
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_rows import Span, SpanRows

SECOND: Final = 10**9
DAY: Final = 86_400 * SECOND
BEGIN: Final = 1_700_000_000 * SECOND
RUNS_A_DAY: Final = 100


class Piece(NamedTuple):
    """A file of the lake to be."""

    run_id: str
    day: str
    first: int
    rows: int
    event_time: int


class Layout(NamedTuple):
    """A way to lay out the table."""

    name: str
    partition_by: str | None
    checkpoints: int = 20


def sweep(runs: int, events: int) -> Iterator[Piece]:
    """Give many small runs, a hundred a day."""
    for number in range(runs):
        day = number // RUNS_A_DAY
        yield Piece(f"run-{number:05d}", f"day-{day:03d}", 1, events, BEGIN + day * DAY)


def live(commits: int, events: int) -> Iterator[Piece]:
    """Give one long run, one file a second, four days long at most."""
    for number in range(commits):
        day = number * 4 // commits
        yield Piece("live", f"day-{day:03d}", number * events + 1, events, BEGIN + number * SECOND)


def rows_of(events: int) -> pa.Table:
    """Make rows such as a run has."""
    rows = SpanRows()
    for sequence in range(1, events + 1):
        rows.add(
            Span(
                "run-00000",
                sequence.to_bytes(16, "big"),
                sequence.to_bytes(8, "big"),
                None,
                sequence,
                sequence,
                "publish BAR",
                "PRODUCER",
                "BAR",
                "fund/book",
                event_time=BEGIN + sequence,
                symbol="ACME",
            )
        )
    return rows.take()


def measure(layout: Layout, pieces: Sequence[Piece], wanted: str, content: Path) -> dict[str, str]:
    """Write a lake in a layout and look one run, and the last second of it, up."""
    folder = Path(tempfile.mkdtemp(prefix="fillpath-partitioning-"))
    try:
        return _measure(layout, pieces, wanted, content, folder)
    finally:
        shutil.rmtree(folder)


def _measure(
    layout: Layout, pieces: Sequence[Piece], wanted: str, content: Path, folder: Path
) -> dict[str, str]:
    by = layout.partition_by
    schema = SPAN_SCHEMA.append(pa.field("day", pa.string()))
    table = DeltaTable.create(
        folder.as_uri(),
        schema=schema,
        partition_by=None if by is None else [by],
        configuration={
            "delta.dataSkippingNumIndexedCols": "-1",
            "delta.checkpointInterval": str(layout.checkpoints),
        },
    )
    times = []
    for number, piece in enumerate(pieces):
        began = time.process_time()
        value = {"run_id": piece.run_id, "day": piece.day}.get(by or "")
        name = f"{number:08x}.parquet" if value is None else f"{by}={value}/{number:08x}.parquet"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(content, path)
        action = AddAction(
            name,
            path.stat().st_size,
            {} if by is None or value is None else {by: value},
            int(time.time() * 1000),
            True,
            json.dumps(_statistics(piece)),
        )
        table.update_incremental()
        table.create_write_transaction(
            [action],
            "append",
            table.schema(),
            partition_by=by,
            commit_properties=CommitProperties(
                app_transactions=[Transaction(piece.run_id, number)]
            ),
        )
        times.append(time.process_time() - began)
    last = [piece for piece in pieces if piece.run_id == wanted][-1]
    tenth = max(1, len(times) // 10)
    log = folder / "_delta_log"
    return {
        "layout": layout.name,
        "commit, first tenth": _ms(statistics.median(times[:tenth])),
        "last tenth": _ms(statistics.median(times[-tenth:])),
        "open and prune to a run": _ms(_timed(lambda: len(_files(folder, by, wanted, None)))),
        "to its last second": _ms(_timed(lambda: len(_files(folder, by, wanted, last.first)))),
        "scan of all by DuckDB": _ms(_timed(lambda: _scan(folder))),
        "files of the run": str(len(_files(folder, by, wanted, None))),
        "folders": str(sum(path.is_dir() for path in folder.iterdir())),
        "log": f"{sum(path.stat().st_size for path in log.iterdir()) / 1e6:.1f} MB",
    }


def _statistics(piece: Piece) -> Mapping[str, Any]:
    low = {"run_id": piece.run_id, "sequence": piece.first, "event_time": piece.event_time}
    high = {
        "run_id": piece.run_id,
        "sequence": piece.first + piece.rows - 1,
        "event_time": piece.event_time + SECOND,
    }
    return {"numRecords": piece.rows, "minValues": low, "maxValues": high, "nullCount": {}}


def _files(folder: Path, by: str | None, run_id: str, sequence: int | None) -> list[str]:
    """Open the table as a new process would, and find the files that can hold what is wanted."""
    actions = pa.table(DeltaTable(folder.as_uri()).get_add_actions(flatten=True))
    run = f"partition.{by}" if by == "run_id" else None
    found = []
    for action in actions.to_pylist():
        if run is not None:
            held = action[run] == run_id
        else:
            held = action["min.run_id"] <= run_id <= action["max.run_id"]
        if held and (
            sequence is None or action["min.sequence"] <= sequence <= action["max.sequence"]
        ):
            found.append(action["path"])
    return found


def _scan(folder: Path) -> int:
    with duckdb.connect() as connection:
        files = [f"{folder}/{uri.partition(folder.name)[2]}" for uri in _uris(folder)]
        query = "SELECT count(DISTINCT sequence) FROM read_parquet($1, hive_partitioning = false)"
        row = connection.execute(query, [files]).fetchone()
        return 0 if row is None else int(row[0])


def _uris(folder: Path) -> list[str]:
    return DeltaTable(folder.as_uri()).file_uris()


def _timed(act: Callable[[], int]) -> float:
    times = []
    for _ in range(5):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return statistics.median(times)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _print(title: str, results: Sequence[Mapping[str, str]]) -> None:
    print(f"\n{title}\n")
    columns = list(results[0])
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for result in results:
        print(f"| {' | '.join(result[column] for column in columns)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="2,000 runs, and 1,000 commits")
    parser.add_argument("--tiny", action="store_true", help="only show that it runs")
    given = parser.parse_args()
    runs, commits = (2000, 1000) if given.full else (20, 20) if given.tiny else (400, 400)
    layouts = [
        Layout("none", None),
        Layout("by run", "run_id"),
        Layout("by day", "day"),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small.parquet", Path(scratch) / "large.parquet"
        write_parquet(rows_of(500), small)
        write_parquet(rows_of(5000), large)
        pieces = list(sweep(runs, 500))
        wanted = pieces[runs // 2].run_id
        results = [measure(layout, pieces, wanted, small) for layout in layouts]
        _print(f"A sweep: {runs:,} runs of 500 events, a commit each", results)
        pieces = list(live(commits, 5000))
        results = [measure(layout, pieces, "live", large) for layout in layouts]
        _print(f"A live run: {commits:,} commits of 5,000 events", results)
        results = [
            measure(Layout(f"checkpoint every {n}", None, n), pieces, "live", large)
            for n in (10, 20, 50, 100)
        ]
        _print("The live run, by the distance of the log's checkpoints", results)


if __name__ == "__main__":
    main()
