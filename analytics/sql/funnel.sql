-- How far the signals of each strategy came; where a strategy publishes none, its handlers' runs
-- and call-backs that led to an order count instead. Reads the table `order_causes`. Runs on DuckDB.
WITH states AS (
    SELECT
        portfolio,
        client_order_id,
        coalesce(bool_or(status IN ('DENIED', 'REJECTED')), false) AS is_denied,
        bool_or(event_type = 'FILL') AS is_filled
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND client_order_id IS NOT NULL
    GROUP BY portfolio, client_order_id
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
        order_causes.portfolio,
        coalesce(order_causes.strategy, '') AS strategy,
        order_causes.trace_id,
        states.is_denied,
        states.is_filled,
        CASE
            WHEN signals.signals IS NULL THEN order_causes.handler_span_id
            ELSE order_causes.signal_span_id
        END AS cause
    FROM order_causes
    JOIN states USING (portfolio, client_order_id)
    LEFT JOIN signals
        ON signals.portfolio = order_causes.portfolio
        AND signals.strategy = coalesce(order_causes.strategy, '')
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
