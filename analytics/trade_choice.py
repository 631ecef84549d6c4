"""Chooses a trade of a run that shows what a chain is: from the bar over a signal to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fillpath.analytics.run_lookup import LATEST
from fillpath.analytics.trace_loading import MOST_SPANS, Trace, load_trace
from fillpath.analytics.trace_lookup import ID_COLUMNS, Target, find_target

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The first fill of a chain that began with a bar, went over a signal, and holds the exit too; it
# has to fit a screen. Of several, the chain that made or lost the most.
_ENTRY: Final = """
WITH chains AS (
    SELECT
        trace_id,
        min(sequence) FILTER (name = 'publish FILL') AS first_fill,
        max(abs(TRY_CAST(attributes ->> '$."trading.position.realized_pnl"' AS DECIMAL(38, 9))))
            FILTER (event_type = 'POSITION_CLOSE') AS came_to,
        bool_or(event_type = 'POSITION_OPEN') AS is_entry
    FROM spans
    WHERE run_id = $run_id
    GROUP BY trace_id
    HAVING count(*) <= $longest
        AND bool_or(event_type = 'BAR' AND parent_span_id IS NULL)
        AND bool_or(event_type = 'SIGNAL')
        AND bool_or(name = 'publish FILL')
)
SELECT spans.fill_id, spans.portfolio
FROM chains
JOIN spans ON spans.run_id = $run_id AND spans.sequence = chains.first_fill
WHERE spans.fill_id IS NOT NULL
ORDER BY is_entry DESC, came_to DESC NULLS LAST, spans.sequence
LIMIT 1
"""


def choose_trade(connection: DuckDBPyConnection, run_id: str) -> Trace:
    """Choose a trade of a run and read its chain.

    Args:
        connection: A connection with the views `spans` and `runs`.
        run_id: The run.

    Raises:
        NotFound: The run has no fill.
    """
    row = connection.execute(_ENTRY, {"run_id": run_id, "longest": MOST_SPANS // 2}).fetchone()
    if row is None:
        target = find_target(connection, LATEST, run=run_id)
    else:
        fill_id, portfolio = row
        target = Target(ID_COLUMNS["fill_id"], "fill_id", fill_id, run_id, portfolio)
    return load_trace(connection, target)
