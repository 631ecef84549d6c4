-- Every span of a run, in order, as numbers that two runs can be compared by. `content` stands for
-- all that an event says except ids, clocks and where it was recorded; equal contents are equal
-- events, unequal ones are looked at closely. Runs on DuckDB.
WITH layouts AS (
    SELECT
        layout,
        -- How many zeros a number was written with, and as what, says nothing about its value.
        regexp_replace(layout, ',"[a-z]+",[0-9]+\]', ']', 'g') AS shape
    FROM (SELECT DISTINCT layout FROM raw_spans WHERE run_id = $run_id)
)

SELECT
    sequence,
    hash(span_id) AS span,
    CASE WHEN parent_span_id IS NULL THEN 0 ELSE hash(parent_span_id) END AS parent,
    coalesce(event_type, '') AS event_type,
    coalesce(portfolio, '') AS portfolio,
    coalesce(event_time, 0) AS event_time,
    -- A handler's run is no event, unless it failed; neither is a span of the host's own.
    event_type IS DISTINCT FROM 'SPAN'
        AND (
            span_kind IS DISTINCT FROM 'CONSUMER' OR status_code IS NOT DISTINCT FROM 'ERROR'
        ) AS is_event,
    span_kind IS NOT DISTINCT FROM 'CONSUMER' AS is_delivery,
    sampling_reason IS NOT DISTINCT FROM 'critical' AS is_critical,
    hash(coalesce(handler, '')) AS handler,
    hash(CASE WHEN $by_portfolio THEN portfolio END, strategy, symbol) AS lane,
    hash(
        compared,
        layouts.shape,
        -- Which id belongs to which is compared elsewhere; here, that they are there. Only whose
        -- account it is counts as it is.
        CASE
            WHEN regexp_matches(attributes, $any)
                THEN regexp_replace(
                    regexp_replace(
                        regexp_replace(attributes, $ignored, '', 'g'), $id_member, '"\1":0', 'g'
                    ),
                    $uuid,
                    '0',
                    'g'
                )
            ELSE attributes
        END,
        CASE WHEN span_kind = 'CONSUMER' THEN handler END,
        order_id IS NULL,
        client_order_id IS NULL,
        fill_id IS NULL,
        position_id IS NULL,
        len(list_filter(links, lambda link: link.span_id <> coalesce(parent_span_id, '')))
    ) AS content
FROM (
    SELECT
        * REPLACE (replace(attributes, $account_id, '"":') AS attributes),
        hash(
            *COLUMNS(
                lambda name: list_contains(
                    [
                        'event_type', 'event_time', 'venue', 'side', 'order_type', 'status',
                        'quantity', 'price', 'commission', 'currency', 'open', 'high', 'low', 'bid',
                        'ask', 'bid_size', 'ask_size', 'strength', 'value_1', 'value_2', 'value_3',
                        'value_4', 'value_5', 'exact_numbers', 'status_code', 'status_message'
                    ],
                    name
                ) AND NOT list_contains(getvariable('ignored_columns'), name)
            )
        ) AS compared
    FROM raw_spans
    WHERE run_id = $run_id
) AS events
LEFT JOIN layouts USING (layout)
ORDER BY sequence, start_time, content
