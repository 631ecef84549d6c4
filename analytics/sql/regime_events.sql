-- What the host itself says about the character of the market. Its name is an attribute of the
-- conventions, or the host's own word for it. Runs on DuckDB.
SELECT
    coalesce(portfolio, $default_portfolio) AS portfolio,
    symbol,
    sequence,
    event_time,
    coalesce(
        attributes ->> $regime_name,
        list_filter(
            [
                attributes ->> ('$."trading.' || lower(event_type) || '.' || word || '"')
                FOR word IN $words
            ],
            lambda said: said IS NOT NULL
        )[1],
        status
    ) AS name,
    trace_id,
    span_id
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type IN ('REGIME_CHANGE', 'CLASSIFICATION')
ORDER BY sequence
