-- The orders of a run that cost most, in each currency. Runs on Postgres.
SELECT *
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY coalesce(currency, '') ORDER BY shortfall DESC, sequence
        ) AS place
    FROM executions
    WHERE run_id = %(run_id)s
      AND shortfall > 0
) AS ranked
WHERE place <= %(most)s
ORDER BY place
