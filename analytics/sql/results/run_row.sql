-- Everything that is kept of a run itself. Runs on Postgres.
SELECT *
FROM runs
WHERE run_id = %(run_id)s
