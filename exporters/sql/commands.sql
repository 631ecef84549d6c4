-- Instructions of strategies to the engine.
CREATE VIEW commands AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    strategy,
    symbol,
    venue,
    attribute_text(attributes, 'trading.command.name') AS command,
    client_order_id,
    order_id,
    side,
    order_type,
    quantity,
    price,
    attribute_number(attributes, 'trading.order.trigger_price') AS trigger_price,
    trace_id,
    span_id,
    parent_span_id
FROM spans
WHERE event_type = 'COMMAND'
