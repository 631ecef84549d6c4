-- The trades of a run with the largest results, in each currency by itself. Runs on Postgres.
SELECT ranked.*
FROM (
    SELECT
        *,
        coalesce(realized_pnl, 0) + coalesce(unrealized_pnl, 0) - coalesce(commission, 0) AS net,
        row_number() OVER (
            PARTITION BY currency
            ORDER BY
                abs(
                    coalesce(realized_pnl, 0)
                    + coalesce(unrealized_pnl, 0)
                    - coalesce(commission, 0)
                ) DESC,
                entry_sequence,
                trade_id
        ) AS rank
    FROM trades
    WHERE run_id = %(run_id)s
) AS ranked
WHERE rank <= %(most)s
ORDER BY currency, rank
