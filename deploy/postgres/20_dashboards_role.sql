-- The role that dashboards read with: every table of the results, also those of later migrations,
-- and nothing else. Run it as the superuser or as fillpath, the owner of the tables; as often as you
-- like. It sets no password: see 30_dashboards_password.sql, or \password in psql.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'fillpath_dashboards') THEN
        CREATE ROLE fillpath_dashboards LOGIN CONNECTION LIMIT 20;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO fillpath_dashboards', current_database());
END
$$;
-- A query that somebody typed into a panel ends after half a minute.
ALTER ROLE fillpath_dashboards SET statement_timeout = '30s';
ALTER ROLE fillpath_dashboards SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO fillpath_dashboards;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO fillpath_dashboards;
ALTER DEFAULT PRIVILEGES FOR ROLE fillpath IN SCHEMA public
GRANT SELECT ON TABLES TO fillpath_dashboards;
