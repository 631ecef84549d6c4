-- How large the database is, and of what. Runs on Postgres.
SELECT
    current_database() AS name,
    current_setting('server_version') AS version,
    pg_database_size(current_database()) AS bytes,
    (SELECT count(*) FROM runs) AS runs,
    (SELECT count(*) FROM result_cache) AS cached_answers
