-- Executions. A commission is a cost when positive; a multiplier that is not told is 1.
CREATE VIEW fills AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    strategy,
    symbol,
    venue,
    fill_id,
    client_order_id,
    order_id,
    position_id,
    side,
    quantity,
    price,
    currency,
    commission,
    attribute_text(attributes, 'trading.fill.commission_currency') AS commission_currency,
    attribute_text(attributes, 'trading.fill.liquidity_side') AS liquidity_side,
    coalesce(attribute_number(attributes, 'trading.instrument.multiplier'), 1) AS multiplier,
    attribute_text(attributes, 'trading.account.id') AS account_id,
    links,
    trace_id,
    span_id,
    parent_span_id
FROM spans
WHERE event_type = 'FILL'
