-- The spans of some of a run's prices. Runs on DuckDB.
SELECT sequence, trace_id, span_id
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type IN ('BAR', 'TICK')
  AND sequence IN (SELECT unnest($sequences))
