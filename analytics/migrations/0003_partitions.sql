-- Rows of runs by the month in which the run was started, so that old months go at once; rows of
-- portfolios for those alone who may see them; and what makes the usual questions quick.

-- The month of a run never changes, whatever a later load says of its start: its rows are there.
ALTER TABLE runs ADD run_month date NOT NULL DEFAULT '1970-01-01';
ALTER TABLE runs ADD portfolios text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN runs.run_month IS
    'First day of the month (UTC) in which the run was started; 1970-01-01 if that is unknown. Its rows are in the partitions of that month.';
COMMENT ON COLUMN runs.portfolios IS 'Portfolio namespaces that the run''s rows have.';

CREATE FUNCTION month_of_run(started_at bigint) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    date_trunc('month', timestamp '1970-01-01' + (started_at / 1000) * interval '1 microsecond')::date,
    date '1970-01-01'
);
COMMENT ON FUNCTION month_of_run IS 'The month to which the rows of a run belong.';

UPDATE runs SET run_month = month_of_run(started_at);
UPDATE runs SET portfolios = found.portfolios
FROM (
    SELECT run_id, array_agg(DISTINCT portfolio) AS portfolios
    FROM (
        SELECT run_id, portfolio FROM completeness
        UNION SELECT run_id, portfolio FROM orders
        UNION SELECT run_id, portfolio FROM fills
        UNION SELECT run_id, portfolio FROM trades
        UNION SELECT run_id, portfolio FROM pnl_slices
        UNION SELECT run_id, portfolio FROM reconciliation
        UNION SELECT run_id, portfolio FROM equity
        UNION SELECT run_id, portfolio FROM signals
        UNION SELECT run_id, portfolio FROM executions
    ) AS named
    WHERE portfolio <> ''
    GROUP BY run_id
) AS found
WHERE found.run_id = runs.run_id;
ALTER TABLE runs ADD CONSTRAINT runs_month_key UNIQUE (run_id, run_month);

CREATE FUNCTION name_month_of_run() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.run_month := month_of_run(NEW.started_at);
    RETURN NEW;
END
$$;
CREATE TRIGGER runs_month BEFORE INSERT ON runs
FOR EACH ROW EXECUTE FUNCTION name_month_of_run();

CREATE FUNCTION keep_run_where_it_is() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a run keeps its name and its month' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER runs_stay BEFORE UPDATE ON runs FOR EACH ROW
WHEN ((OLD.run_id, OLD.run_month) IS DISTINCT FROM (NEW.run_id, NEW.run_month))
EXECUTE FUNCTION keep_run_where_it_is();

-- A shard with many slices has partitions of its own beside that of the month: filled before anybody
-- sees them, and not written to the log where the server may do without.
CREATE SEQUENCE slice_parts AS integer;
ALTER TABLE pnl_slices ADD part integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN pnl_slices.part IS
    'Partition of its month that the row is in: 0 for that of all runs, else one of its shard alone.';
ALTER TABLE load_log ADD parts integer[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN load_log.parts IS 'Partitions that hold the shard''s slices alone, as pnl_slices.part.';
-- Making a timestamp of every slice takes the server a tenth of the time that storing it does; whoever
-- loads lays it out ready.
ALTER TABLE pnl_slices ALTER event_at DROP EXPRESSION;

-- Makes the partition of a month. Whoever queries it by its own name sees nothing: the policies are
-- those of the whole table.
CREATE FUNCTION make_month(of_table text, of_month date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    undated constant boolean := of_month = date '1970-01-01';
    part text := of_table || CASE WHEN undated THEN '_undated' ELSE to_char(of_month, '_YYYY_MM') END;
BEGIN
    IF of_table = 'pnl_slices' THEN
        -- None takes whatever is left: it would be looked through at every partition that is added.
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L, 0) TO (%L, 1)',
            part, of_table, of_month, of_month
        );
        -- A load writes the slices of its run one after the other, so that a summary of every 32
        -- pages finds them. It is kept for a twentieth of what an entry a row in a b-tree costs.
        EXECUTE format(
            'CREATE INDEX IF NOT EXISTS %I ON %I USING brin (run_id, sequence) '
            'WITH (pages_per_range = 32, autosummarize = on)',
            part || '_run', part
        );
    ELSIF undated THEN
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I DEFAULT', part, of_table);
    ELSE
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            part, of_table, of_month, (of_month + interval '1 month')::date
        );
    END IF;
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
END
$$;
COMMENT ON FUNCTION make_month IS
    'Makes the partition of a table for the runs of a month, or for those without one (1970-01-01).';

