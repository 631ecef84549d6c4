-- Who made the events of a run: the names behind the hashes of `latency` and `latency_times`. A
-- handler's run is called after what it handled: `process BAR`. Runs on DuckDB.
SELECT
    who,
    any_value(portfolio) AS portfolio,
    any_value(strategy) AS strategy,
    any_value(handler) AS handler,
    any_value(is_handler) AS is_handler,
    any_value(event) AS event
FROM (
    SELECT
        portfolio,
        strategy,
        handler,
        span_kind = 'CONSUMER' AS is_handler,
        CASE WHEN span_kind = 'CONSUMER' THEN name ELSE event_type END AS event,
        hash(portfolio, strategy, handler, event) AS who
    FROM spans
    WHERE run_id = $run_id
)
GROUP BY who
