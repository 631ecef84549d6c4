-- What the ledger reads of one run, in the order in which it happened. Runs on DuckDB.
SELECT
    event_type,
    sequence,
    portfolio,
    event_time,
    trace_id,
    span_id,
    strategy,
    symbol,
    venue,
    client_order_id,
    fill_id,
    position_id,
    side,
    coalesce(side, attributes ->> $told_side) AS told_side,
    quantity,
    price,
    commission,
    currency,
    attributes ->> $commission_currency AS commission_currency,
    attributes ->> $multiplier AS multiplier,
    attributes ->> $settlement_currency AS settlement_currency,
    attributes ->> $valuation_method AS valuation_method,
    attributes ->> $is_inverse AS is_inverse,
    attributes ->> $base_currency AS base_currency,
    attributes ->> $order_reason AS order_reason,
    coalesce(
        attributes ->> $account_id,
        attributes ->> ('$."trading.' || lower(event_type) || '.account_id"'),
        attributes ->> ('$."trading.' || lower(event_type) || '.account"')
    ) AS account_id,
    attributes ->> $position_side AS position_side,
    attributes ->> $position_quantity AS position_quantity,
    attributes ->> $realized_pnl AS realized_pnl,
    attributes ->> $position_currency AS position_currency,
    attributes ->> $account_type AS account_type,
    attributes ->> $account_base_currency AS account_base_currency,
    CAST(attributes -> $balances AS VARCHAR) AS balances,
    attributes ->> $unrealized AS unrealized,
    coalesce(
        CAST(attributes -> $contributions AS VARCHAR),
        CAST(attributes -> '$."trading.fill.contributions"' AS VARCHAR)
    ) AS contributions,
    attributes ->> $fill_quantity AS fill_quantity,
    attributes ->> $fill_price AS fill_price,
    attributes ->> $fill_commission AS fill_commission,
    attributes ->> $flow_type AS flow_type,
    coalesce(
        attributes ->> $flow_amount,
        attributes ->> ('$."trading.' || lower(event_type) || '.amount"')
    ) AS flow_amount,
    attributes ->> $flow_currency AS flow_currency,
    attributes ->> $action_ratio AS action_ratio
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND (
      event_type IN (
          'FILL', 'POSITION_OPEN', 'POSITION_CHANGE', 'POSITION_CLOSE', 'PORTFOLIO',
          'CASH_FLOW', 'CORPORATE_ACTION', 'DIVIDEND', 'INTEREST', 'FUNDING', 'FEE', 'DEPOSIT', 'WITHDRAWAL'
      )
      OR (event_type = 'ORDER' AND (attributes -> $contributions) IS NOT NULL)
  )
ORDER BY sequence
