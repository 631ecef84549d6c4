-- How much of a run was loaded. Runs on Postgres.
SELECT
    (SELECT count(*) FROM orders WHERE run_id = %(run_id)s) AS orders,
    (SELECT count(*) FROM fills WHERE run_id = %(run_id)s) AS fills,
    (SELECT count(*) FROM trades WHERE run_id = %(run_id)s) AS trades
