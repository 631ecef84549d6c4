"""Lets a DuckDB query pass only if it reads.

The connection it runs on has no access to files outside the lake. It could still overwrite those
that it may read, so everything but a plain read is turned away before it runs.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import duckdb

from fillpath.instrumentation.errors import FillpathError, UsageError

_READS: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_EXPLAIN: Final = re.compile(r"explain\b\s*(analyze\b\s*|\([^()]*\)\s*)?", re.IGNORECASE)
_SPACE_OR_COMMENT: Final = re.compile(r"(\s+|--[^\n]*(\n|$)|/\*.*?\*/)*", re.DOTALL)
_NEXT: Final = "fillpath sql only reads; use the Parquet files for anything else"


def check_reads_only(sql: str) -> None:
    """Check one query before it runs.

    Raises:
        UsageError: When it does not parse, is empty, or is more than one statement.
        FillpathError: When it would do anything but read.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(str(error)) from error
    if not statements:
        raise UsageError("The query is empty.", next_command="fillpath sql 'SELECT * FROM runs'")
    if len(statements) > 1:
        raise UsageError(f"One query at a time, please; these are {len(statements)}.")
    text = sql
    if statements[0].type == duckdb.StatementType.EXPLAIN:
        begin = _SPACE_OR_COMMENT.match(text)
        text = text[begin.end() :] if begin else text
        text = _EXPLAIN.sub("", text, count=1)
    _check_tree(text)


def _check_tree(sql: str) -> None:
    with duckdb.connect(":memory:") as connection:
        row = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {}
    if tree.get("error") or len(tree.get("statements", ())) != 1:
        message = "This statement is refused, because it is not a query."
        if "pivot" in sql.lower():
            message += " PIVOT needs its values spelt out: PIVOT … ON column IN (…)."
        raise FillpathError(message, next_command=_NEXT)
    if (node := _writing_node(tree)) is not None:
        raise FillpathError(
            f"This query is refused, because it would write ({node}).", next_command=_NEXT
        )


def _writing_node(tree: Any) -> str | None:
    """Name the first part of a statement's tree that does something else than read."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READS:
                return kind.removesuffix("_NODE").removesuffix("_QUERY").lower()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return None
