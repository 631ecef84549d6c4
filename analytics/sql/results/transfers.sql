-- Deposits less withdrawals of a run by currency. Runs on Postgres.
SELECT currency, sum(transfers) AS transfers
FROM reconciliation
WHERE run_id = %(run_id)s
GROUP BY currency
