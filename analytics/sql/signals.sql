-- Every signal of a run and what came of it: whether an order descends from it, and whether all of
-- those were denied by a risk rule. Runs on DuckDB.
WITH RECURSIVE orders AS (
    SELECT
        portfolio,
        client_order_id,
        arg_min(trace_id, sequence) AS trace_id,
        arg_min(parent_span_id, sequence) AS parent_span_id,
        bool_or(status = 'DENIED') AS is_denied
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND client_order_id IS NOT NULL
    GROUP BY portfolio, client_order_id
),

traces AS (
    SELECT trace_id FROM orders

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
    SELECT portfolio, client_order_id, is_denied, parent_span_id AS span_id
    FROM orders
    WHERE parent_span_id IS NOT NULL

    UNION ALL

    SELECT causes.portfolio, causes.client_order_id, causes.is_denied, chains.parent_span_id
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    WHERE chains.parent_span_id IS NOT NULL
),

outcomes AS (
    SELECT causes.span_id, bool_and(causes.is_denied) AS all_denied
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    WHERE chains.event_type = 'SIGNAL'
    GROUP BY causes.span_id
)

SELECT
    spans.portfolio,
    spans.sequence,
    spans.strategy,
    spans.symbol,
    spans.attributes ->> $signal_name AS name,
    spans.attributes ->> $signal_value AS value,
    spans.event_time,
    CASE
        WHEN outcomes.all_denied IS NULL THEN 'no_order'
        WHEN outcomes.all_denied THEN 'denied'
        ELSE 'ordered'
    END AS outcome,
    spans.trace_id,
    spans.span_id
FROM spans
LEFT JOIN outcomes ON outcomes.span_id = spans.span_id
WHERE spans.run_id = $run_id
  AND spans.span_kind <> 'CONSUMER'
  AND spans.event_type = 'SIGNAL'
ORDER BY spans.sequence
