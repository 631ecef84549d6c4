-- When a run's events happened in simulated time, and who published. Runs on DuckDB.
SELECT
    min(event_time) AS simulated_from,
    max(event_time) AS simulated_to,
    list_sort(list(DISTINCT portfolio) FILTER (WHERE portfolio IS NOT NULL)) AS portfolios,
    list_sort(list(DISTINCT strategy) FILTER (WHERE strategy IS NOT NULL)) AS strategies
FROM spans
WHERE run_id = $run_id
