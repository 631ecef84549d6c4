-- Rows in the partitions of each month, as the loads counted them. Runs on Postgres.
SELECT
    CASE
        WHEN runs.run_month = '1970-01-01' THEN 'undated'
        ELSE to_char(runs.run_month, 'YYYY-MM')
    END AS month,
    sum(counted.value::bigint)::bigint AS rows
FROM load_log AS loads
JOIN runs USING (run_id)
CROSS JOIN LATERAL jsonb_each_text(loads.rows) AS counted
WHERE counted.key = ANY(%(tables)s)
GROUP BY 1
ORDER BY 1
