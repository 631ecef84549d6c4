-- Every run that is loaded, the newest first. Runs on Postgres.
SELECT
    run_id,
    mode,
    status,
    service_name,
    engine,
    engine_version,
    started_at,
    ended_at,
    parameters,
    published,
    kept,
    sampled_out,
    dropped,
    code_version,
    seed,
    data_from,
    data_to,
    portfolios,
    backtests
FROM runs
ORDER BY started_at DESC NULLS LAST, run_id DESC
