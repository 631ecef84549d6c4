-- Each state that an order reached.
CREATE VIEW orders AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    strategy,
    symbol,
    venue,
    client_order_id,
    order_id,
    status,
    side,
    order_type,
    quantity,
    price,
    attribute_number(attributes, 'trading.order.trigger_price') AS trigger_price,
    attribute_text(attributes, 'trading.order.time_in_force') AS time_in_force,
    TRY_CAST(attribute_text(attributes, 'trading.order.reduce_only') AS BOOLEAN) AS reduce_only,
    attribute_text(attributes, 'trading.order.parent_id') AS parent_order_id,
    attribute_text(attributes, 'trading.order.reject.reason') AS reject_reason,
    trace_id,
    span_id,
    parent_span_id
FROM spans
WHERE event_type = 'ORDER'
