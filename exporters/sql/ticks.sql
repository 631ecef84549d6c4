-- Quotes and trades, with exact prices.
CREATE VIEW ticks AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    symbol,
    venue,
    exact_number('bid', bid, exact_numbers, layout, 'trading.tick.bid', attributes) AS bid,
    exact_number('ask', ask, exact_numbers, layout, 'trading.tick.ask', attributes) AS ask,
    exact_number('bid_size', bid_size, exact_numbers, layout, 'trading.tick.bid_size', attributes)
        AS bid_size,
    exact_number('ask_size', ask_size, exact_numbers, layout, 'trading.tick.ask_size', attributes)
        AS ask_size,
    exact_number('price', price, exact_numbers, layout, 'trading.tick.price', attributes) AS price,
    exact_number('quantity', quantity, exact_numbers, layout, 'trading.tick.size', attributes)
        AS size,
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    lower(hex(parent_span_id)) AS parent_span_id
FROM raw_spans
WHERE event_type = 'TICK'
