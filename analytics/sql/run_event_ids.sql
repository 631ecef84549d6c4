-- The ids that the events of a run carry, one a row: of which event, in which place of it, in which
-- space of names, and the name. Runs on DuckDB.
WITH events AS MATERIALIZED (
    SELECT
        hash(span_id) AS span,
        portfolio,
        venue,
        client_order_id,
        order_id,
        fill_id,
        position_id,
        CASE WHEN regexp_matches(attributes, $any) THEN attributes END AS attributes
    FROM (
        SELECT * REPLACE (replace(attributes, $account_id, '"":') AS attributes)
        FROM raw_spans
        WHERE run_id = $run_id
    )
),

members AS (
    SELECT
        span,
        portfolio,
        venue,
        unnest(
            list_concat(
                flatten(
                    list_transform(
                        list_zip(
                            regexp_extract_all(attributes, $id_member, 1),
                            regexp_extract_all(attributes, $id_member, 2)
                        ),
                        -- One id, or a list of them.
                        lambda member: list_transform(
                            regexp_extract_all(member[2], '"(?:[^"\\]|\\.)*"|[^,\[\]\s"]+'),
                            lambda one: {'key': member[1], 'name': trim(one, '"')}
                        )
                    )
                ),
                list_transform(
                    regexp_extract_all(regexp_replace(attributes, $id_member, '', 'g'), $uuid),
                    lambda one: {'key': 'uuid', 'name': one}
                )
            )
        ) AS id
    FROM events
    WHERE attributes IS NOT NULL
),

carried AS (
    SELECT
        span, portfolio, NULL AS venue, 'client_order_id' AS place, 'order' AS space,
        client_order_id AS name
    FROM events
    WHERE client_order_id IS NOT NULL AND NOT list_contains($ignored_keys, 'client_order_id')

    UNION ALL

    -- Engines count their own orders, venues their own executions.
    SELECT span, portfolio, venue, 'order_id', 'order_id', order_id
    FROM events
    WHERE order_id IS NOT NULL AND NOT list_contains($ignored_keys, 'order_id')

    UNION ALL

    SELECT span, portfolio, venue, 'fill_id', 'fill_id', fill_id
    FROM events
    WHERE fill_id IS NOT NULL AND NOT list_contains($ignored_keys, 'fill_id')

    UNION ALL

    SELECT span, portfolio, NULL, 'position_id', 'position_id', position_id
    FROM events
    WHERE position_id IS NOT NULL AND NOT list_contains($ignored_keys, 'position_id')

    UNION ALL

    SELECT
        span,
        portfolio,
        NULL,
        id.key,
        CASE
            WHEN list_contains($order_keys, id.key) THEN 'order'
            WHEN list_contains($event_keys, id.key) THEN 'event'
            ELSE id.key
        END,
        id.name
    FROM members
    WHERE NOT list_contains($ignored_keys, id.key)
)

SELECT
    span,
    hash(place) AS place,
    hash(portfolio, venue, space) AS space,
    hash(name) AS name
FROM carried
