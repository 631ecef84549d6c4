"""What profit can be broken down by, and how the database sums it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

_LINE: Final = "coalesce('reclassified_' || reclassified, kind)"
"""The halves of a reclassification add up to nothing; apart, each belongs to a kind."""
_AT: Final = "to_char(event_at AT TIME ZONE 'UTC', '{}')"
_OF_SLICES: Final = {
    "portfolio": "portfolio",
    "account": "account_id",
    "strategy": "strategy",
    "signal": "signal",
    "symbol": "symbol",
    "venue": "venue",
    "day": _AT.format("YYYY-MM-DD"),
    "week": _AT.format('IYYY-"W"IW'),
    "month": _AT.format("YYYY-MM"),
    "hour": _AT.format("HH24"),
    "regime": "regime",
    "side": "side",
    "exit_reason": "exit_reason",
    "holding_time": "holding",
    "kind": _LINE,
    "trade": "trade_id",
}
_OF_ROLLUPS: Final = {
    "portfolio": "portfolio",
    "strategy": "strategy",
    "symbol": "symbol",
    "day": "to_char(day, 'YYYY-MM-DD')",
    "week": "to_char(day, 'IYYY-\"W\"IW')",
    "month": "to_char(day, 'YYYY-MM')",
    "kind": "kind",
}
DIMENSIONS: Final = tuple(_OF_SLICES)
"""What profit can be broken down by, always within each currency."""


def known_dimensions(wanted: Sequence[str]) -> tuple[str, ...]:
    """Check dimensions, and drop what is named twice.

    Raises:
        UsageError: There is no such dimension; lists them.
    """
    names = tuple(dict.fromkeys(name.strip().lower().replace("-", "_") for name in wanted))
    unknown = [name or "nothing" for name in names if name not in DIMENSIONS]
    if unknown:
        raise UsageError(
            f"Profit cannot be broken down by {', '.join(unknown)}; "
            f"it can by {', '.join(DIMENSIONS)}.",
            next_command=f"fillpath attribution latest --by {','.join(DIMENSIONS[2:5:2])}",
        )
    return names


def breakdown_query(names: Sequence[str], condition: Composable) -> Composed:
    """Write the query that sums a run's profit by dimensions, currency and kind.

    The rollups serve where they have the dimensions; they are sums of the slices, so the answer is
    the same.

    Args:
        names: Some of `DIMENSIONS`.
        condition: What else the rows must meet; its parameters come after the run's id.
    """
    from psycopg import sql

    table = "pnl_rollups" if set(names) <= _OF_ROLLUPS.keys() else "pnl_slices"
    expressions = _OF_ROLLUPS if table == "pnl_rollups" else _OF_SLICES
    texts = [*(expressions[name] for name in names), "currency", expressions["kind"]]
    columns = [sql.SQL("{} AS {}").format(sql.SQL(t), sql.Identifier(f"c{n}"))
               for n, t in enumerate(texts)]  # fmt: skip
    places = sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(len(texts)))
    return sql.SQL(
        "SELECT {columns}, sum(amount) FROM {table} WHERE run_id = %s AND {condition} "
        "GROUP BY {places} ORDER BY {places}"
    ).format(
        columns=sql.SQL(", ").join(columns),
        table=sql.Identifier(table),
        condition=condition,
        places=places,
    )
