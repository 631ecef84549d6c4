-- Profit of a run by the regime of its entries, with the largest trade that was entered in each.
WITH sums AS (
    SELECT regime AS name, currency, sum(amount) AS amount
    FROM pnl_slices
    WHERE run_id = %(run_id)s
    GROUP BY regime, currency
)

SELECT sums.name, sums.currency, sums.amount, largest.trace_id
FROM sums
LEFT JOIN LATERAL (
    SELECT trades.entry_trace_id AS trace_id
    FROM trades
    WHERE trades.run_id = %(run_id)s
      AND trades.currency = sums.currency
      AND trades.entry_regime IS NOT DISTINCT FROM sums.name
    ORDER BY abs(coalesce(realized_pnl, 0) + coalesce(unrealized_pnl, 0) - coalesce(commission, 0)) DESC
    LIMIT 1
) AS largest ON true
ORDER BY sums.currency, sums.name NULLS LAST
