-- Names of the figures that there are. Runs on Postgres.
SELECT DISTINCT name FROM figures ORDER BY name
