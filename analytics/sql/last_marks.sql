-- The last quoted price of every instrument in a run: close of a bar, price of a trade, or both
-- sides of a quote. Runs on DuckDB.
WITH quotes AS (
    SELECT
        portfolio,
        symbol,
        venue,
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
      AND symbol IS NOT NULL
)

SELECT
    portfolio,
    symbol,
    coalesce(venue, '') AS venue,
    arg_max(
        {
            'sequence': sequence,
            'event_time': event_time,
            'trace_id': trace_id,
            'span_id': span_id,
            'price': price,
            'bid': bid,
            'ask': ask
        },
        sequence
    ) AS quote
FROM quotes
WHERE price IS NOT NULL OR (bid IS NOT NULL AND ask IS NOT NULL)
GROUP BY portfolio, symbol, coalesce(venue, '')
