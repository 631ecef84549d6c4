-- When each order of a run was decided on, reached its venue, was filled and was done with, and what
-- the host says about it; prices are looked up afterwards. Runs on DuckDB, with the table
-- `order_causes`.
WITH told AS (
    SELECT
        *,
        upper(status) AS state,
        min(sequence) FILTER (upper(status) IN ('SUBMITTED', 'ACCEPTED')) OVER each_order
            AS placed_at,
        min(sequence) FILTER (upper(status) = 'DENIED') OVER each_order AS denied_at
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
        json_extract_string(
            attributes, [$decision_price, $reduce_only, $parent_id, $trigger_price]
        ) AS words
    FROM told
    -- A second order under an id that is taken is denied, and changes nothing of the first.
    WHERE CASE
        WHEN placed_at IS NULL OR denied_at < placed_at
            THEN denied_at IS NULL OR sequence <= denied_at
        ELSE sequence < placed_at OR coalesce(state, '') NOT IN ('INITIALIZED', 'DENIED')
    END
),

orders AS (
    SELECT
        portfolio,
        client_order_id,
        min(sequence) AS sequence,
        arg_min(words[1], sequence) FILTER (words[1] <> '') AS decision_price,
        coalesce(bool_or(words[2] = 'true'), false) AS reduces_only,
        arg_min(words[3], sequence) FILTER (words[3] <> '') AS parent_id,
        arg_min(side, sequence) AS side,
        arg_max(words[4], sequence) FILTER (event_type = 'ORDER' AND words[4] <> '')
            AS trigger_price,
        arg_max(price, sequence) FILTER (event_type = 'ORDER') AS limit_price,
        min(sequence) FILTER (state = 'TRIGGERED' OR event_type = 'FILL') AS triggered,
        min(sequence) FILTER (state = 'ACCEPTED' AND event_type = 'ORDER') AS accepted,
        min(sequence) FILTER (state = 'SUBMITTED' AND event_type = 'ORDER') AS submitted,
        max(sequence) FILTER (
            event_type = 'FILL'
            OR state IN ('FILLED', 'CANCELED', 'CANCELLED', 'EXPIRED', 'REJECTED', 'DENIED')
        ) AS last_word,
        arg_min(start_time, sequence) FILTER (state = 'ACCEPTED' AND event_type = 'ORDER')
            AS accepted_start,
        arg_min(start_time, sequence) FILTER (event_type = 'FILL') AS filled_start,
        min(sequence) FILTER (event_type = 'FILL') AS filled
    FROM events
    GROUP BY portfolio, client_order_id
),

-- The event at which each order was decided on.
decided AS (
    SELECT
        order_causes.portfolio,
        order_causes.client_order_id,
        CASE
            -- What a fill leads to was decided on at the fill, not by the signal before it.
            WHEN order_causes.signal_sequence > coalesce(fills.sequence, -1)
                THEN order_causes.signal_sequence
            ELSE nullif(
                greatest(
                    coalesce(order_causes.market_sequence, -1),
                    coalesce(handlers.sequence, -1),
                    coalesce(fills.sequence, -1)
                ),
                -1
            )
        END AS sequence
    FROM order_causes
    LEFT JOIN spans AS handlers
        ON handlers.run_id = $run_id AND handlers.span_id = order_causes.handler_span_id
    LEFT JOIN spans AS fills
        ON fills.run_id = $run_id
        AND fills.event_type = 'FILL'
        AND fills.span_id = order_causes.fill_span_id
),

times AS (
    SELECT sequence, event_time
    FROM spans
    WHERE run_id = $run_id
      AND sequence IN (
          SELECT sequence FROM decided
          UNION ALL SELECT accepted FROM orders
          UNION ALL SELECT submitted FROM orders
      )
)

SELECT
    order_causes.portfolio,
    order_causes.client_order_id,
    order_causes.sequence,
    order_causes.start_time,
    order_causes.market_sequence,
    order_causes.market_start,
    order_causes.signal_sequence,
    order_causes.signal_start,
    order_causes.signal_name,
    order_causes.signal_value,
    order_causes.signal_strength,
    order_causes.signal_trace_id,
    order_causes.signal_span_id,
    coalesce(decided.sequence, order_causes.sequence) AS decision_sequence,
    CASE WHEN decided.sequence IS NULL THEN order_causes.event_time ELSE decision.event_time END
        AS decision_time,
    orders.decision_price AS told_decision_price,
    coalesce(orders.accepted, orders.submitted, order_causes.sequence) AS arrival_sequence,
    CASE
        WHEN coalesce(orders.accepted, orders.submitted) IS NULL THEN order_causes.event_time
        ELSE arrival.event_time
    END AS arrival_time,
    CASE WHEN orders.accepted < coalesce(orders.filled, orders.accepted + 1)
        THEN orders.accepted_start END AS accepted_start,
    orders.filled_start,
    orders.last_word,
    -- An order on its parent's own side adds to the position.
    orders.reduces_only
        OR (orders.parent_id IS NOT NULL AND coalesce(parents.side <> orders.side, true))
        AS only_closes,
    orders.triggered,
    orders.trigger_price,
    orders.limit_price
FROM order_causes
JOIN orders USING (portfolio, client_order_id)
JOIN decided USING (portfolio, client_order_id)
LEFT JOIN orders AS parents
    ON parents.portfolio = orders.portfolio AND parents.client_order_id = orders.parent_id
LEFT JOIN times AS decision ON decision.sequence = decided.sequence
LEFT JOIN times AS arrival
    ON arrival.sequence = coalesce(orders.accepted, orders.submitted)
ORDER BY order_causes.sequence
