-- How far the signals of each strategy came; where a strategy publishes none, its handlers' runs
-- and call-backs that led to an order count instead. Runs on DuckDB.
WITH RECURSIVE orders AS (
    SELECT
        portfolio,
        client_order_id,
        arg_min(strategy, sequence) AS strategy,
        arg_min(trace_id, sequence) AS trace_id,
        arg_min(parent_span_id, sequence) AS parent_span_id,
        coalesce(bool_or(status IN ('DENIED', 'REJECTED')), false) AS is_denied,
        bool_or(event_type = 'FILL') AS is_filled
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
        ) AS signal,
        arg_min(causes.span_id, causes.distance) FILTER (
            chains.span_kind = 'CONSUMER' OR chains.event_type = 'SYSTEM'
        ) AS handler
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    GROUP BY causes.portfolio, causes.client_order_id
),

signals AS (
    SELECT
        portfolio,
        coalesce(strategy, '') AS strategy,
        count(*) AS signals,
        arg_min(trace_id, sequence) AS trace_id
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type = 'SIGNAL'
    GROUP BY ALL
),

caused AS (
    SELECT
        orders.portfolio,
        coalesce(orders.strategy, '') AS strategy,
        signals.signals,
        orders.trace_id,
        orders.is_denied,
        orders.is_filled,
        CASE WHEN signals.signals IS NULL THEN nearest.handler ELSE nearest.signal END AS cause
    FROM orders
    LEFT JOIN nearest USING (portfolio, client_order_id)
    LEFT JOIN signals
        ON signals.portfolio = orders.portfolio
        AND signals.strategy = coalesce(orders.strategy, '')
),

counted AS (
    SELECT
        portfolio,
        strategy,
        count(DISTINCT cause) AS with_order,
        count(*) AS orders,
        count(*) FILTER (is_denied) AS denied,
        count(*) FILTER (is_filled) AS filled,
        coalesce(max(trace_id) FILTER (is_filled), max(trace_id)) AS trace_id
    FROM caused
    WHERE cause IS NOT NULL
    GROUP BY portfolio, strategy
)

SELECT
    coalesce(signals.portfolio, counted.portfolio) AS portfolio,
    coalesce(signals.strategy, counted.strategy) AS strategy,
    coalesce(signals.signals, counted.with_order) AS signals,
    coalesce(counted.with_order, 0) AS with_order,
    coalesce(counted.orders, 0) AS orders,
    coalesce(counted.denied, 0) AS denied,
    coalesce(counted.filled, 0) AS filled,
    signals.signals IS NOT NULL AS publishes_signals,
    coalesce(counted.trace_id, signals.trace_id) AS trace_id
FROM signals
FULL JOIN counted USING (portfolio, strategy)
ORDER BY 1, 2
