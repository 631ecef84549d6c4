"""What it costs to bring results into Postgres: rows by binary COPY, beside executemany.

The rows are slices of P&L with all their dimensions, and they go the way that a load takes:
`replace_shard`, into the embedded server with the settings it always has (fsync and synchronous
commits on, every check), committed at the end. Every load is of a run that was not there before.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.analytics.copy_stream import copy_blocks
from fillpath.analytics.own_partitions import drop_lone_parts
from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.shard_load import TableRows, replace_shard
from fillpath.instrumentation.settings import DataFolder
from harness import Figure, Size, figure

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

COLUMNS: Final = (
    "portfolio", "strategy", "symbol", "currency", "kind", "sequence", "event_time", "amount",
    "fill_id", "trace_id", "span_id", "account_id", "venue", "side", "signal", "regime",
    "exit_reason", "holding_time", "holding", "quantity", "trade_id",
)  # fmt: skip
"""Every column of a slice that a realised one has."""
EVERY_SLICE: Final = COLUMNS[: COLUMNS.index("account_id")]
"""The columns that a slice of any kind has."""
_INSTANT: Final = pa.timestamp("us", "UTC")
_ROLLUPS: Final = ("portfolio", "currency", "kind", "amount", "slices")
_STARTED: Final = 1_717_200_000_000_000_000
_ROUNDS: Final = 3
_DAYS: Final = 250
_DAY: Final = 86_400 * 10**9
_MILLION: Final = 1_000_000


def slices(rows: int, seed: int = 0) -> pa.Table:
    """Make realised slices: 8 strategies, 20 symbols, 250 days, a fill and a trade each."""
    random = np.random.default_rng(seed)
    sequence = np.arange(rows, dtype=np.int64) * 7

    def named(prefix: str, many: int) -> pa.Array:
        names = pa.array([f"{prefix}{n}" for n in range(many)])
        return names.take(pa.array(random.integers(0, many, rows)))

    def same(text: str) -> pa.Array:
        return pa.repeat(pa.scalar(text), rows)

    def numbered(prefix: str) -> pa.Array:
        return pa.array([f"{prefix}{n}" for n in sequence.tolist()])

    def amounts(limit: int, scale: int) -> pa.Array:
        whole = random.integers(-limit, limit, rows)
        halves = np.stack([whole, whole >> 63], axis=1)
        kind = pa.decimal128(38, scale)
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(halves.tobytes())])

    ids = [row.tobytes().hex() for row in random.integers(0, 2**63, (rows, 2), dtype=np.int64)]
    values = {
        "portfolio": same("fund/desk/book"),
        "strategy": named("TrendFollower-00", 8),
        "symbol": named("SYM", 20),
        "currency": same("USD"),
        "kind": same("realized"),
        "sequence": pa.array(sequence),
        "event_time": pa.array(_STARTED + np.arange(rows) * (_DAYS * _DAY // max(rows, 1))),
        "amount": amounts(10_000_000, 2),
        "fill_id": numbered("F-"),
        "trace_id": pa.array(ids),
        "span_id": pa.array([text[:16] for text in ids]),
        "account_id": same("XNAS-001"),
        "venue": same("XNAS"),
        "side": named("LONG", 1),
        "signal": same("Trend"),
        "regime": named("calm ", 3),
        "exit_reason": same("signal"),
        "holding_time": pa.array(random.integers(0, 10**15, rows)),
        "holding": same("1h to 1d"),
        "quantity": amounts(1_000, 0),
        "trade_id": numbered("T-"),
    }
    return pa.table({name: values[name] for name in COLUMNS})


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a load took, the median of its rounds.

    Args:
        rate: Rows a second.
        cpu: Microseconds a row of this process's and the server's CPU; None where nobody tells.
    """

    rate: float
    cpu: float | None


