-- Positions as the engine keeps them, each time one changed.
CREATE VIEW positions AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    strategy,
    symbol,
    venue,
    position_id,
    event_type AS change,
    attribute_text(attributes, 'trading.position.side') AS side,
    attribute_number(attributes, 'trading.position.quantity') AS quantity,
    attribute_number(attributes, 'trading.position.average_open_price')
        AS average_open_price,
    attribute_number(attributes, 'trading.position.average_close_price')
        AS average_close_price,
    attribute_number(attributes, 'trading.position.realized_pnl') AS realized_pnl,
    attribute_text(attributes, 'trading.position.currency') AS currency,
    attribute_text(attributes, 'trading.position.opening_order_id') AS opening_order_id,
    attribute_text(attributes, 'trading.position.closing_order_id') AS closing_order_id,
    trace_id,
    span_id,
    parent_span_id
FROM spans
WHERE event_type IN ('POSITION_OPEN', 'POSITION_CHANGE', 'POSITION_CLOSE')
