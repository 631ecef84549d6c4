-- Runs once, like 10_roles.sql, after it.
\set ON_ERROR_STOP on
\set dashboards_password `cat "${SECRETS_FOLDER:-/run/secrets}/dashboards_password"`
ALTER ROLE fillpath_dashboards PASSWORD :'dashboards_password';
