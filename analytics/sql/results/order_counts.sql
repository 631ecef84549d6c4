-- Orders of a run by type and last status, with the trace of one. Runs on Postgres.
SELECT
    coalesce(order_type, '') AS order_type,
    coalesce(status, '') AS status,
    count(*) AS count,
    min(trace_id) AS trace_id
FROM orders
WHERE run_id = %(run_id)s
GROUP BY 1, 2
ORDER BY 1, 2