-- Turns a table into one with a partition a month, and brings its rows, comments and grants along.
CREATE FUNCTION pg_temp.divide_by_month(whole text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    old regclass;
    columns text;
    month date;
    said record;
BEGIN
    EXECUTE format('ALTER TABLE %I RENAME TO %I', whole, whole || '_undivided');
    old := format('%I', whole || '_undivided')::regclass;
    EXECUTE format(
        'CREATE TABLE %I (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS '
        'INCLUDING COMMENTS INCLUDING STORAGE, run_month date NOT NULL DEFAULT %L) '
        'PARTITION BY RANGE (run_month%s)',
        whole, old, '1970-01-01', CASE WHEN whole = 'pnl_slices' THEN ', part' END
    );
    EXECUTE format('COMMENT ON TABLE %I IS %L', whole, obj_description(old, 'pg_class'));
    EXECUTE format('COMMENT ON COLUMN %I.run_month IS %L', whole, 'Month of the run, as in runs.');
    FOR said IN
        SELECT
            CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(role.rolname) END AS grantee,
            acl.privilege_type,
            acl.is_grantable
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
        LEFT JOIN pg_roles AS role ON role.oid = acl.grantee
        WHERE c.oid = old AND acl.grantee <> c.relowner
    LOOP
        EXECUTE format(
            'GRANT %s ON %I TO %s%s', said.privilege_type, whole, said.grantee,
            CASE WHEN said.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        );
    END LOOP;
    PERFORM make_month(whole, '1970-01-01');
    FOR month IN SELECT DISTINCT run_month FROM runs ORDER BY 1 LOOP
        PERFORM make_month(whole, month);
    END LOOP;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute
    WHERE attrelid = old AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format(
        'INSERT INTO %I (%s, run_month) SELECT %s, run_month FROM %s '
        'JOIN (SELECT run_id, run_month FROM runs) AS dated USING (run_id)',
        whole, columns, columns, old
    );
    EXECUTE format('DROP TABLE %s', old);
END
$$;

SELECT pg_temp.divide_by_month(whole)
FROM unnest(ARRAY[
    'orders', 'fills', 'trades', 'pnl_slices', 'equity', 'signals', 'pnl_rollups', 'executions',
    'latency_histograms'
]) AS whole;

-- Breakdowns are read from these sums; runs that were loaded earlier get theirs now.
INSERT INTO pnl_rollups (
    run_id, shard, run_month, portfolio, strategy, symbol, currency, kind, day, amount, slices
)
SELECT
    run_id, shard, run_month, portfolio, strategy, symbol, currency,
    coalesce('reclassified_' || reclassified, kind),
    (event_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
FROM pnl_slices
WHERE NOT EXISTS (SELECT FROM pnl_rollups AS made WHERE made.run_id = pnl_slices.run_id)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

ALTER TABLE orders ADD PRIMARY KEY (run_id, sequence, run_month);
ALTER TABLE fills ADD PRIMARY KEY (run_id, sequence, run_month);
ALTER TABLE signals ADD PRIMARY KEY (run_id, sequence, run_month);
ALTER TABLE executions ADD PRIMARY KEY (run_id, sequence, run_month);
ALTER TABLE equity ADD PRIMARY KEY (run_id, sequence, currency, run_month);
CREATE INDEX orders_client_order_id ON orders USING hash (client_order_id);
CREATE INDEX fills_fill_id ON fills USING hash (fill_id);
CREATE INDEX fills_client_order_id ON fills USING hash (client_order_id);
CREATE UNIQUE INDEX trades_key ON trades (run_id, hashtextextended(trade_id, 0), run_month);
CREATE INDEX trades_in_order ON trades (run_id, entry_sequence);
CREATE INDEX pnl_rollups_run ON pnl_rollups (run_id);
CREATE INDEX latency_histograms_run ON latency_histograms (run_id);
SELECT brin_summarize_new_values(indexes.indexrelid)
FROM pg_inherits AS parts
JOIN pg_index AS indexes ON indexes.indrelid = parts.inhrelid
WHERE parts.inhparent = 'pnl_slices'::regclass;

ALTER TABLE orders ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE fills ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE trades ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE equity ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE signals ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE pnl_rollups ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE executions ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;
ALTER TABLE latency_histograms ADD FOREIGN KEY (run_id, run_month)
REFERENCES runs (run_id, run_month) ON DELETE CASCADE;

-- A foreign key looks at every row by itself, which takes three times as long as storing a slice. The
-- slices have the same promise by statement: a load, which has just written the run, copies right
-- into the partition; everybody else goes through the table and is checked.
CREATE FUNCTION refuse_slices_without_run() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT run_id, run_month FROM fresh) AS named
        WHERE NOT EXISTS (
            SELECT FROM runs
            WHERE runs.run_id = named.run_id AND runs.run_month = named.run_month
            FOR KEY SHARE
        )
    ) THEN
        RAISE EXCEPTION 'table "pnl_slices" would have rows of a run that is not in table "runs"'
        USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER pnl_slices_have_a_run AFTER INSERT ON pnl_slices
REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION refuse_slices_without_run();
CREATE TRIGGER pnl_slices_keep_a_run AFTER UPDATE ON pnl_slices
REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION refuse_slices_without_run();

CREATE FUNCTION delete_slices_of_run() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM pnl_slices WHERE run_id = OLD.run_id AND run_month = OLD.run_month;
    RETURN NULL;
END
$$;
CREATE TRIGGER runs_take_their_slices AFTER DELETE ON runs
FOR EACH ROW EXECUTE FUNCTION delete_slices_of_run();

CREATE INDEX runs_parameters ON runs USING gin (parameters jsonb_path_ops);
CREATE INDEX runs_started ON runs (started_at DESC NULLS LAST, run_id DESC);
CREATE INDEX figures_by_value ON figures (hashtextextended(name, 0), value);
CREATE INDEX figures_run ON figures (run_id);
CREATE INDEX daily_returns_run ON daily_returns (run_id);
CREATE INDEX regimes_run ON regimes (run_id);
CREATE INDEX signal_strength_run ON signal_strength (run_id);
CREATE INDEX signal_decay_run ON signal_decay (run_id);
CREATE INDEX funnel_run ON funnel (run_id);

-- Answers that took a while, as long as the run is what it was: by the load they were made from.
CREATE TABLE result_cache (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    query text NOT NULL,
    source_version text NOT NULL,
    answer bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX result_cache_key ON result_cache (run_id, hashtextextended(query, 0));
COMMENT ON TABLE result_cache IS
    'Answers about a run that are kept; a load of the run removes them.';
COMMENT ON COLUMN result_cache.run_id IS 'Run the answer is about.';
COMMENT ON COLUMN result_cache.query IS 'What was asked: name, and parameters as JSON.';
COMMENT ON COLUMN result_cache.source_version IS
    'What the answer was made from: the versions that load_log has of the run. Of another one it does not count.';
COMMENT ON COLUMN result_cache.answer IS 'The answer, compressed JSON.';
COMMENT ON COLUMN result_cache.made_at IS 'When it was made.';

-- Who sees which rows: the owner of the tables all of them, everybody else those of the portfolios
-- that are granted, and of what is below them.
CREATE TABLE namespace_grants (
    role name NOT NULL,
    namespace text NOT NULL,
    CONSTRAINT namespace_grants_no_slash_at_end CHECK (right(namespace, 1) <> '/')
);
CREATE UNIQUE INDEX namespace_grants_key ON namespace_grants (
    role, hashtextextended(namespace, 0)
);
COMMENT ON TABLE namespace_grants IS
    'Portfolio namespaces by database role: fund lets it see fund and fund/desk, not fundamental.';
COMMENT ON COLUMN namespace_grants.role IS 'Database role; its members have the grant too.';
COMMENT ON COLUMN namespace_grants.namespace IS
    'Portfolio namespace that it sees, with all below it; empty for every one.';
INSERT INTO namespace_grants (role, namespace) VALUES ('fillpath_dashboards', '');
GRANT SELECT ON namespace_grants TO PUBLIC;
ALTER TABLE namespace_grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_grants ON namespace_grants FOR SELECT USING (
    EXISTS (
        SELECT FROM pg_catalog.pg_roles AS known
        WHERE known.rolname = role AND pg_catalog.pg_has_role(known.oid, 'USAGE')
    )
);

-- The body is bound to this very table: a role that makes one of the same name for itself gains nothing.
CREATE FUNCTION visible_namespaces() RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(array_agg(namespace), '{}') FROM namespace_grants);
COMMENT ON FUNCTION visible_namespaces IS 'What the current role is granted.';

