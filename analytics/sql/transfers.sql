-- Money that was paid into accounts or out of them, by day: no profit. A host may also publish an
-- event of the kind DEPOSIT or WITHDRAWAL with an amount. Runs on DuckDB.
SELECT
    portfolio,
    sequence,
    event_time,
    upper(CASE event_type WHEN 'CASH_FLOW' THEN attributes ->> $type ELSE event_type END) AS kind,
    coalesce(
        attributes ->> $amount,
        attributes ->> '$."trading.deposit.amount"',
        attributes ->> '$."trading.withdrawal.amount"'
    ) AS amount,
    coalesce(
        attributes ->> $currency,
        attributes ->> '$."trading.deposit.currency"',
        attributes ->> '$."trading.withdrawal.currency"',
        currency
    ) AS currency
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type IN ('CASH_FLOW', 'DEPOSIT', 'WITHDRAWAL')
ORDER BY sequence
