-- The spans of some traces of a run. Runs on DuckDB.
SELECT
    trace_id,
    span_id,
    parent_span_id,
    sequence,
    name,
    span_kind,
    event_type,
    event_time,
    start_time,
    end_time,
    strategy,
    symbol,
    handler,
    side,
    order_type,
    status,
    quantity,
    price,
    commission,
    currency,
    client_order_id,
    order_id,
    fill_id,
    position_id,
    CAST(links AS VARCHAR) AS links,
    CAST(attributes AS VARCHAR) AS attributes
FROM spans
WHERE run_id = $run_id
  AND trace_id IN (SELECT unnest($trace_ids))
ORDER BY sequence
