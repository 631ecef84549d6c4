-- What each closed trade of a run came to, net of its commission. Runs on Postgres.
SELECT
    portfolio,
    currency,
    coalesce(realized_pnl, 0) - coalesce(commission, 0) AS net,
    exit_time,
    coalesce(exit_trace_id, entry_trace_id) AS trace_id
FROM trades
WHERE run_id = %(run_id)s AND open_quantity = 0
ORDER BY exit_time, entry_sequence, trade_id
