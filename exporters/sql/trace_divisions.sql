-- Where a trace was divided: the trace that its first event began, and the one its cause is in.
CREATE VIEW trace_divisions AS
SELECT run_id, lower(hex(trace_id)) AS trace_id, lower(hex(link.trace_id)) AS cause_trace_id
FROM (
    SELECT run_id, trace_id, parent_span_id, unnest(links) AS link
    FROM raw_spans
    WHERE root_sequence = sequence AND parent_span_id IS NOT NULL AND links IS NOT NULL
)
WHERE link.span_id = parent_span_id AND link.trace_id <> trace_id;
