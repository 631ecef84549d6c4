-- Tables of the results with their partitions: bytes with indexes, and rows as last counted by the
-- server (-1 if never). Runs on Postgres.
SELECT
    coalesce(parent.relname, own.relname)::text AS table_name,
    own.relname::text AS part,
    parent.oid IS NOT NULL AS is_partition,
    pg_total_relation_size(own.oid) AS bytes,
    own.reltuples::bigint AS rows
FROM pg_catalog.pg_class AS own
LEFT JOIN pg_catalog.pg_inherits AS link ON link.inhrelid = own.oid
LEFT JOIN pg_catalog.pg_class AS parent ON parent.oid = link.inhparent
WHERE own.relkind = 'r' AND pg_catalog.pg_table_is_visible(own.oid) AND own.relnamespace <> 'pg_catalog'::regnamespace
ORDER BY 1, 2
