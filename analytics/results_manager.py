"""Results of runs: loaded from the lake into Postgres, and read back.

A load computes everything about a run anew and replaces what was there, in one transaction. It
does nothing if the lake has not changed since, and it may be repeated at any time, also while the
run still goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.migrate import apply_migrations
from fillpath.analytics.postgres import ResultsDatabase
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.results_rows import compute_results
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.shard_load import SHARD_TABLES, WHOLE_RUN, replace_shard
from fillpath.analytics.sql_files import read_sql
from fillpath.analytics.versions import fillpath_version
from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from psycopg import Connection
    from psycopg.rows import TupleRow
    from psycopg.sql import Composed

    from fillpath.exporters.event_store import EventStore

RULES_VERSION: Final = 2
"""Rises when the same lake comes to other results, so that runs are loaded again."""
DIMENSIONS: Final = ("portfolio", "strategy", "symbol")
"""What profit can be broken down by, within each currency and kind."""
_ORDER: Final = {
    "completeness": ("portfolio", "event_type"),
    "orders": ("sequence",),
    "fills": ("sequence",),
    "trades": ("entry_sequence", "trade_id"),
    "pnl_slices": ("sequence", "kind", "currency"),
    "balances": ("portfolio", "account_id", "currency"),
    "reconciliation": ("portfolio", "account_id", "currency"),
    "equity": ("sequence", "currency"),
    "latency": ("breakdown", "portfolio", "hop", "strategy", "handler"),
    "signals": ("sequence",),
    "pnl_rollups": ("portfolio", "strategy", "symbol", "currency", "kind", "day"),
    "executions": ("sequence",),
    "signal_strength": ("portfolio", "strategy", "name", "bucket", "currency"),
    "signal_decay": ("portfolio", "strategy", "name", "horizon"),
    "regimes": ("sequence", "portfolio", "symbol"),
    "latency_histograms": ("portfolio", "strategy", "hop", "handler", "period_start"),
    "daily_returns": ("portfolio", "currency", "day"),
    "figures": ("portfolio", "currency", "name"),
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as the database has it; see the comments on table ``runs``."""

    run_id: str
    mode: str | None
    status: str | None
    service_name: str | None
    engine: str | None
    engine_version: str | None
    started_at: int | None
    ended_at: int | None
    parameters: Mapping[str, Any]
    published: int | None
    kept: int | None
    sampled_out: int | None
    dropped: int | None


@dataclass(frozen=True, slots=True)
class PnlSum:
    """One row of a breakdown of profit.

    Attributes:
        names: The value of each dimension asked for; ``None`` where a slice has none.
        currency: Currency of the amounts.
        amounts: By kind of slice; a commission is negative. Kinds without slices are missing.
    """

    names: Mapping[str, str | None]
    currency: str
    amounts: Mapping[str, Decimal]

    @property
    def total(self) -> Decimal:
        """All kinds together."""
        with exact_arithmetic():
            return sum(self.amounts.values(), ZERO)


