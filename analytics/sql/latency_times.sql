-- How long each handler ran, and, of a live run, how long after its own time each event was
-- published; by the wall clock, in nanoseconds. Runs on DuckDB.
SELECT
    sequence,
    start_time,
    end_time - start_time AS duration,
    hash(portfolio, strategy, handler, name) AS who
FROM spans
WHERE run_id = $run_id
  AND span_kind = 'CONSUMER'
  AND start_time IS NOT NULL
  AND end_time IS NOT NULL

UNION ALL

SELECT
    sequence,
    start_time,
    start_time - event_time AS duration,
    hash(portfolio, strategy, handler, event_type) AS who
FROM spans
WHERE run_id = $run_id
  AND $live
  AND span_kind <> 'CONSUMER'
  AND event_type IS NOT NULL
  AND start_time IS NOT NULL
  AND event_time IS NOT NULL
