-- An answer about a run that was kept, if the run has not been loaded since. Runs on Postgres.
SELECT kept.answer
FROM result_cache AS kept
WHERE
    kept.run_id = %(run_id)s
    AND hashtextextended(kept.query, 0) = hashtextextended(%(asked)s, 0)
    AND kept.query = %(asked)s
    AND kept.source_version = (
        SELECT string_agg(shard || ' ' || source_version || ' ' || loaded_at::text, '; ' ORDER BY shard)
        FROM load_log
        WHERE load_log.run_id = %(run_id)s
    )