def measure(size: Size) -> dict[str, Figure]:
    """Measure loads of a million rows, and of as many as executemany can be given."""
    rows = size.pick(2_000, _MILLION, _MILLION)
    fewer = size.pick(200, 20_000, 50_000)
    some = size.pick(200, 300_000, 300_000)
    wide = slices(rows)
    table = wide.select(EVERY_SLICE)
    columns = table.slice(0, some).columns
    tuples = list(zip(*(column.to_pylist() for column in columns), strict=True))
    stamps = _timestamps(table.slice(0, fewer))
    stamped = [(*row, at) for row, at in zip(tuples, stamps, strict=False)]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_results_database(DataFolder(Path(folder))) as database,
        database.connect() as connection,
    ):
        rounds = 1 if size is Size.TINY else _ROUNDS

        def taken(many: int, load: Callable[[int], object]) -> _Taken:
            found = _taken(connection, many, rounds, load)
            _empty(connection, rounds * many)
            return found

        one = taken(rows, lambda n: _load(connection, f"one-{n}", table))
        both = taken(rows, lambda n: _load_at_once(database, n, table))
        all_columns = taken(rows, lambda n: _load(connection, f"wide-{n}", wide))
        python = taken(len(tuples), lambda n: _load(connection, f"tuples-{n}", tuples))
        peer = taken(fewer, lambda n: _executemany(connection, n, stamped))
        encoding = _taken(connection, rows, rounds, lambda _: _encode(table))
    goal = {"goal": "≥ 1M rows/s", "at_least": _MILLION}
    loads = {
        "load slices, one shard": (one, goal),
        "load slices, two shards at once": (both, goal),
        "load slices, one shard, all 21 columns": (all_columns, {}),
        "load slices, one shard, from Python tuples": (python, {}),
    }
    figures = {
        name: figure(
            found.rate,
            "rows/s",
            peer=("executemany", peer.rate),
            more_is_better=True,
            **wanted,  # type: ignore[arg-type] # a goal and its number
        )
        for name, (found, wanted) in loads.items()
    }
    if one.cpu is not None and peer.cpu is not None:
        figures["CPU of loader and server, one shard"] = figure(
            one.cpu, "µs/row", peer=("executemany", peer.cpu)
        )
    return {**figures, "lay slices out for COPY": figure(encoding.rate, "rows/s")}


def _taken(
    connection: Connection[TupleRow], rows: int, rounds: int, load: Callable[[int], object]
) -> _Taken:
    seconds, cpu = [], []
    for number in range(rounds):
        before = _cpu_seconds(connection)
        begun = time.perf_counter()
        load(number)
        seconds.append(time.perf_counter() - begun)
        after = _cpu_seconds(connection)
        if before is not None and after is not None:
            cpu.append(after - before)
    return _Taken(rows / median(seconds), median(cpu) / rows * 1e6 if cpu else None)


def _cpu_seconds(connection: Connection[TupleRow]) -> float | None:
    """Give the CPU time of this process and of all the server's, those that ended too."""
    processes = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # After the name, which may hold anything: state, parent, and more.
            values = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            processes[int(entry.name)] = (int(values[1]), [int(one) for one in values[11:15]])
    own = processes.get(connection.info.backend_pid)
    if own is None:
        return None
    server = own[0]
    ticks = sum(processes[server][1])
    ticks += sum(sum(times[:2]) for parent, times in processes.values() if parent == server)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _load(
    connection: Connection[TupleRow], run_id: str, rows: pa.Table | list[tuple[object, ...]]
) -> None:
    columns = rows.column_names if isinstance(rows, pa.Table) else EVERY_SLICE
    # The ledger sums up by day while it makes the slices; a sum is here so that none is made again.
    sums = [("fund/desk/book", "USD", "realized", Decimal(1), len(rows))]
    tables = {
        "pnl_slices": TableRows(columns, rows),
        "pnl_rollups": TableRows(_ROLLUPS, sums),
    }
    run = {"run_id": run_id, "started_at": _STARTED}
    assert replace_shard(connection, run, tables, source_version="1")


def _load_at_once(database: ResultsDatabase, number: int, table: pa.Table) -> None:
    half = len(table) // 2

    def load(part: int) -> None:
        with database.connect() as own:
            _load(own, f"half-{number}-{part}", table.slice(part * half, half))

    threads = [threading.Thread(target=load, args=[part]) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _executemany(
    connection: Connection[TupleRow], number: int, rows: list[tuple[object, ...]]
) -> None:
    names = ("run_id", "run_month", *EVERY_SLICE, "event_at")
    statement = (
        f"INSERT INTO pnl_slices ({', '.join(names)}) VALUES "  # noqa: S608 - names of our own
        f"({', '.join(['%s'] * len(names))})"
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO runs (run_id, started_at) VALUES (%s, %s) RETURNING run_month",
            [f"peer-{number}", _STARTED],
        )
        found = cursor.fetchone()
        assert found is not None
        cursor.executemany(statement, [(f"peer-{number}", found[0], *row) for row in rows])


def _timestamps(table: pa.Table) -> list[object]:
    made: list[object] = pc.divide(table["event_time"], 1_000).cast(_INSTANT).to_pylist()
    return made


def _encode(table: pa.Table) -> None:
    kinds = {"sequence": 20, "event_time": 20, "amount": 1700}
    types = [*(kinds.get(name, 25) for name in EVERY_SLICE), 1184]
    for _ in copy_blocks(table, types, moments=[EVERY_SLICE.index("event_time")]):
        pass


def _empty(connection: Connection[TupleRow], expected: int) -> None:
    with connection.transaction():
        found = connection.execute("SELECT count(*) FROM pnl_slices").fetchone()
        assert found == (expected,), f"{found} slices arrived instead of {expected}"
        connection.execute("TRUNCATE runs CASCADE")
        connection.execute("TRUNCATE pnl_slices")
    drop_lone_parts(connection)
