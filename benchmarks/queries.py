"""How quickly the usual questions about runs are answered, over millions of slices.

The runs are loaded as every run is, and asked for through `ResultsManager`, on a connection that is
open. The peer asks the same of the same rows in tables as they come: without partitions, indexes
and sums. Between the rounds, nothing is emptied: what is in memory stays there, for both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.shard_load import TableRows, replace_shard
from fillpath.instrumentation.settings import DataFolder
from harness import Figure, Size, figure
from postgres import slices

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

_GOAL: Final = 50.0
_STARTED: Final = 1_704_110_400_000_000_000
_DAY: Final = 86_400 * 10**9
_COLUMNS: Final = (
    "portfolio", "strategy", "symbol", "currency", "kind", "sequence", "event_time", "amount",
    "fill_id", "trace_id", "span_id",
)  # fmt: skip
_ROUNDS: Final = 7
_PLAIN: Final = ("pnl_slices", "trades", "figures", "latency", "runs")

Work = Callable[[], object]


def measure(size: Size) -> dict[str, Figure]:
    """Load 200 runs of a year, and ask."""
    runs = size.pick(4, 200, 200)
    rows = size.pick(1_000, 1_000_000, 10_000_000) // runs
    with (
        tempfile.TemporaryDirectory() as folder,
        open_results_database(DataFolder(Path(folder))) as database,
        database.connect(autocommit=True) as connection,
    ):
        for number in range(runs):
            _load(connection, number, rows)
        connection.execute("CREATE SCHEMA plain")
        for table in _PLAIN:
            copied = f"CREATE TABLE plain.{table} AS SELECT * FROM {table}"  # noqa: S608 - our own names
            connection.execute(copied.encode())
        connection.execute("VACUUM ANALYZE")
        with ResultsManager(connection) as results:
            return _figures(results, connection, runs, rows)


def _figures(
    results: ResultsManager, connection: Connection[TupleRow], runs: int, rows: int
) -> dict[str, Figure]:
    one, other = f"run-{runs // 2:03}", f"run-{runs // 2 + 1:03}"

    def plain(*statements: str) -> Work:
        return lambda: [connection.execute(each.encode()).fetchall() for each in statements]

    def by(column: str, run: str = one) -> str:
        return (
            f"SELECT {column}, currency, kind, sum(amount) FROM plain.pnl_slices "  # noqa: S608 - our own names
            f"WHERE run_id = '{run}' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )

    figures = "plain.figures JOIN plain.runs USING (run_id) WHERE name = 'sharpe'"
    page = f"WHERE run_id = '{one}' ORDER BY {{}} LIMIT 100 OFFSET {rows // 8}"
    questions: dict[str, tuple[Work, Work]] = {
        "P&L by strategy": (lambda: results.pnl_by(one, "strategy"), plain(by("strategy"))),
        "P&L by symbol": (lambda: results.pnl_by(one, "symbol"), plain(by("symbol"))),
        "P&L by day": (
            lambda: results.pnl_by(one, "day"),
            plain(by("(event_at AT TIME ZONE 'UTC')::date")),
        ),
        "top runs by a figure": (
            lambda: results.top_runs("sharpe", 20),
            plain(f"SELECT run_id, value FROM {figures} ORDER BY value DESC LIMIT 20"),  # noqa: S608
        ),
        "top runs with a parameter": (
            lambda: results.top_runs("sharpe", 20, where={"fast": 3}),
            plain(
                f"SELECT run_id, value FROM {figures} AND parameters ->> 'fast' = '3' "  # noqa: S608
                "ORDER BY value DESC LIMIT 20"
            ),
        ),
        "sweep of two parameters": (
            lambda: results.sweep(["fast", "slow"], "sharpe"),
            plain(
                "SELECT parameters -> 'fast', parameters -> 'slow', avg(value), max(value) "  # noqa: S608
                f"FROM {figures} GROUP BY 1, 2"
            ),
        ),
        "compare two runs": (
            lambda: results.compare(one, other),
            plain(
                *(by(column, run) for column in ("strategy", "symbol") for run in (one, other)),
                f"SELECT * FROM plain.figures WHERE run_id IN ('{one}', '{other}')",  # noqa: S608
                f"SELECT * FROM plain.latency WHERE run_id IN ('{one}', '{other}')",  # noqa: S608
            ),
        ),
        "latency of a run": (
            lambda: results.read("hops_of_run", run_id=one),
            plain(f"SELECT * FROM plain.latency WHERE run_id = '{one}'"),  # noqa: S608
        ),
        "a page of trades": (
            lambda: results.rows("trades", one, most=100, skip=rows // 8),
            plain(f"SELECT * FROM plain.trades {page.format('entry_sequence')}"),  # noqa: S608
        ),
        "a page of slices": (
            lambda: results.rows("pnl_slices", one, most=100, skip=rows // 8),
            plain(f"SELECT * FROM plain.pnl_slices {page.format('sequence')}"),  # noqa: S608
        ),
    }
    peer = "plain tables"
    return {
        f"{name}, {runs * rows:,} slices": figure(
            _milliseconds(ours),
            "ms",
            peer=(peer, _milliseconds(theirs)),
            goal="< 50 ms",
            at_most=_GOAL,
        )
        for name, (ours, theirs) in questions.items()
    }


def _milliseconds(work: Work) -> float:
    taken = []
    for _ in range(_ROUNDS + 1):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1e3)
    return median(taken[1:])


def _load(connection: Connection[TupleRow], number: int, rows: int) -> None:
    random = np.random.default_rng(number)
    table = slices(rows, number).select(_COLUMNS)
    trades = max(rows // 4, 1)
    values: dict[str, Any] = {
        "portfolio": table["portfolio"][:trades],
        "trade_id": pa.array([f"T-{n}" for n in range(trades)]),
        "entry_sequence": table["sequence"][:trades],
        "strategy": table["strategy"][:trades],
        "symbol": table["symbol"][:trades],
        "direction": pa.repeat(pa.scalar("LONG"), trades),
        "quantity": table["amount"][:trades],
        "realized_pnl": table["amount"][:trades],
        "currency": table["currency"][:trades],
        "entry_trace_id": table["trace_id"][:trades],
    }
    names = [f"figure_{n}" for n in range(30)] + ["sharpe"]
    hops = [f"hop {n}" for n in range(12)]
    tables = {
        "pnl_slices": TableRows(_COLUMNS, table),
        "trades": TableRows(list(values), pa.table(values)),
        "figures": TableRows(
            ("portfolio", "currency", "name", "value"),
            [("", "", name, float(random.normal())) for name in names],
        ),
        "latency": TableRows(
            ("portfolio", "strategy", "hop", "count", "p50", "p90", "p99", "max"),
            [("fund/desk/book", None, hop, 1, 2, 3, 4, 5) for hop in hops],
        ),
    }
    run = {
        "run_id": f"run-{number:03}",
        "started_at": _STARTED + number * 2 * _DAY,
        "parameters": {"fast": number % 5, "slow": number % 7},
    }
    assert replace_shard(connection, run, tables, source_version="1")
