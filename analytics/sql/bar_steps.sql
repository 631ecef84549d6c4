-- How far apart the bars of each instrument are, ns of simulated time: the median. Runs on DuckDB.
SELECT symbol, quantile_disc(step, 0.5) AS step
FROM (
    SELECT symbol, event_time - lag(event_time) OVER (PARTITION BY symbol ORDER BY event_time) AS step
    FROM (
        SELECT DISTINCT symbol, event_time
        FROM raw_spans
        WHERE run_id = $run_id AND event_type = 'BAR' AND symbol IS NOT NULL
    )
)
WHERE step > 0
GROUP BY symbol
