-- What the accounts of a run were worth at their first and at their last statement, by currency.
-- Runs on Postgres.
SELECT
    currency,
    sum(first_equity) AS start_equity,
    sum(last_equity) AS end_equity,
    (array_agg(last_trace ORDER BY last_sequence DESC))[1] AS trace_id
FROM (
    SELECT
        currency,
        (array_agg(coalesce(equity, balance) ORDER BY sequence))[1] AS first_equity,
        (array_agg(coalesce(equity, balance) ORDER BY sequence DESC))[1] AS last_equity,
        (array_agg(trace_id ORDER BY sequence DESC))[1] AS last_trace,
        max(sequence) AS last_sequence
    FROM equity
    WHERE run_id = %(run_id)s
    GROUP BY portfolio, account_id, currency
) AS accounts
GROUP BY currency
ORDER BY currency
