-- What the results of a shard were made from. Runs on Postgres.
SELECT source_version
FROM load_log
WHERE run_id = %(run_id)s AND shard = %(shard)s
