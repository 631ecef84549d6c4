-- Every signal of a run, as it was published. Runs on DuckDB.
SELECT
    portfolio,
    sequence,
    strategy,
    symbol,
    venue,
    side,
    attributes ->> $signal_name AS name,
    attributes ->> $signal_value AS value,
    attributes ->> $signal_strength AS strength,
    event_time,
    trace_id,
    span_id
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type = 'SIGNAL'
ORDER BY sequence
