-- How long each hop took in a run. Runs on Postgres.
SELECT portfolio, hop, count, p50, p90, p99, max, slowest_trace_id
FROM latency
WHERE run_id = %(run_id)s AND breakdown = 'hop'
ORDER BY portfolio, hop
