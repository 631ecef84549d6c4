-- Runs once, when the container makes its database: psql, as the superuser, in database fillpath.
-- fillpath owns the results and migrates their schema; its password comes from a file.
\set ON_ERROR_STOP on
\set results_password `cat "${SECRETS_FOLDER:-/run/secrets}/results_password"`
CREATE ROLE fillpath LOGIN PASSWORD :'results_password';
ALTER DATABASE fillpath OWNER TO fillpath;
REVOKE CONNECT ON DATABASE fillpath FROM PUBLIC;
