-- How many decimal places the amounts of each currency need. Runs on Postgres.
SELECT currency, max(scale(trim_scale(amount))) AS places
FROM pnl_slices
WHERE run_id = %(run_id)s
GROUP BY currency
