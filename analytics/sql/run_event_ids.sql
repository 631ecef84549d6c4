-- The ids that the events of a run carry, one a row: of which event, in which place of it, in which
-- space of names, and the name. Runs on DuckDB.
WITH carried AS (
    SELECT
        hash(span_id) AS span,
        portfolio,
        venue,
        unnest(
            list_concat(
                list_filter(
                    [
                        {'key': 'client_order_id', 'value': client_order_id},
                        {'key': 'order_id', 'value': order_id},
                        {'key': 'fill_id', 'value': fill_id},
                        {'key': 'position_id', 'value': position_id}
                    ],
                    lambda id: id.value IS NOT NULL
                ),
                coalesce(
                    flatten(
                        list_transform(
                            list_zip(
                                regexp_extract_all(attributes, $id_member, 1),
                                regexp_extract_all(attributes, $id_member, 2)
                            ),
                            -- One id, or a list of them.
                            lambda member: list_transform(
                                regexp_extract_all(
                                    member[2], '"(?:[^"\\]|\\.)*"|[^,\[\]\s"]+'
                                ),
                                lambda one: {'key': member[1], 'value': trim(one, '"')}
                            )
                        )
                    ),
                    []
                ),
                coalesce(
                    list_transform(
                        regexp_extract_all(
                            regexp_replace(attributes, $id_member, '', 'g'), $uuid
                        ),
                        lambda one: {'key': 'uuid', 'value': one}
                    ),
                    []
                )
            )
        ) AS id
    FROM raw_spans
    WHERE run_id = $run_id
      AND (
          client_order_id IS NOT NULL
          OR order_id IS NOT NULL
          OR fill_id IS NOT NULL
          OR position_id IS NOT NULL
          OR regexp_matches(attributes, $id_member)
          OR regexp_matches(attributes, $uuid)
      )
)

SELECT
    span,
    hash(id.key) AS place,
    -- Engines count their own orders, venues their own executions.
    hash(
        portfolio,
        CASE WHEN id.key IN ('order_id', 'fill_id') THEN venue END,
        CASE
            WHEN list_contains($order_keys, id.key) THEN 'order'
            WHEN list_contains($event_keys, id.key) THEN 'event'
            ELSE id.key
        END
    ) AS space,
    hash(id.value) AS name
FROM carried
WHERE NOT list_contains($exact_keys, id.key)
