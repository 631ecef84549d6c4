-- The number of trades and the largest result of every portfolio, strategy and symbol of a run.
-- Runs on Postgres.
SELECT
    portfolio,
    strategy,
    symbol,
    currency,
    count(*) AS trades,
    (array_agg(entry_trace_id ORDER BY abs(coalesce(realized_pnl, 0)) DESC, entry_sequence))[1]
        AS trace_id,
    max(abs(coalesce(realized_pnl, 0))) AS largest
FROM trades
WHERE run_id = %(run_id)s
GROUP BY portfolio, strategy, symbol, currency
