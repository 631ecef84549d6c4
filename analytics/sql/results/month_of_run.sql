-- The month whose partitions have a run's rows. Runs on Postgres.
SELECT run_month FROM runs WHERE run_id = %(run_id)s
