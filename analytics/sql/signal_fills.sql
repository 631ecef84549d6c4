-- Every order of a run that a signal led to, with its fills; an order without one has a row, too.
-- Needs the table `order_causes`. Runs on DuckDB.
SELECT
    order_causes.signal_span_id,
    order_causes.client_order_id,
    fills.symbol,
    fills.side,
    fills.quantity,
    fills.price,
    fills.commission,
    fills.currency,
    fills.attributes
FROM order_causes
LEFT JOIN spans AS fills
    ON fills.run_id = $run_id
    AND fills.event_type = 'FILL'
    AND fills.span_kind IS DISTINCT FROM 'CONSUMER'
    AND fills.portfolio IS NOT DISTINCT FROM order_causes.portfolio
    AND fills.client_order_id = order_causes.client_order_id
WHERE order_causes.signal_span_id IS NOT NULL
ORDER BY order_causes.sequence, fills.sequence
