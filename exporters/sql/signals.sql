-- What strategies signalled. `value` is as the host wrote it; `number` is that where it is a number.
CREATE VIEW signals AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    strategy,
    symbol,
    venue,
    attribute_text(attributes, 'trading.signal.name') AS signal,
    attribute_text(attributes, 'trading.signal.value') AS value,
    attribute_number(attributes, 'trading.signal.value') AS number,
    attribute_number(attributes, 'trading.signal.strength') AS strength,
    trace_id,
    span_id,
    parent_span_id
FROM spans
WHERE event_type = 'SIGNAL'
