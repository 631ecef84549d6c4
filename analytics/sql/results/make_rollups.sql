-- The sums of a shard's slices by day, which breakdowns are read from. Runs on Postgres.
INSERT INTO pnl_rollups (
    run_id, shard, run_month, portfolio, strategy, symbol, currency, kind, day, amount, slices
)
SELECT
    run_id,
    shard,
    run_month,
    portfolio,
    strategy,
    symbol,
    currency,
    -- The halves of a reclassification add up to nothing; apart, each belongs to a kind.
    coalesce('reclassified_' || reclassified, kind) AS line,
    (event_at AT TIME ZONE 'UTC')::date AS day,
    sum(amount) AS amount,
    count(*) AS slices
FROM pnl_slices
WHERE run_id = %(run_id)s AND run_month = %(run_month)s AND shard = %(shard)s
GROUP BY run_id, shard, run_month, portfolio, strategy, symbol, currency, line, day
