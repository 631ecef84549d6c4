-- The events of a run that the lake holds, by portfolio, kind and the reason for which they are
-- kept. Runs of handlers are no events. Beside a recorded run, spans that an OpenTelemetry SDK wrote
-- under its name do not count; without one they are the run. Runs on DuckDB.
SELECT
    portfolio,
    event_type,
    coalesce(sampling_reason, 'all') AS reason,
    count(*) AS number
FROM raw_spans
WHERE run_id = $run_id
  AND NOT starts_with(name, 'process ')
  AND (
      scope_name = 'fillpath'
      OR NOT EXISTS (
          SELECT 1 FROM raw_runs WHERE raw_runs.run_id = $run_id AND raw_runs.source = 'spool'
      )
  )
GROUP BY ALL
