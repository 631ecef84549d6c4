"""What a connection to the lake offers beside `spans` and `runs`: views by kind, and single chains.

`chain('…')` gives the rows of the view `spans` that belong to one chain, and reads only the files
that can hold them: an id of our own names its run and the sequence of its root, and of each file it
is known which roots it has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources
from typing import Final

import duckdb

from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.schema import DECIMAL_DIGITS, DECIMAL_SCALE
from fillpath.instrumentation import identity

CHAIN: Final = "chain"
FURTHER_VIEWS: Final = (
    "bars",
    "ticks",
    "signals",
    "commands",
    "orders",
    "fills",
    "positions",
    "accounts",
    "otel_traces",
    CHAIN,
)
"""Views of the events of one kind, the one with the names of the Collector's ClickHouse table, and
the table macros `chain` and `raw_chain`."""


@cache
def read_sql(name: str) -> str:
    """Return the statements in ``sql/<name>.sql``."""
    return (resources.files("fillpath.exporters") / "sql" / f"{name}.sql").read_text("utf-8")


def with_scale(sql: str, scale: int) -> str:
    """Write the decimal type for which `exact` stands in our SQL."""
    return sql.replace("AS exact", f"AS DECIMAL({DECIMAL_DIGITS}, {scale})")


def further_views_in(sql: str) -> list[str]:
    """Name the further views that a query may mean; making all takes longer than many a query."""
    text = sql.lower()
    return [name for name in FURTHER_VIEWS if name in text]


def create_further_views(connection: duckdb.DuckDBPyConnection, names: Collection[str]) -> None:
    """Create views over `spans`, `raw_spans` and `runs`.

    The log tells how fine quantities, prices and commissions are, but no other numbers: those get
    all the digits that there is room for.

    Args:
        connection: A connection with these three.
        names: Which of `FURTHER_VIEWS`.
    """
    views = [name for name in names if name != CHAIN]
    for name in ("kind_macros", *views) if views else ():
        connection.execute(with_scale(read_sql(name), DECIMAL_SCALE))


def create_chain_macros(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[LakeFile],
    scale: int,
    *,
    source: str | None,
    columns: str,
    condition: str,
) -> None:
    """Create the table macros `chain` and `raw_chain`.

    Args:
        connection: A connection with the view `raw_spans`.
        files: The files of the table of spans.
        scale: Digits after the point of exact numbers.
        source: The files as DuckDB reads them, with their paths as `filename`; None when they have
            none, and `raw_spans` itself has to do.
        columns: The columns of `raw_spans`, as they are made from the source.
        condition: What rows of the source must meet.
    """
    paths: list[str] = []
    keys: list[str | None] = []
    firsts: list[int | None] = []
    lasts: list[int | None] = []
    for file in files:
        first, last = _roots_of(file)
        # A file of several runs can hold any chain, and so can one with traces of other processes.
        holds_any = file.run_id is None or file.joins
        if not holds_any and (first is None or last is None):
            continue
        paths.append(file.address)
        keys.append(None if holds_any else f"{identity.run_key(str(file.run_id)):022x}")
        firsts.append(first)
        lasts.append(last)
    connection.execute(
        read_sql("chain_files"), {"paths": paths, "keys": keys, "firsts": firsts, "lasts": lasts}
    )
    connection.execute(read_sql("chain_macros"))
    pruned = "true"
    if source is None:
        source = "raw_spans"
    else:
        pruned = "may_hold_chain(filename, trace_hex(id))"
    connection.execute(
        "CREATE MACRO raw_chain(id) AS TABLE "  # noqa: S608 - all of it is ours
        f"SELECT {columns} FROM {source} "
        f"WHERE {pruned} AND is_of_chain(trace_id, correlation_id, id) AND {condition}"
    )
    shown = read_sql("spans").replace("CREATE VIEW spans AS", "CREATE MACRO chain(id) AS TABLE")
    connection.execute(with_scale(shown.replace("FROM raw_spans", "FROM raw_chain(id)"), scale))


def _roots_of(file: LakeFile) -> tuple[int | None, int | None]:
    return file.smallest.get("root_sequence"), file.largest.get("root_sequence")
