-- Every order of a run with the nearest of its causes: the signal, and the event of the market. Made
-- once for a connection, because several results walk from orders to their causes. Runs on DuckDB.
CREATE OR REPLACE TEMPORARY TABLE order_causes AS
WITH RECURSIVE orders AS (
    SELECT
        portfolio,
        client_order_id,
        min(sequence) AS sequence,
        arg_min(strategy, sequence) AS strategy,
        arg_min(symbol, sequence) AS symbol,
        arg_min(venue, sequence) AS venue,
        arg_min(event_time, sequence) AS event_time,
        arg_min(start_time, sequence) AS start_time,
        arg_min(trace_id, sequence) AS trace_id,
        arg_min(span_id, sequence) AS span_id,
        arg_min(parent_span_id, sequence) AS parent_span_id
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
    SELECT portfolio, client_order_id, parent_span_id AS span_id, 1 AS distance
    FROM orders
    WHERE parent_span_id IS NOT NULL

    UNION ALL

    SELECT causes.portfolio, causes.client_order_id, chains.parent_span_id, causes.distance + 1
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    WHERE chains.parent_span_id IS NOT NULL
),

nearest AS (
    SELECT
        causes.portfolio,
        causes.client_order_id,
        arg_min(causes.span_id, causes.distance) FILTER (
            chains.event_type = 'SIGNAL' AND chains.span_kind <> 'CONSUMER'
        ) AS signal_span_id,
        list(causes.span_id ORDER BY causes.distance) FILTER (
            chains.event_type = 'SIGNAL' AND chains.span_kind <> 'CONSUMER'
        ) AS signal_span_ids,
        arg_min(causes.span_id, causes.distance) FILTER (
            chains.event_type IN ('BAR', 'TICK', 'BOOK', 'FEATURES')
            AND chains.span_kind <> 'CONSUMER'
        ) AS market_span_id,
        arg_min(causes.span_id, causes.distance) FILTER (
            chains.span_kind = 'CONSUMER' OR chains.event_type = 'SYSTEM'
        ) AS handler_span_id,
        arg_min(causes.span_id, causes.distance) FILTER (
            chains.event_type = 'FILL' AND chains.span_kind <> 'CONSUMER'
        ) AS fill_span_id
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    GROUP BY causes.portfolio, causes.client_order_id
)

SELECT
    orders.*,
    nearest.signal_span_id,
    nearest.signal_span_ids,
    signals.trace_id AS signal_trace_id,
    signals.sequence AS signal_sequence,
    signals.event_time AS signal_time,
    signals.start_time AS signal_start,
    signals.attributes ->> $signal_name AS signal_name,
    signals.attributes ->> $signal_value AS signal_value,
    signals.attributes ->> $signal_strength AS signal_strength,
    nearest.market_span_id,
    market.trace_id AS market_trace_id,
    market.event_type AS market_event_type,
    market.sequence AS market_sequence,
    market.event_time AS market_time,
    market.start_time AS market_start,
    nearest.handler_span_id,
    nearest.fill_span_id
FROM orders
LEFT JOIN nearest USING (portfolio, client_order_id)
LEFT JOIN spans AS signals
    ON signals.run_id = $run_id
    AND signals.event_type = 'SIGNAL'
    AND signals.span_id = nearest.signal_span_id
LEFT JOIN spans AS market
    ON market.run_id = $run_id
    AND market.event_type IN ('BAR', 'TICK', 'BOOK', 'FEATURES')
    AND market.span_id = nearest.market_span_id
