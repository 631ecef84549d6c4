-- What tells why each order of a run was sent: the host's own words, its type and legs, and which of
-- its causes is the nearest. Runs on DuckDB, with the table `order_causes`.
WITH told AS (
    SELECT
        portfolio,
        client_order_id,
        sequence,
        order_type,
        json_extract_string(
            attributes, [$order_reason, $reduce_only, $parent_id, $linked_ids]
        ) AS words
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'COMMAND', 'FILL')
      AND client_order_id IS NOT NULL
),

orders AS (
    SELECT
        portfolio,
        client_order_id,
        arg_min(words[1], sequence) FILTER (words[1] <> '') AS host_reason,
        arg_min(order_type, sequence) AS order_type,
        coalesce(bool_or(words[2] = 'true'), false) AS reduces_only,
        arg_min(words[3], sequence) FILTER (words[3] <> '') AS parent_id,
        coalesce(bool_or(words[4] NOT IN ('', '[]')), false) AS has_links
    FROM told
    GROUP BY portfolio, client_order_id
),

-- A leg of a bracket names its parent, and the parent names its legs: that one is no leg.
parents AS (
    SELECT DISTINCT portfolio, parent_id AS client_order_id
    FROM orders
    WHERE parent_id IS NOT NULL
),

-- The end of a run is where the market has nothing more to say.
ends AS (
    SELECT portfolio, max(sequence) AS last_market
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK', 'BOOK', 'FEATURES')
    GROUP BY portfolio
)

SELECT
    order_causes.portfolio,
    order_causes.client_order_id,
    orders.host_reason,
    orders.order_type,
    orders.reduces_only
        OR orders.parent_id IS NOT NULL
        OR (orders.has_links AND parents.client_order_id IS NULL) AS is_leg,
    order_causes.signal_sequence IS NOT NULL
        AND order_causes.signal_sequence > greatest(
            coalesce(order_causes.market_sequence, -1), coalesce(fills.sequence, -1)
        ) AS from_signal,
    coalesce(
        (handlers.event_type = 'SYSTEM' OR handlers.name = 'process SYSTEM')
        AND handlers.sequence > greatest(
            coalesce(order_causes.signal_sequence, -1),
            coalesce(order_causes.market_sequence, -1),
            coalesce(fills.sequence, -1)
        ),
        false
    ) AS from_system,
    coalesce(handlers.handler, '') AS handler,
    coalesce(order_causes.sequence > ends.last_market, false) AS after_the_market
FROM order_causes
JOIN orders USING (portfolio, client_order_id)
LEFT JOIN parents USING (portfolio, client_order_id)
LEFT JOIN ends USING (portfolio)
LEFT JOIN spans AS handlers
    ON handlers.run_id = $run_id AND handlers.span_id = order_causes.handler_span_id
LEFT JOIN spans AS fills
    ON fills.run_id = $run_id
    AND fills.event_type = 'FILL'
    AND fills.span_id = order_causes.fill_span_id
