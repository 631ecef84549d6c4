-- When each fill's path passed its stages, on the wall clock. The path is climbed from all fills at
-- once, one step in each round; a circle of parents ends where it would begin again.
WITH RECURSIVE nodes AS MATERIALIZED (
    SELECT run_id, trace_id, span_id, parent_span_id, sequence, event_type, status, start_time,
        -- Where a trace was divided, a link tells in which one the cause is.
        coalesce(
            list_filter(links, lambda link: link.span_id = parent_span_id)[1].trace_id, trace_id
        ) AS cause_trace_id
    FROM raw_spans
),
climbed AS (
    SELECT run_id, cause_trace_id, span_id AS fill, sequence AS fill_sequence, 0 AS height,
        parent_span_id, sequence, event_type, status, start_time
    FROM nodes
    WHERE event_type = 'FILL'
    UNION ALL
    SELECT climbed.run_id, nodes.cause_trace_id, climbed.fill, climbed.fill_sequence,
        climbed.height + 1,
        nodes.parent_span_id, nodes.sequence, nodes.event_type, nodes.status, nodes.start_time
    FROM climbed
    JOIN nodes
        ON nodes.run_id = climbed.run_id
        AND nodes.trace_id = climbed.cause_trace_id
        AND nodes.span_id = climbed.parent_span_id
        AND nodes.sequence < climbed.sequence
),
markets AS (
    SELECT run_id, fill, min(height) FILTER (event_type IN ('BAR', 'TICK', 'BOOK')) AS market
    FROM climbed
    GROUP BY ALL
),
signals AS (
    -- A signal before the last market event led to something else.
    SELECT climbed.run_id, climbed.fill, any_value(market) AS market,
        min(height) FILTER (event_type = 'SIGNAL' AND height < coalesce(market, 1 << 30)) AS signal
    FROM climbed
    JOIN markets USING (run_id, fill)
    GROUP BY ALL
),
orders AS (
    SELECT climbed.run_id, climbed.fill, any_value(market) AS market, any_value(signal) AS signal,
        max(height) FILTER (
            event_type IN ('ORDER', 'COMMAND') AND height < coalesce(signal, market, 1 << 30)
        ) AS "order"
    FROM climbed
    JOIN signals USING (run_id, fill)
    GROUP BY ALL
),
acks AS (
    SELECT climbed.run_id, climbed.fill, any_value(market) AS market, any_value(signal) AS signal,
        any_value("order") AS "order",
        coalesce(
            min(height) FILTER (
                event_type = 'ORDER' AND status = 'ACCEPTED' AND height < "order"
            ),
            min(height) FILTER (
                event_type = 'ORDER' AND status = 'SUBMITTED' AND height < "order"
            )
        ) AS ack,
        max(height) AS hops
    FROM climbed
    JOIN orders USING (run_id, fill)
    GROUP BY ALL
),
times AS (
    SELECT climbed.run_id, climbed.fill,
        any_value(start_time) FILTER (height = market) AS market,
        any_value(start_time) FILTER (height = signal) AS signal,
        any_value(start_time) FILTER (height = "order") AS "order",
        any_value(start_time) FILTER (height = ack) AS ack,
        any_value(start_time) FILTER (height = 0) AS fill_time,
        any_value(hops) AS hops
    FROM climbed
    JOIN acks USING (run_id, fill)
    GROUP BY ALL
)
SELECT
    times.run_id,
    portfolio,
    sequence,
    fill_id,
    lower(hex(fill)) AS span_id,
    market,
    signal,
    "order",
    ack,
    fill_time AS fill,
    hops
FROM times
JOIN raw_spans ON raw_spans.run_id = times.run_id AND raw_spans.span_id = times.fill
ORDER BY times.run_id, sequence
