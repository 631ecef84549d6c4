-- The events of a run: what each is on the way from the market to a fill (see `latency_hops.Step`),
-- its cause, and when it began by the wall clock (-1: unknown). Ids become integers, and who made the
-- event a hash that `latency_names` explains, because a million of them are compared. On DuckDB.
SELECT
    sequence,
    coalesce(TRY_CAST('0x' || span_id AS UBIGINT), 0) AS span,
    coalesce(TRY_CAST('0x' || parent_span_id AS UBIGINT), 0) AS cause,
    coalesce(start_time, -1) AS start_time,
    hash(
        portfolio, strategy, handler,
        CASE WHEN span_kind = 'CONSUMER' THEN name ELSE event_type END
    ) AS who,
    CASE
        WHEN span_kind = 'CONSUMER' THEN 0
        WHEN event_type = 'BAR' THEN 1
        WHEN event_type = 'TICK' THEN 2
        WHEN event_type = 'BOOK' THEN 3
        WHEN event_type = 'FEATURES' THEN 4
        WHEN event_type = 'SIGNAL' THEN 5
        WHEN event_type = 'FILL' THEN 9
        WHEN event_type = 'ORDER' THEN
            CASE
                WHEN upper(status) IN ('SUBMITTED', 'SENT', 'PENDING_SUBMIT', 'PENDING_NEW') THEN 7
                WHEN upper(status) IN ('ACCEPTED', 'ACKNOWLEDGED', 'WORKING') THEN 8
                -- The first state in some engines' words, in others that the venue has taken it.
                WHEN upper(status) = 'NEW' THEN 16
                ELSE 6
            END
        ELSE 0
    END AS step,
    CASE
        WHEN event_type IN ('ORDER', 'FILL') AND client_order_id IS NOT NULL
            THEN greatest(hash(portfolio, client_order_id), 1)
        ELSE 0
    END AS order_id
FROM spans
WHERE run_id = $run_id
