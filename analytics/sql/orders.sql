-- Every order of a run as it stands after its last event, in the order of their first events.
-- Runs on DuckDB.
WITH events AS (
    SELECT
        *,
        max(sequence) OVER (PARTITION BY portfolio, client_order_id) AS last_sequence
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND client_order_id IS NOT NULL
)

SELECT
    portfolio,
    client_order_id,
    min(sequence) AS first_sequence,
    arg_max(order_id, sequence) AS order_id,
    arg_min(strategy, sequence) AS strategy,
    arg_min(symbol, sequence) AS symbol,
    arg_min(venue, sequence) AS venue,
    arg_min(side, sequence) FILTER (side IN ('BUY', 'SELL')) AS side,
    arg_min(order_type, sequence) AS order_type,
    coalesce(
        CAST(arg_max(quantity, sequence) FILTER (event_type = 'ORDER') AS VARCHAR),
        arg_max(attributes ->> $order_quantity, sequence)
    ) AS quantity,
    coalesce(
        CAST(arg_max(price, sequence) FILTER (event_type = 'ORDER') AS VARCHAR),
        arg_max(attributes ->> $trigger_price, sequence)
    ) AS price,
    -- A refused or granted change is no state of an order; a wish for one is, until it is answered.
    arg_max(status, sequence) FILTER (
        status NOT IN ('UPDATED', 'MODIFY_REJECTED', 'CANCEL_REJECTED')
        AND (status NOT LIKE 'PENDING_%' OR sequence = last_sequence)
    ) AS status,
    arg_max(attributes ->> $reject_reason, sequence) FILTER (
        status IN ('DENIED', 'REJECTED')
    ) AS reject_reason,
    arg_min(event_time, sequence) AS event_time,
    arg_min(trace_id, sequence) AS trace_id,
    arg_min(span_id, sequence) AS span_id
FROM events
GROUP BY portfolio, client_order_id
ORDER BY first_sequence
