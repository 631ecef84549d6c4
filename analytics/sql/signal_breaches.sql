-- The signals from which a reached limit descends. Runs on DuckDB.
WITH RECURSIVE breaches AS MATERIALIZED (
    SELECT trace_id, parent_span_id
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type = 'RISK_BREACH'
      AND parent_span_id IS NOT NULL
),

traces AS (
    SELECT trace_id FROM breaches

    UNION

    -- Where a trace was divided, its first event is caused in another one.
    SELECT trace_divisions.cause_trace_id
    FROM traces
    JOIN trace_divisions USING (trace_id)
    WHERE trace_divisions.run_id = $run_id
),

chains AS MATERIALIZED (
    SELECT span_id, parent_span_id, event_type, span_kind
    FROM spans
    WHERE run_id = $run_id
      AND trace_id IN (SELECT trace_id FROM traces)
),

causes AS (
    SELECT parent_span_id AS span_id FROM breaches

    UNION

    SELECT chains.parent_span_id
    FROM causes
    JOIN chains USING (span_id)
    WHERE chains.parent_span_id IS NOT NULL
)

SELECT span_id
FROM causes
JOIN chains USING (span_id)
WHERE chains.event_type = 'SIGNAL'
  AND chains.span_kind <> 'CONSUMER'
