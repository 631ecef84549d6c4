-- How long each hop of the chains of a run took by the wall clock, in nanoseconds, and the chain
-- in which it took longest. A hop goes from the start of a cause to the start of what it caused;
-- a handler's time from its own start to its end. Runs on DuckDB.
WITH RECURSIVE effects AS (
    SELECT portfolio, trace_id, parent_span_id, event_type, start_time
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND (
          event_type IN ('SIGNAL', 'FILL')
          OR (event_type = 'ORDER' AND status IN ('INITIALIZED', 'DENIED'))
      )
),

traces AS (
    SELECT trace_id FROM effects

    UNION

    -- Where a trace was divided, its first event is caused in another one.
    SELECT trace_divisions.cause_trace_id
    FROM traces
    JOIN trace_divisions USING (trace_id)
    WHERE trace_divisions.run_id = $run_id
),

chains AS MATERIALIZED (
    SELECT span_id, parent_span_id, event_type, span_kind, start_time
    FROM spans
    WHERE run_id = $run_id
      AND trace_id IN (SELECT trace_id FROM traces)
),

-- Every effect with each of its ancestors, the nearest first.
causes AS (
    SELECT
        portfolio,
        trace_id,
        event_type AS effect,
        start_time AS effect_time,
        parent_span_id AS span_id,
        1 AS distance,
        row_number() OVER () AS effect_number
    FROM effects
    WHERE parent_span_id IS NOT NULL

    UNION ALL

    SELECT
        causes.portfolio,
        causes.trace_id,
        causes.effect,
        causes.effect_time,
        chains.parent_span_id,
        causes.distance + 1,
        causes.effect_number
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    WHERE chains.parent_span_id IS NOT NULL
),

nearest AS (
    SELECT
        causes.portfolio,
        causes.trace_id,
        causes.effect,
        chains.event_type AS cause,
        causes.effect_time - chains.start_time AS duration
    FROM causes
    JOIN chains ON chains.span_id = causes.span_id
    WHERE chains.span_kind <> 'CONSUMER'
      AND (
          (chains.event_type IN ('BAR', 'TICK') AND causes.effect IN ('SIGNAL', 'FILL'))
          OR (chains.event_type = 'SIGNAL' AND causes.effect = 'ORDER')
      )
    QUALIFY row_number() OVER (
        PARTITION BY causes.effect_number, chains.event_type ORDER BY causes.distance
    ) = 1
),

states AS (
    SELECT
        portfolio,
        client_order_id,
        trace_id,
        sequence,
        start_time,
        CASE WHEN event_type = 'FILL' THEN 'FILL' ELSE status END AS state
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND client_order_id IS NOT NULL
      AND (event_type = 'FILL' OR status IN ('INITIALIZED', 'SUBMITTED', 'ACCEPTED'))
),

steps AS (
    SELECT portfolio, trace_id, before, state, start_time - before_time AS duration
    FROM (
        SELECT
            *,
            lag(state) OVER each_order AS before,
            lag(start_time) OVER each_order AS before_time
        FROM states
        WINDOW each_order AS (PARTITION BY portfolio, client_order_id ORDER BY sequence)
    )
    WHERE (before, state) IN (
        ('INITIALIZED', 'SUBMITTED'),
        ('SUBMITTED', 'ACCEPTED'),
        ('SUBMITTED', 'FILL'),
        ('ACCEPTED', 'FILL')
    )
),

hops AS (
    SELECT portfolio, trace_id, cause || ' → ' || effect AS hop, duration
    FROM nearest

    UNION ALL

    SELECT
        portfolio,
        trace_id,
        CASE before WHEN 'INITIALIZED' THEN 'ORDER' ELSE before END || ' → ' || state AS hop,
        duration
    FROM steps

    UNION ALL

    SELECT portfolio, trace_id, split_part(name, ' ', 2) || ' → handled' AS hop, end_time - start_time
    FROM spans
    WHERE run_id = $run_id
      AND span_kind = 'CONSUMER'
      AND end_time IS NOT NULL
)

SELECT
    portfolio,
    hop,
    count(*) AS count,
    quantile_disc(duration, 0.5) AS p50,
    quantile_disc(duration, 0.9) AS p90,
    quantile_disc(duration, 0.99) AS p99,
    max(duration) AS max,
    arg_max(trace_id, duration) AS slowest_trace_id
FROM hops
GROUP BY portfolio, hop
ORDER BY portfolio, hop
