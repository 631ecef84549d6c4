-- Every order of a run as it stands after its last event, in the order of their first events.
-- Runs on DuckDB.
WITH told AS (
    SELECT
        *,
        min(sequence) FILTER (status IN ('SUBMITTED', 'ACCEPTED')) OVER each_order AS placed_at,
        min(sequence) FILTER (status = 'DENIED') OVER each_order AS denied_at
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND client_order_id IS NOT NULL
    WINDOW each_order AS (PARTITION BY portfolio, client_order_id)
),

events AS (
    SELECT
        *,
        max(sequence) OVER (PARTITION BY portfolio, client_order_id) AS last_sequence
    FROM told
    -- A second order under an id that is taken is denied, and changes nothing of the first.
    WHERE CASE
        WHEN placed_at IS NULL OR denied_at < placed_at
            THEN denied_at IS NULL OR sequence <= denied_at
        ELSE sequence < placed_at OR coalesce(status, '') NOT IN ('INITIALIZED', 'DENIED')
    END
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
    -- An engine may turn an order into one of another type before it releases it.
    coalesce(
        arg_max(order_type, sequence) FILTER (event_type = 'FILL' OR status = 'INITIALIZED'),
        arg_min(order_type, sequence)
    ) AS order_type,
    coalesce(
        CAST(arg_max(quantity, sequence) FILTER (event_type = 'ORDER') AS VARCHAR),
        arg_max(attributes ->> $order_quantity, sequence)
    ) AS quantity,
    coalesce(
        CAST(arg_max(price, sequence) FILTER (event_type = 'ORDER') AS VARCHAR),
        arg_max(attributes ->> $trigger_price, sequence)
    ) AS price,
    -- A filled order is over, though a live venue's cancellation may still cross the fill. A refused
    -- or granted change is no state of an order; a wish for one is, until it is answered.
    CASE
        WHEN bool_or(event_type = 'FILL' AND status = 'FILLED') THEN 'FILLED'
        ELSE arg_max(status, sequence) FILTER (
            status NOT IN ('UPDATED', 'MODIFY_REJECTED', 'CANCEL_REJECTED')
            AND (status NOT LIKE 'PENDING_%' OR sequence = last_sequence)
        )
    END AS status,
    arg_max(attributes ->> $reject_reason, sequence) FILTER (
        status IN ('DENIED', 'REJECTED')
    ) AS reject_reason,
    arg_min(event_time, sequence) AS event_time,
    arg_min(trace_id, sequence) AS trace_id,
    arg_min(span_id, sequence) AS span_id
FROM events
GROUP BY portfolio, client_order_id
ORDER BY first_sequence
