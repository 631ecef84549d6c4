-- What the accounts of a run were worth at the start and at their last statement, by currency. The
-- start is the ledger's: an engine may state an account only after its first fill. Runs on Postgres.
SELECT
    accounts.currency,
    sum(coalesce(reconciliation.start_balance, accounts.first_equity)) AS start_equity,
    sum(accounts.last_equity) AS end_equity,
    (array_agg(accounts.last_trace ORDER BY accounts.last_sequence DESC))[1] AS trace_id
FROM (
    SELECT
        portfolio,
        account_id,
        currency,
        (array_agg(coalesce(equity, balance) ORDER BY sequence))[1] AS first_equity,
        (array_agg(coalesce(equity, balance) ORDER BY sequence DESC))[1] AS last_equity,
        (array_agg(trace_id ORDER BY sequence DESC))[1] AS last_trace,
        max(sequence) AS last_sequence
    FROM equity
    WHERE run_id = %(run_id)s
    GROUP BY portfolio, account_id, currency
) AS accounts
LEFT JOIN reconciliation
    ON reconciliation.run_id = %(run_id)s
    AND reconciliation.portfolio = accounts.portfolio
    AND reconciliation.account_id = accounts.account_id
    AND reconciliation.currency = accounts.currency
GROUP BY accounts.currency
ORDER BY accounts.currency
