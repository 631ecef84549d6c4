-- One run that is loaded. Runs on Postgres.
SELECT * FROM runs WHERE run_id = %(run_id)s
