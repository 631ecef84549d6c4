-- The spans as people and analytics want them: ids in hex, money as exact decimals, attributes whole.
-- `exact` stands for the decimal type, which is as fine as the finest number in the lake.
CREATE VIEW spans AS
SELECT
    run_id,
    portfolio,
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    lower(hex(parent_span_id)) AS parent_span_id,
    sequence,
    name,
    span_kind,
    event_type,
    coalesce(correlation_id, lower(hex(trace_id))) AS correlation_id,
    event_time,
    start_time,
    coalesce(start_time, 0) + duration AS end_time,
    strategy,
    symbol,
    venue,
    order_id,
    client_order_id,
    fill_id,
    position_id,
    side,
    order_type,
    status,
    -- A double that stands for up to 15 digits prints as these digits: so text, then decimal.
    TRY_CAST(
        coalesce(json_extract_string(exact_numbers, 'quantity'), CAST(quantity AS VARCHAR)) AS exact
    ) AS quantity,
    TRY_CAST(
        coalesce(json_extract_string(exact_numbers, 'price'), CAST(price AS VARCHAR)) AS exact
    ) AS price,
    TRY_CAST(
        coalesce(json_extract_string(exact_numbers, 'commission'), CAST(commission AS VARCHAR))
        AS exact
    ) AS commission,
    currency,
    handler,
    coalesce(
        to_json([
            {'trace_id': lower(hex(link.trace_id)), 'span_id': lower(hex(link.span_id))}
            FOR link IN links
        ]),
        CAST('[]' AS JSON)
    ) AS links,
    CAST(
        CASE
            WHEN layout IS NULL THEN coalesce(attributes, '{}')
            ELSE joined_object(
                members_of_numbers(
                    layout, exact_numbers, quantity, price, commission, open, high, low, bid, ask,
                    bid_size, ask_size, strength, value_1, value_2, value_3, value_4, value_5
                ),
                attributes
            )
        END
        AS JSON
    ) AS attributes,
    root_sequence,
    duration,
    open,
    high,
    low,
    bid,
    ask,
    bid_size,
    ask_size,
    strength,
    status_code,
    status_message,
    sampling_reason,
    sampling_probability,
    service_name,
    host_name,
    scope_name
FROM raw_spans