class ResultsManager:
    """Loads runs into a results database, and reads them back.

    Use it as a context manager, or call `close`.

    Args:
        database: What `open_results_database` gives, an open connection (which stays open), or
            the connection string of a server, whose schema is brought up to date.

    Raises:
        BackendUnreachable: The server does not answer, or refuses the login.
    """

    def __init__(self, database: ResultsDatabase | Connection[TupleRow] | str) -> None:
        self._owns_connection = True
        if isinstance(database, str):
            database = ResultsDatabase(database, embedded=False)
            with database.connect() as connection:
                apply_migrations(connection)
        if isinstance(database, ResultsDatabase):
            self._connection = database.connect(autocommit=True)
        else:
            self._connection = database
            self._owns_connection = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, unless it was given."""
        if self._owns_connection:
            self._connection.close()

    def load(self, store: EventStore, run_id: str, *, again: bool = False) -> bool:
        """Load a run from the lake, in place of what was loaded of it before.

        Args:
            store: The lake.
            run_id: The run; its whole id.
            again: Load even if the lake has not changed since.

        Returns:
            False if the lake has not changed since the last load and nothing was done.

        Raises:
            NotFound: The lake has no such run.
            LakeError: The lake is damaged.
            ResultsError: The database refused; nothing has changed.
        """
        version = _source_version(store, run_id)
        if not again and self._loaded_version(run_id) == version:
            return False
        with store.connect([run_id], further_views=()) as connection:
            results = compute_results(connection, run_id)
        return replace_shard(
            self._connection, results.run, results.tables, source_version=version, again=again
        )

    def _loaded_version(self, run_id: str) -> str | None:
        rows = self.read("loaded_version", run_id=run_id, shard=WHOLE_RUN)
        return str(rows[0]["source_version"]) if rows else None

    def runs(self) -> list[RunSummary]:
        """List the runs that are loaded, the newest first."""
        return [_run_summary(row) for row in self.read("runs")]

    def run(self, given: str) -> RunSummary:
        """Find a loaded run by its id, a unique prefix of it, or ``latest``.

        Raises:
            NotFound: There is none; names the nearest.
            UsageError: Several begin so; names them.
        """
        with self._explained():
            # Both kinds of connection take a query and give rows in the same way.
            run_id = find_run(cast("DuckDBPyConnection", self._connection), given)
        return next(run for run in self.runs() if run.run_id == run_id)

    def pnl_by(self, run_id: str, *dimensions: str) -> list[PnlSum]:
        """Add up the profit of a run by some dimensions, always within each currency.

        Args:
            run_id: The run; its whole id.
            dimensions: Some of `DIMENSIONS`; none gives the total of each currency.

        Raises:
            UsageError: There is no such dimension.
        """
        from psycopg import sql

        unknown = [name for name in dimensions if name not in DIMENSIONS]
        if unknown:
            raise UsageError(
                f"Profit cannot be broken down by {', '.join(unknown)}.",
                next_command=", ".join(DIMENSIONS),
            )
        names = tuple(dict.fromkeys(dimensions))
        columns = [sql.Identifier(name) for name in (*names, "currency", "kind")]
        statement = sql.SQL(
            "SELECT {columns}, sum(amount) FROM pnl_slices WHERE run_id = %s "
            "GROUP BY {columns} ORDER BY {columns}"
        ).format(columns=sql.SQL(", ").join(columns))
        with self._explained():
            rows = self._connection.execute(statement, [run_id]).fetchall()
        groups: dict[tuple[Any, ...], dict[str, Decimal]] = {}
        for *key, kind, amount in rows:
            groups.setdefault(tuple(key), {})[kind] = amount
        return [
            PnlSum(dict(zip(names, key, strict=False)), key[-1], amounts)
            for key, amounts in groups.items()
        ]

    def reconcile(self, run_id: str) -> list[AccountReconciliation]:
        """Read every account of a run beside the engine's own statement of it."""
        return [_reconciliation(row) for row in self.rows("reconciliation", run_id)]

    def rows(self, table: str, run_id: str) -> list[Row]:
        """Read the rows of a run from a table, by column, in the order of their events.

        Args:
            table: One of `SHARD_TABLES`.
            run_id: The run; its whole id.

        Raises:
            UsageError: There is no such table.
        """
        if table not in SHARD_TABLES:
            raise UsageError(
                f"There is no table of results '{table}'.", next_command=", ".join(SHARD_TABLES)
            )
        from psycopg import sql

        order = sql.SQL(", ").join(map(sql.Identifier, _ORDER[table]))
        statement = sql.SQL("SELECT * FROM {} WHERE run_id = %(run_id)s ORDER BY {}").format(
            sql.Identifier(table), order
        )
        return self._rows(statement, {"run_id": run_id})

    def read(self, query: str, **parameters: object) -> list[Row]:
        """Run one of the queries that ship in ``sql/results/``; gives its rows by column."""
        return self._rows(read_sql(f"results/{query}").encode(), parameters)

    def _rows(self, query: bytes | Composed, parameters: Mapping[str, object]) -> list[Row]:
        with self._explained(), self._connection.cursor() as cursor:
            cursor.execute(query, parameters)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ResultsError(
                f"The results cannot be read: {first}.", next_command="fillpath doctor"
            ) from error


def _source_version(store: EventStore, run_id: str) -> str:
    """Name what the results of a run are made from: files of the lake, and the rules."""
    spans, runs = store.spans.files([run_id]), store.runs.files([run_id])
    names = "\n".join(file.name for file in (*spans, *runs))
    lake = hashlib.sha256(names.encode()).hexdigest()[:16]
    return f"lake {lake}, fillpath {fillpath_version()}, rules {RULES_VERSION}"


def _run_summary(row: Row) -> RunSummary:
    return RunSummary(**{field.name: row[field.name] for field in fields(RunSummary)})


def _reconciliation(row: Row) -> AccountReconciliation:
    renamed = {"start": "start_balance", "end": "end_balance"}
    values = {f.name: row[renamed.get(f.name, f.name)] for f in fields(AccountReconciliation)}
    values["status"] = ReconciliationStatus(values["status"])
    values["notes"] = tuple(values["notes"])
    return AccountReconciliation(**values)
