-- The last price of each day of the instruments that are held. Runs on DuckDB, with the lots in the
-- relation `lot_spans` (lot, portfolio, symbol, venue, first, last: sequences).
CREATE OR REPLACE TEMPORARY TABLE day_marks AS
SELECT
    portfolio,
    symbol,
    venue,
    date_trunc('day', make_timestamp(event_time // 1000)) AS day,
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
FROM quoted_prices($run_id, $trade_price, $bid, $ask)
WHERE symbol IN (SELECT DISTINCT symbol FROM lot_spans)
GROUP BY portfolio, symbol, venue, day
