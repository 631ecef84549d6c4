-- Some spans of a run. `chosen` stands for their sequences: written as numbers, they let DuckDB read
-- and decode only what it must. Runs on DuckDB.
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
  AND sequence IN (chosen)
ORDER BY sequence
