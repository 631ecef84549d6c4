-- Every fill of a run. Runs on DuckDB.
SELECT
    portfolio,
    sequence,
    coalesce(fill_id, span_id) AS fill_id,
    client_order_id,
    order_id,
    position_id,
    strategy,
    symbol,
    venue,
    side,
    quantity,
    price,
    commission,
    coalesce(attributes ->> $commission_currency, currency) AS commission_currency,
    currency,
    event_time,
    trace_id,
    span_id
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type = 'FILL'
  AND side IN ('BUY', 'SELL')
  AND quantity IS NOT NULL
  AND price IS NOT NULL
ORDER BY sequence
