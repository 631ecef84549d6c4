-- What led to each fill that names no order: the same facts as `executions.sql` tells of orders, from
-- the fill's chain alone. Its order is the ORDER events above it, down from the nearest other fill.
-- Runs on DuckDB.
WITH RECURSIVE lone AS (
    SELECT portfolio, symbol, venue, side, quantity, price, sequence, event_time, start_time, trace_id,
        parent_span_id, nullif(json_extract_string(attributes, $order_reason), '') AS reason
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type = 'FILL'
      AND client_order_id IS NULL
      AND side IN ('BUY', 'SELL')
      AND quantity IS NOT NULL
      AND price IS NOT NULL
),

traces AS (
    SELECT trace_id FROM lone

    UNION

    -- Where a trace was divided, its first event is caused in another one.
    SELECT trace_divisions.cause_trace_id
    FROM traces
    JOIN trace_divisions USING (trace_id)
    WHERE trace_divisions.run_id = $run_id
),

chains AS MATERIALIZED (
    SELECT span_id, trace_id, parent_span_id, event_type, span_kind, sequence, event_time, start_time,
        upper(status) AS state, order_type, price,
        CASE WHEN event_type IN ('SIGNAL', 'ORDER') THEN json_extract_string(
            attributes,
            [
                $signal_name, $signal_value, $signal_strength, $decision_price, $order_reason,
                $trigger_price
            ]
        ) END AS words
    FROM spans
    WHERE run_id = $run_id
      AND trace_id IN (SELECT trace_id FROM traces)
),

causes AS (
    SELECT sequence AS fill, parent_span_id AS span_id
    FROM lone
    WHERE parent_span_id IS NOT NULL

    UNION ALL

    SELECT causes.fill, chains.parent_span_id
    FROM causes
    JOIN chains USING (span_id)
    WHERE chains.parent_span_id IS NOT NULL
),

above AS (
    SELECT
        causes.fill,
        chains.*,
        max(chains.sequence) FILTER (
            chains.event_type = 'FILL' AND chains.span_kind <> 'CONSUMER'
        ) OVER (PARTITION BY causes.fill) AS other_fill
    FROM causes
    JOIN chains USING (span_id)
),

-- A cause has a smaller sequence than its effect, so the largest is the nearest.
nearest AS (
    SELECT
        fill,
        arg_max(above, sequence) FILTER (event_type = 'SIGNAL' AND span_kind <> 'CONSUMER') AS signal,
        arg_max(above, sequence) FILTER (
            event_type IN ('BAR', 'TICK', 'BOOK', 'FEATURES') AND span_kind <> 'CONSUMER'
        ) AS market,
        max(other_fill) AS other_fill,
        arg_min(above, sequence) FILTER (is_order) AS first_order,
        arg_min(above, sequence) FILTER (is_order AND state = 'ACCEPTED') AS accepted,
        arg_min(above, sequence) FILTER (is_order AND state = 'SUBMITTED') AS submitted,
        arg_max(order_type, sequence) FILTER (is_order) AS order_type,
        arg_min(words[4], sequence) FILTER (is_order AND words[4] <> '') AS decision_price,
        arg_min(words[5], sequence) FILTER (is_order AND words[5] <> '') AS reason,
        arg_max(words[6], sequence) FILTER (is_order AND words[6] <> '') AS trigger_price,
        arg_max(price, sequence) FILTER (is_order) AS limit_price
    FROM (
        SELECT *, event_type = 'ORDER' AND span_kind <> 'CONSUMER' AND sequence > coalesce(other_fill, -1)
            AS is_order
        FROM above
    ) AS above
    GROUP BY fill
),

decided AS (
    SELECT
        *,
        CASE
            WHEN signal.sequence > coalesce(other_fill, -1) THEN signal.sequence
            -- What came after the order's first event did not lead to it.
            ELSE coalesce(
                (
                    SELECT max(above.sequence)
                    FROM above
                    WHERE above.fill = nearest.fill
                      AND above.event_type NOT IN ('ORDER', 'COMMAND')
                      AND above.sequence < coalesce(nearest.first_order.sequence, nearest.fill)
                ),
                first_order.sequence
            )
        END AS decision
    FROM nearest
)

SELECT
    lone.portfolio,
    lone.symbol,
    lone.venue,
    lone.side,
    lone.quantity AS filled_quantity,
    lone.price AS average_price,
    lone.sequence AS fill_sequence,
    decided.order_type,
    coalesce(lone.reason, decided.reason) AS reason,
    coalesce(decided.first_order.sequence, lone.sequence) AS sequence,
    coalesce(decided.first_order.start_time, lone.start_time) AS start_time,
    decided.market.sequence AS market_sequence,
    decided.market.start_time AS market_start,
    decided.signal.sequence AS signal_sequence,
    decided.signal.start_time AS signal_start,
    decided.signal.words[1] AS signal_name,
    decided.signal.words[2] AS signal_value,
    decided.signal.words[3] AS signal_strength,
    decided.signal.trace_id AS signal_trace_id,
    decided.signal.span_id AS signal_span_id,
    coalesce(decided.decision, lone.sequence) AS decision_sequence,
    decided.decision_price AS told_decision_price,
    coalesce(
        decided.accepted.sequence,
        decided.submitted.sequence,
        decided.first_order.sequence,
        decided.decision,
        lone.sequence
    ) AS arrival_sequence,
    lone.sequence AS triggered,
    lone.sequence AS last_word,
    decided.trigger_price,
    decided.limit_price,
    coalesce(decided.signal.sequence > coalesce(decided.other_fill, -1), false) AS from_signal
FROM lone
LEFT JOIN decided ON decided.fill = lone.sequence
ORDER BY lone.sequence
