-- Which orders descend from which signals: by their causes, or by a link that an order of several
-- causes has to a signal. The nearest comes first. Reads the table `order_causes`. Runs on DuckDB.
WITH linked AS (
    SELECT
        portfolio,
        client_order_id,
        sequence,
        unnest(CAST(links ->> '$[*].span_id' AS VARCHAR[])) AS span_id
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type = 'ORDER'
      AND client_order_id IS NOT NULL
      AND CAST(links AS VARCHAR) <> '[]'
),

pairs AS (
    SELECT
        unnest(signal_span_ids) AS span_id,
        generate_subscripts(signal_span_ids, 1) AS distance,
        portfolio,
        client_order_id
    FROM order_causes
    WHERE signal_span_ids IS NOT NULL

    UNION ALL

    -- What an order is linked to counts as farther than what caused it.
    SELECT linked.span_id, 1000000 + signals.sequence, linked.portfolio, linked.client_order_id
    FROM linked
    JOIN spans AS signals
        ON signals.run_id = $run_id
        AND signals.event_type = 'SIGNAL'
        AND signals.span_kind <> 'CONSUMER'
        AND signals.span_id = linked.span_id
)

SELECT span_id, portfolio, client_order_id
FROM pairs
GROUP BY span_id, portfolio, client_order_id
ORDER BY portfolio, client_order_id, min(distance), span_id
