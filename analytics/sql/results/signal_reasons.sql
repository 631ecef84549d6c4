-- Signals of a run by name and by what came of them.
SELECT
    portfolio,
    strategy,
    name,
    reason,
    count(*) AS count,
    (array_agg(trace_id ORDER BY sequence DESC))[1] AS trace_id
FROM signals
WHERE run_id = %(run_id)s
GROUP BY portfolio, strategy, name, reason
