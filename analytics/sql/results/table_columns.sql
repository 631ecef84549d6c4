-- Names of a table's columns, in order. Runs on Postgres.
SELECT column_name AS name
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = %(table)s
ORDER BY ordinal_position