-- No pattern is made of a name: it may hold whatever LIKE would take for one.
CREATE FUNCTION is_within(portfolio text, namespaces text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (
    SELECT FROM unnest(namespaces) AS given (namespace)
    WHERE given.namespace = ''
        OR portfolio = given.namespace
        OR starts_with(portfolio, given.namespace || '/')
);
COMMENT ON FUNCTION is_within IS 'Whether a portfolio is one of the namespaces, or below one.';

-- These find the tables that they were made beside, and nobody's temporary ones before them.
DO $$
DECLARE
    named text;
BEGIN
    FOREACH named IN ARRAY ARRAY[
        'name_month_of_run()', 'make_month(text, date)', 'refuse_slices_without_run()',
        'delete_slices_of_run()'
    ] LOOP
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path = %s, pg_temp', named, current_setting('search_path')
        );
    END LOOP;
END
$$;

ALTER TABLE runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_namespace ON runs FOR SELECT USING (
    is_within('', (SELECT visible_namespaces()))
    OR (
        cardinality(portfolios) > 0
        AND NOT EXISTS (
            SELECT FROM unnest(portfolios) AS named (portfolio)
            WHERE NOT is_within(named.portfolio, (SELECT visible_namespaces()))
        )
    )
);
ALTER TABLE load_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_run ON load_log FOR SELECT USING (
    EXISTS (SELECT FROM runs WHERE runs.run_id = load_log.run_id)
);
ALTER TABLE result_cache ENABLE ROW LEVEL SECURITY;

-- Rows for all of a run (an empty portfolio) are for those who see all of it.
DO $$
DECLARE
    whole text;
BEGIN
    FOREACH whole IN ARRAY ARRAY[
        'completeness', 'orders', 'fills', 'trades', 'pnl_slices', 'balances', 'reconciliation',
        'equity', 'latency', 'signals', 'pnl_rollups', 'executions', 'signal_strength',
        'signal_decay', 'funnel', 'regimes', 'latency_histograms', 'daily_returns', 'figures'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', whole);
        EXECUTE format(
            'CREATE POLICY by_namespace ON %1$I FOR SELECT USING ('
            'is_within(portfolio, (SELECT visible_namespaces())) OR ('
            'portfolio = '''' AND EXISTS (SELECT FROM runs WHERE runs.run_id = %1$I.run_id)))',
            whole
        );
    END LOOP;
END
$$;
