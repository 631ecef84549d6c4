-- The profit of a run broken down by each dimension, in one pass over its slices; `dimension` tells
-- which. Of each row, the trace of the largest amount. Runs on Postgres.
WITH slices AS (
    SELECT
        currency,
        coalesce('reclassified_' || reclassified, kind) AS kind,
        amount,
        portfolio,
        strategy,
        symbol,
        signal,
        side,
        regime,
        exit_reason,
        holding,
        to_char(event_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
        to_char(event_at AT TIME ZONE 'UTC', 'HH24') AS hour,
        -- The largest amount in front of the trace, in digits of one width: the greatest text is
        -- the largest amount's, and needs no sorting.
        lpad(trunc(abs(amount) * 1000000)::text, 60, '0') || trace_id AS largest
    FROM pnl_slices
    WHERE run_id = %(run_id)s
)

SELECT
    CASE grouping(portfolio, strategy, symbol, signal, side, regime, exit_reason, holding, month, hour)
        WHEN 511 THEN 'portfolio'
        WHEN 767 THEN 'strategy'
        WHEN 895 THEN 'symbol'
        WHEN 959 THEN 'signal'
        WHEN 991 THEN 'side'
        WHEN 1007 THEN 'regime'
        WHEN 1015 THEN 'exit_reason'
        WHEN 1019 THEN 'holding'
        WHEN 1021 THEN 'month'
        WHEN 1022 THEN 'hour'
        ELSE 'total'
    END AS dimension,
    coalesce(portfolio, strategy, symbol, signal, side, regime, exit_reason, holding, month, hour)
        AS name,
    currency,
    kind,
    sum(amount) AS amount,
    count(*) AS slices,
    right(max(largest COLLATE "C"), 32) AS trace_id,
    max(abs(amount)) AS size
FROM slices
GROUP BY
    GROUPING SETS (
        (currency, kind),
        (currency, kind, portfolio),
        (currency, kind, strategy),
        (currency, kind, symbol),
        (currency, kind, signal),
        (currency, kind, side),
        (currency, kind, regime),
        (currency, kind, exit_reason),
        (currency, kind, holding),
        (currency, kind, month),
        (currency, kind, hour)
    )
ORDER BY dimension, currency, name, kind
