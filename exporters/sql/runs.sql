-- The newest row of every run.
CREATE VIEW runs AS
SELECT
    run_id,
    mode,
    status,
    service_name,
    engine,
    engine_version,
    started_at,
    ended_at,
    CAST(parameters AS JSON) AS parameters,
    published,
    kept,
    sampled_out,
    dropped,
    CAST(completeness AS JSON) AS completeness,
    error,
    updated_at,
    CAST(metadata AS JSON) AS metadata,
    source,
    spool_block,
    host_name,
    pid
FROM raw_runs
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY updated_at DESC) = 1
