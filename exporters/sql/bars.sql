-- Bars, with exact prices. Numbers lie in the columns; what does not fit them, among the attributes.
CREATE VIEW bars AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    symbol,
    venue,
    attribute_text(attributes, 'trading.bar.type') AS bar_type,
    exact_number('open', open, exact_numbers, layout, 'trading.bar.open', attributes) AS open,
    exact_number('high', high, exact_numbers, layout, 'trading.bar.high', attributes) AS high,
    exact_number('low', low, exact_numbers, layout, 'trading.bar.low', attributes) AS low,
    exact_number('price', price, exact_numbers, layout, 'trading.bar.close', attributes) AS close,
    exact_number('quantity', quantity, exact_numbers, layout, 'trading.bar.volume', attributes)
        AS volume,
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    lower(hex(parent_span_id)) AS parent_span_id
FROM raw_spans
WHERE event_type = 'BAR'
