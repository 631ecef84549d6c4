-- The traces that have a hop: with features, a signal, an order or a fill. Of a run of many millions
-- of events, `latency` reads only these: most of them are prices that nothing came of. On DuckDB.
CREATE OR REPLACE TEMPORARY TABLE latency_traces AS
WITH RECURSIVE traces AS (
    SELECT DISTINCT hash(trace_id) AS trace
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('FEATURES', 'SIGNAL', 'ORDER', 'FILL')

    UNION

    -- Where a trace was divided, its first event is caused in another one.
    SELECT hash(trace_divisions.cause_trace_id)
    FROM traces
    JOIN trace_divisions ON hash(trace_divisions.trace_id) = traces.trace
    WHERE trace_divisions.run_id = $run_id
)

SELECT trace FROM traces
