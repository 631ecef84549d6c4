-- The trading events of a run as a table, and a view `spans` that takes them from there. Runs on DuckDB;
-- `$run_id` is written out, because a view has no parameters.
CREATE OR REPLACE TEMPORARY TABLE trading_events AS
SELECT *
FROM memory.main.spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type IN (
      'SIGNAL', 'COMMAND', 'ORDER', 'FILL', 'POSITION_OPEN', 'POSITION_CHANGE', 'POSITION_CLOSE',
      'PORTFOLIO'
  );

CREATE TEMPORARY VIEW spans AS
SELECT * FROM trading_events

UNION ALL

SELECT *
FROM memory.main.spans
WHERE coalesce(
    run_id <> $run_id
    OR span_kind = 'CONSUMER'
    OR event_type NOT IN (
        'SIGNAL', 'COMMAND', 'ORDER', 'FILL', 'POSITION_OPEN', 'POSITION_CHANGE', 'POSITION_CLOSE',
        'PORTFOLIO'
    ),
    true
);
