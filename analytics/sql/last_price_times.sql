-- Simulated time of the last price of every instrument of a run, and of the last event of all, whose
-- portfolio is NULL. Reads `raw_spans`, because there may be millions. Runs on DuckDB.
SELECT
    coalesce(portfolio, $default_portfolio) AS portfolio,
    symbol,
    max(event_time) AS event_time
FROM raw_spans
WHERE run_id = $run_id
  AND event_type IN ('BAR', 'TICK')
  AND symbol IS NOT NULL
GROUP BY ALL

UNION ALL

SELECT NULL, NULL, max(event_time)
FROM raw_spans
WHERE run_id = $run_id
