-- Keep an answer about a run, in place of an older one. Runs on Postgres.
INSERT INTO result_cache (run_id, query, source_version, answer)
SELECT run_id, %(asked)s, %(source_version)s, %(answer)s
FROM runs
WHERE run_id = %(run_id)s
ON CONFLICT (run_id, hashtextextended(query, 0)) DO UPDATE SET
    query = excluded.query,
    source_version = excluded.source_version,
    answer = excluded.answer,
    made_at = now()
RETURNING run_id
