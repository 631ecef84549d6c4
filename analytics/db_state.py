"""`fillpath db upgrade` and `fillpath db status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fillpath.analytics.amounts import size_words
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.migrate import apply_migrations, pending_migrations, read_migrations
from fillpath.analytics.output import data_console, print_json, say, styled, table
from fillpath.analytics.own_partitions import month_partition
from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.report_format import count
from fillpath.analytics.result_partitions import PARTITIONED
from fillpath.analytics.run_lookup import run_ids
from fillpath.exporters.event_store import EventStore

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import ResultsManager

_MOST_LINES = 20
_STATES = {"loaded": "green", "stale": "yellow", "missing": "yellow", "only here": "dim"}


def upgrade_database(given: Invocation, *, only_plan: bool) -> None:
    """Apply the migrations that are missing, and say which.

    Raises:
        ResultsError: The database is of a newer version, or somebody else's.
        FillpathError: It cannot be reached.
    """
    with (
        open_results_database(given.folder, migrated=False) as database,
        database.connect() as connection,
    ):
        steps = pending_migrations(connection) if only_plan else apply_migrations(connection)
    labels = [step.label for step in steps]
    newest = read_migrations()[-1].version
    if given.json:
        version = newest - len(labels) if only_plan else newest
        key = "pending" if only_plan else "applied"
        print_json({"schema_version": version, "newest": newest, key: labels})
        return
    for label in labels:
        data_console().print(styled((label, "bold"), "  ", "pending" if only_plan else "applied"))
    if not labels:
        say(f"The results database has schema version {newest}: nothing to do.")
    elif only_plan:
        say(("Nothing was done yet. ", "yellow"), "Try: ", given.command("db", "upgrade"))


def show_status(given: Invocation) -> None:
    """Print where the results are, how large, and how current.

    Raises:
        FillpathError: The lake or the database cannot be used.
    """
    with lake_connection(given.folder) as connection:
        in_lake = run_ids(connection)
    with open_results_database(given.folder, migrated=False) as database:
        document = _document(given, database, in_lake)
    if given.json:
        print_json(document)
    else:
        _print(given, document)


def _document(
    given: Invocation, database: ResultsDatabase, in_lake: Sequence[str]
) -> dict[str, Any]:
    from fillpath.analytics.results_manager import ResultsManager

    with database.connect() as connection:
        pending = pending_migrations(connection)
    newest = read_migrations()[-1].version
    document: dict[str, Any] = {
        "server": database.shown,
        "embedded": database.embedded,
        "schema_version": newest - len(pending),
        "pending": [step.label for step in pending],
    }
    if pending:
        return document
    with ResultsManager(database) as results:
        (state,) = results.read("database_state")
        tables = results.read("table_sizes")
        return {
            **document,
            "database": state["name"],
            "version": state["version"],
            "bytes": state["bytes"],
            "cached_answers": state["cached_answers"],
            "runs": _runs(results, EventStore(given.folder), in_lake),
            "partitions": _partitions(
                tables, results.read("rows_by_month", tables=list(PARTITIONED))
            ),
            "tables": [
                {**row, "rows": row["rows"] if row["rows"] >= 0 else None} for row in tables
            ],
        }


def _runs(
    results: ResultsManager, store: EventStore, in_lake: Sequence[str]
) -> list[dict[str, Any]]:
    """Say of every run whether the results have it as the lake has it."""
    from fillpath.analytics.results_manager import source_version

    loaded: dict[str, list[Mapping[str, Any]]] = {}
    for row in results.read("loaded_rows"):
        loaded.setdefault(row["run_id"], []).append(row)
    runs = []
    for run_id in dict.fromkeys((*in_lake, *loaded)):
        shards = loaded.get(run_id, [])
        if not shards:
            state = "missing"
        elif run_id not in in_lake:
            state = "only here"
        else:
            current = source_version(store, run_id)
            fresh = all(shard["source_version"] == current for shard in shards)
            state = "loaded" if fresh else "stale"
        runs.append(
            {
                "run_id": run_id,
                "state": state,
                "rows": sum(shard["rows"] for shard in shards),
                "loaded_at": max((shard["loaded_at"] for shard in shards), default=None),
            }
        )
    return runs


def _partitions(
    tables: Sequence[Mapping[str, Any]], counted: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Add the parts of all tables up by month."""
    rows = {one["month"]: one["rows"] for one in counted}
    months: dict[str, dict[str, Any]] = {}
    for row in tables:
        if row["is_partition"]:
            part = month_partition(str(row["part"]))
            month = part.removeprefix(f"{row['table_name']}_").replace("_", "-")
            nothing = {"month": month, "bytes": 0, "rows": rows.get(month, 0)}
            months.setdefault(month, nothing)["bytes"] += row["bytes"]
    return [months[month] for month in sorted(months)]


def _print(given: Invocation, document: Mapping[str, Any]) -> None:
    console = data_console()
    console.print(styled(("server  ", "dim"), str(document["server"])), soft_wrap=True)
    console.print(styled(("schema  ", "dim"), f"version {document['schema_version']}"))
    if document["pending"]:
        for label in document["pending"]:
            console.print(styled(("pending ", "yellow"), label))
        say(("  Try: ", "bold"), given.command("db", "upgrade"))
        return
    size = f"{size_words(document['bytes'])}, Postgres {document['version']}"
    console.print(styled(("size    ", "dim"), size))
    console.print()
    if document["partitions"]:
        drawn = table(("month", "size", "rows"), right=("size", "rows"))
        for one in document["partitions"]:
            drawn.add_row(
                styled(one["month"]),
                styled(size_words(one["bytes"])),
                styled(count(one["rows"])),
            )
        console.print(drawn)
        console.print()
    _print_runs(given, document["runs"])


def _print_runs(given: Invocation, runs: Sequence[Mapping[str, Any]]) -> None:
    console = data_console()
    drawn = table(("run", "state", "rows", "loaded (UTC)"), right=("rows",))
    drawn.columns[0].no_wrap = True  # ids are copied
    for run in runs[:_MOST_LINES]:
        at = run["loaded_at"]
        drawn.add_row(
            styled(run["run_id"]),
            styled((run["state"], _STATES[run["state"]])),
            styled(count(run["rows"])),
            styled("" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"),
        )
    if runs:
        console.print(drawn)
    if len(runs) > _MOST_LINES:
        console.print(styled((f"… and {count(len(runs) - _MOST_LINES)} more", "dim")))
    behind = sum(run["state"] in {"stale", "missing"} for run in runs)
    if behind:
        say(f"{count(behind)} of {count(len(runs))} runs are not as the lake has them.")
        say(("  Try: ", "bold"), given.command("db", "load", "--all"))
