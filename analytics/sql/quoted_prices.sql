-- The prices that a run has seen: close of a bar, price of a trade, or both sides of a quote. Attributes
-- are put together only where there is no price, because that takes microseconds a span, and there may
-- be millions of bars. Runs on DuckDB.
CREATE OR REPLACE TEMPORARY MACRO quoted_prices(run, trade_price, bid_path, ask_path) AS TABLE
SELECT *
FROM (
    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        sequence,
        event_time,
        trace_id,
        span_id,
        CAST(price AS VARCHAR) AS price,
        CAST(NULL AS VARCHAR) AS bid,
        CAST(NULL AS VARCHAR) AS ask
    FROM spans
    WHERE run_id = run
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IS NOT NULL
      AND price IS NOT NULL

    UNION ALL

    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        sequence,
        event_time,
        trace_id,
        span_id,
        attributes ->> trade_price AS price,
        attributes ->> bid_path AS bid,
        attributes ->> ask_path AS ask
    FROM spans
    WHERE run_id = run
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IS NOT NULL
      AND price IS NULL
)
WHERE price IS NOT NULL OR (bid IS NOT NULL AND ask IS NOT NULL)
