-- The last quoted price of every instrument in a run. Runs on DuckDB.
SELECT
    portfolio,
    symbol,
    venue,
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
FROM quoted_prices($run_id, $trade_price, $bid, $ask)
GROUP BY portfolio, symbol, venue
