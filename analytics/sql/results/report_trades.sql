-- The trades of a run, those with the largest results first, in each currency by itself. Runs on
-- Postgres.
SELECT
    portfolio,
    strategy,
    symbol,
    direction,
    quantity,
    entry_time,
    entry_price,
    exit_time,
    exit_price,
    net + coalesce(commission, 0) AS pnl,
    coalesce(commission, 0) AS commission,
    net,
    currency,
    exit_reason,
    entry_trace_id,
    exit_trace_id
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY currency ORDER BY abs(net) DESC, entry_sequence, trade_id)
            AS rank
    FROM (
        SELECT
            *,
            coalesce(realized_pnl, 0) + coalesce(unrealized_pnl, 0) - coalesce(commission, 0) AS net
        FROM trades
        WHERE run_id = %(run_id)s
    ) AS netted
) AS ranked
ORDER BY rank, currency
LIMIT %(most)s
