-- What a run's rows were made from, in one text: another one after every load. Runs on Postgres.
SELECT
    string_agg(shard || ' ' || source_version || ' ' || loaded_at::text, '; ' ORDER BY shard)
        AS source_version
FROM load_log
WHERE run_id = %(run_id)s
