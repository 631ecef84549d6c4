-- Accounts as the engine reports them: a row for each currency each time one changed. An account
-- that names no balances has one row without a currency.
CREATE VIEW accounts AS
SELECT
    run_id,
    portfolio,
    sequence,
    event_time,
    account_id,
    account_type,
    base_currency,
    balance ->> '$.currency' AS currency,
    TRY_CAST(balance ->> '$.total' AS exact) AS total,
    TRY_CAST(balance ->> '$.free' AS exact) AS free,
    TRY_CAST(balance ->> '$.locked' AS exact) AS locked,
    trace_id,
    span_id,
    parent_span_id
FROM (
    SELECT
        *,
        attribute_text(attributes, 'trading.account.id') AS account_id,
        attribute_text(attributes, 'trading.account.type') AS account_type,
        attribute_text(attributes, 'trading.account.base_currency') AS base_currency,
        unnest(
            coalesce(
                nullif(
                    TRY_CAST(json_extract(attributes, '$."trading.account.balances"') AS JSON[]), []
                ),
                [NULL]
            )
        ) AS balance
    FROM spans
    WHERE event_type = 'PORTFOLIO'
)
