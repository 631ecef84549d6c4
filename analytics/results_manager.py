"""Results of runs: loaded from the lake into Postgres, and read back.

A load computes everything about a run anew and replaces what was there, in one transaction. It
does nothing if the lake has not changed since, and it may be repeated at any time, also while the
run still goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.migrate import apply_migrations
from fillpath.analytics.own_partitions import drop_lone_parts
from fillpath.analytics.pnl_dimensions import DIMENSIONS, breakdown_query, known_dimensions
from fillpath.analytics.postgres import ResultsDatabase
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.result_partitions import PARTITIONED
from fillpath.analytics.results_cache import cached
from fillpath.analytics.results_error import ResultsError, first_line
from fillpath.analytics.results_retention import RetentionPlan, plan_retention, retain
from fillpath.analytics.results_rows import compute_results
from fillpath.analytics.run_comparison import RunComparison, compare_runs
from fillpath.analytics.run_figures import (
    ALL_PORTFOLIOS,
    RankedRun,
    SweepGroup,
    ranking,
    sweep_groups,
    sweeping,
)
from fillpath.analytics.run_filter import RunFilter
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.shard_load import SHARD_TABLES, WHOLE_RUN, replace_shard
from fillpath.analytics.sql_files import read_sql
from fillpath.analytics.versions import fillpath_version
from fillpath.instrumentation.errors import NotFound, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from psycopg import Connection
    from psycopg.rows import TupleRow
    from psycopg.sql import SQL, Composed

    from fillpath.exporters.event_store import EventStore

RULES_VERSION: Final = 7
"""Rises when the same lake comes to other results, so that runs are loaded again."""
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
    "funnel": ("portfolio", "strategy"),
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
    code_version: str | None = None
    seed: str | None = None
    data_from: int | None = None
    data_to: int | None = None
    portfolios: Sequence[str] = ()
    backtests: Sequence[Mapping[str, Any]] = ()


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
        version = source_version(store, run_id)
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

    def runs(self, where: Mapping[str, object] | RunFilter | None = None) -> list[RunSummary]:
        """List the runs that are loaded, the newest first.

        Args:
            where: Values that their parameters must have, such as ``{"fast": 10}``.
        """
        if where is None:
            return [_run_summary(row) for row in self.read("runs")]
        from psycopg import sql

        condition, values = _filter(where).condition()
        statement = sql.SQL(
            "SELECT * FROM runs WHERE {} ORDER BY started_at DESC NULLS LAST, run_id DESC"
        ).format(condition)
        return [_run_summary(row) for row in self._rows(statement, values)]

    def run(self, given: str) -> RunSummary:
        """Find a loaded run by its id, a unique prefix of it, or ``latest``.

        Raises:
            NotFound: There is none; names the nearest.
            UsageError: Several begin so; names them.
        """
        with self._explained():
            # Both kinds of connection take a query and give rows in the same way.
            run_id = find_run(cast("DuckDBPyConnection", self._connection), given)
        return next(_run_summary(row) for row in self.read("run_row", run_id=run_id))

    def top_runs(
        self,
        figure: str,
        limit: int = 10,
        *,
        where: Mapping[str, object] | RunFilter | None = None,
        portfolio: str = ALL_PORTFOLIOS,
        currency: str | None = None,
        lowest: bool = False,
    ) -> list[RankedRun]:
        """List the runs with the highest figure, the best first.

        Args:
            figure: Name of the figure, as in table ``figures``, such as ``sharpe``.
            limit: How many at most.
            where: Values that their parameters must have.
            portfolio: The figure of this portfolio; all of the run when left out.
            currency: In this currency only.
            lowest: The lowest ones instead.

        Raises:
            UsageError: No run has such a figure.
        """
        statement, values = ranking(
            figure,
            limit,
            _filter(where),
            portfolio=portfolio,
            currency=currency,
            lowest=lowest,
        )
        found = [RankedRun(**row) for row in self._rows(statement, values)]
        if not found:
            self._require_figure(figure)
        return found

    def sweep(
        self,
        parameters: Sequence[str],
        figure: str,
        *,
        where: Mapping[str, object] | RunFilter | None = None,
        portfolio: str = ALL_PORTFOLIOS,
        currency: str | None = None,
        lowest: bool = False,
    ) -> list[SweepGroup]:
        """Group runs by the values of some parameters, and tell what became of a figure.

        Args:
            parameters: Names of parameters; ``risk.limit`` is one within another.
            figure: Name of the figure.
            where: Values that other parameters must have.
            portfolio: The figure of this portfolio; all of the run when left out.
            currency: In this currency only.
            lowest: Whether the lowest figure is the best.

        Raises:
            UsageError: No run has such a figure, or no parameter is named.
        """
        if not parameters:
            raise UsageError("Name the parameters to compare.", next_command="--over fast,slow")
        statement, values = sweeping(
            parameters,
            figure,
            _filter(where),
            portfolio=portfolio,
            currency=currency,
            lowest=lowest,
        )
        found = sweep_groups(self._rows(statement, values), parameters)
        if not found:
            self._require_figure(figure)
        return found

    def _require_figure(self, figure: str) -> None:
        known = [str(row["name"]) for row in self.read("figure_names")]
        if figure in known:
            return
        if not known:
            raise UsageError(
                "No run that is loaded has figures.", next_command="fillpath db load --all"
            )
        raise UsageError(
            f"No run has a figure '{figure}'.",
            next_command="one of " + ", ".join(known),
        )

    def compare(self, *run_ids: str) -> RunComparison:
        """Put runs side by side: figures, P&L, completeness, latency.

        Raises:
            NotFound: One is not loaded.
        """
        return compare_runs(self, run_ids)

    def delete(self, run_id: str) -> None:
        """Let a run go with all its rows; the lake keeps it.

        Raises:
            NotFound: It is not loaded.
        """
        with self._explained():
            deleted = self._connection.execute("DELETE FROM runs WHERE run_id = %s", [run_id])
            drop_lone_parts(self._connection)
        if not deleted.rowcount:
            raise NotFound(f"There is no run '{run_id}'.", next_command="fillpath db status")

    def retain(
        self, *, older_than: int | None = None, keep: int | None = None, plan_only: bool = False
    ) -> RetentionPlan:
        """Let old runs go, whole months at once where nothing else is in them.

        Args:
            older_than: Those that ended before this time, nanoseconds since 1970.
            keep: All but so many of the newest.
            plan_only: Say what would go, and do nothing.

        Raises:
            UsageError: Neither or both are given.
            ResultsError: The database refused; nothing has changed.
        """
        if plan_only:
            with self._explained():
                return plan_retention(self._connection, before=older_than, keep=keep)
        return retain(self._connection, before=older_than, keep=keep)

    def cached(self, run_id: str, name: str, make: Callable[[], Any], **parameters: object) -> Any:
        """Give an answer about a run that is kept until the run is loaded again.

        Args:
            run_id: The run; its whole id. The answer must be about no other.
            name: What is asked.
            make: Makes the answer: lists, mappings by text, texts, numbers, decimals, dates, times.
            parameters: What it depends on besides.
        """
        return cached(self.read, run_id, name, parameters, make)

    def pnl_by(self, run_id: str, *dimensions: str) -> list[PnlSum]:
        """Add up the profit of a run by some dimensions, always within each currency.

        Args:
            run_id: The run; its whole id.
            dimensions: Some of `DIMENSIONS`; none gives the total of each currency.

        Raises:
            UsageError: There is no such dimension.
        """
        names = known_dimensions(dimensions)
        month, months = self._in_month(run_id)
        with self._explained():
            rows = self._connection.execute(
                breakdown_query(names, month), [run_id, *months]
            ).fetchall()
        groups: dict[tuple[Any, ...], dict[str, Decimal]] = {}
        for *values, kind, amount in rows:
            key = tuple(value if value is None else str(value) for value in values)
            groups.setdefault(key, {})[kind] = amount
        return [
            PnlSum(dict(zip(names, key, strict=False)), str(key[-1]), amounts)
            for key, amounts in groups.items()
        ]

    def reconcile(self, run_id: str) -> list[AccountReconciliation]:
        """Read every account of a run beside the engine's own statement of it."""
        return [_reconciliation(row) for row in self.rows("reconciliation", run_id)]

    def rows(self, table: str, run_id: str, *, most: int | None = None, skip: int = 0) -> list[Row]:
        """Read the rows of a run from a table, by column, in the order of their events.

        Args:
            table: One of `SHARD_TABLES`.
            run_id: The run; its whole id.
            most: How many at most; all of them when left out.
            skip: How many to leave out first.

        Raises:
            UsageError: There is no such table.
        """
        if table not in SHARD_TABLES:
            raise UsageError(
                f"There is no table of results '{table}'.", next_command=", ".join(SHARD_TABLES)
            )
        from psycopg import sql

        order = sql.SQL(", ").join(map(sql.Identifier, _ORDER[table]))
        month, months = self._in_month(run_id) if table in PARTITIONED else (sql.SQL("true"), [])
        statement = sql.SQL(
            "SELECT * FROM {} WHERE run_id = %s AND {} ORDER BY {} LIMIT %s OFFSET %s"
        ).format(sql.Identifier(table), month, order)
        return self._rows(statement, [run_id, *months, most, skip])

    def _in_month(self, run_id: str) -> tuple[SQL, list[object]]:
        """Give the condition that leaves the partitions of other months alone."""
        from psycopg import sql

        known = self.read("month_of_run", run_id=run_id)
        if not known:  # nor its row, for a role that does not see all of it
            return sql.SQL("true"), []
        return sql.SQL("run_month = %s"), [known[0]["run_month"]]

    def read(self, query: str, **parameters: object) -> list[Row]:
        """Run one of the queries that ship in ``sql/results/``; gives its rows by column."""
        return self._rows(read_sql(f"results/{query}").encode(), parameters)

    def _rows(
        self, query: bytes | Composed, parameters: Mapping[str, object] | Sequence[object]
    ) -> list[Row]:
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
            raise ResultsError(
                f"The results cannot be read: {first_line(error)}.", next_command="fillpath doctor"
            ) from error


def source_version(store: EventStore, run_id: str) -> str:
    """Name what the results of a run are made from: files of the lake, and the rules."""
    spans, runs = store.spans.files([run_id]), store.runs.files([run_id])
    names = "\n".join(file.name for file in (*spans, *runs))
    lake = hashlib.sha256(names.encode()).hexdigest()[:16]
    return f"lake {lake}, fillpath {fillpath_version()}, rules {RULES_VERSION}"


def _filter(where: Mapping[str, object] | RunFilter | None) -> RunFilter:
    if isinstance(where, RunFilter):
        return where
    return RunFilter.equal(where or {})


def _run_summary(row: Row) -> RunSummary:
    return RunSummary(**{field.name: row[field.name] for field in fields(RunSummary)})


def _reconciliation(row: Row) -> AccountReconciliation:
    renamed = {"start": "start_balance", "end": "end_balance"}
    values = {f.name: row[renamed.get(f.name, f.name)] for f in fields(AccountReconciliation)}
    values["status"] = ReconciliationStatus(values["status"])
    values["notes"] = tuple(values["notes"])
    return AccountReconciliation(**values)


__all__ = ["DIMENSIONS", "PnlSum", "ResultsManager", "RunSummary"]
