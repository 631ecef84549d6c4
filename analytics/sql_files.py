"""Finds the SQL that ships beside the code: one statement a file, in `sql/`."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read_sql(name: str) -> str:
    """Return the statement in ``sql/<name>.sql``."""
    return (resources.files("fillpath.analytics") / "sql" / f"{name}.sql").read_text("utf-8")


def json_path(key: str) -> str:
    """Return the JSON path of an attribute, whose key has dots in it."""
    return f'$."{key}"'
