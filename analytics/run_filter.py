"""Which runs are meant: those whose parameters have certain values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    from psycopg.sql import Composable


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Conditions on the parameters of a run, all of which must hold.

    Args:
        conditions: For each, the objects of which the parameters must contain one.
    """

    conditions: tuple[tuple[Mapping[str, Any], ...], ...] = ()

    @classmethod
    def equal(cls, parameters: Mapping[str, object]) -> Self:
        """Make one of values as they were given to the run, nested ones too."""
        return cls(tuple(({name: value},) for name, value in parameters.items()))

    @classmethod
    def parse(cls, given: Iterable[str]) -> Self:
        """Make one of texts such as ``fast=10`` or ``risk.limit=5``.

        What can be a number or a word is looked for as both.

        Raises:
            UsageError: A text has no ``=``.
        """
        return cls(tuple(_alternatives(text) for text in given))

    def condition(self, table: str = "runs") -> tuple[Composable, list[object]]:
        """Give it as SQL on the column ``parameters`` of a table, and the parameters of that."""
        from psycopg import sql
        from psycopg.types.json import Jsonb

        parts, values = [], []
        for alternatives in self.conditions:
            asked = sql.SQL("{}.parameters @> %s").format(sql.Identifier(table))
            one = sql.SQL(" OR ").join([asked] * len(alternatives))
            parts.append(sql.SQL("({})").format(one))
            values += [Jsonb(dict(alternative)) for alternative in alternatives]
        return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true"), list(values)


def _alternatives(text: str) -> tuple[Mapping[str, Any], ...]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UsageError(
            f"'{text}' does not say what a parameter is to be.", next_command="--where fast=10"
        )
    values: list[object] = [value]
    try:
        as_json = json.loads(value, parse_constant=str)
    except ValueError:
        pass
    else:
        values.insert(0, as_json)
    found: list[Mapping[str, Any]] = []
    for one in values:
        found.append({name: one})
        if "." in name:
            nested: Any = one
            for part in reversed(name.split(".")):
                nested = {part: nested}
            found.append(nested)
    return tuple(found)
