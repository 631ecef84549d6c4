-- Days of the simulated time on which the market of each portfolio had events, and the first and
-- last moment of each. Runs on DuckDB.
SELECT
    portfolio,
    event_time // 86400000000000 AS day,
    min(event_time) AS first_time,
    max(event_time) AS last_time
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type IN ('BAR', 'TICK', 'BOOK')
  AND event_time IS NOT NULL
GROUP BY ALL
ORDER BY ALL
