-- The last price of each day of the instruments that are held. Runs on DuckDB, with the lots in the
-- relation `lot_spans` (lot, portfolio, symbol, venue, first, last: sequences).
CREATE OR REPLACE TEMPORARY TABLE day_marks AS
WITH quotes AS (
    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        date_trunc('day', make_timestamp(event_time // 1000)) AS day,
        sequence,
        event_time,
        trace_id,
        span_id,
        coalesce(CAST(price AS VARCHAR), attributes ->> $trade_price) AS price,
        attributes ->> $bid AS bid,
        attributes ->> $ask AS ask
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IN (SELECT DISTINCT symbol FROM lot_spans)
)

SELECT
    portfolio,
    symbol,
    venue,
    day,
    max(sequence) AS sequence,
    arg_max(
        {
            'event_time': event_time,
            'trace_id': trace_id,
            'span_id': span_id,
            'price': price,
            'bid': bid,
            'ask': ask
        },
        sequence
    ) AS mark
FROM quotes
WHERE price IS NOT NULL OR (bid IS NOT NULL AND ask IS NOT NULL)
GROUP BY portfolio, symbol, venue, day
