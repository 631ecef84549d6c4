-- Where the links of a run's events lead, one a row; a link to the cause itself, where a trace was
-- divided, says nothing new. Runs on DuckDB.
SELECT hash(span_id) AS span, hash(link.span_id) AS target
FROM (
    SELECT span_id, parent_span_id, unnest(links) AS link
    FROM raw_spans
    WHERE run_id = $run_id AND links IS NOT NULL
)
WHERE link.span_id <> coalesce(parent_span_id, '')
