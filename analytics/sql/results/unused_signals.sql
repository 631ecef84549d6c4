-- Signals of a run that led to nothing: the first few of each name and reason, or all of them.
WITH numbered AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY portfolio, strategy, name, reason ORDER BY sequence)
            AS number
    FROM signals
    WHERE run_id = %(run_id)s
      AND reason <> ALL (%(used)s)
)

SELECT
    portfolio,
    sequence,
    strategy,
    symbol,
    name,
    value,
    strength,
    price,
    event_time,
    outcome,
    reason,
    trace_id,
    span_id
FROM numbered
WHERE %(most)s::bigint IS NULL OR number <= %(most)s::bigint
ORDER BY sequence
