-- Runs that are loaded: from what, when, and how many rows. Runs on Postgres.
SELECT
    run_id,
    loads.shard,
    loads.source_version,
    loads.loaded_at,
    (SELECT coalesce(sum(count.value::bigint), 0) FROM jsonb_each_text(loads.rows) AS count)::bigint
        AS rows
FROM load_log AS loads
ORDER BY run_id, shard
