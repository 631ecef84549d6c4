-- What the orders of a run cost: all of a currency, and by strategy, by order type and by instrument.
-- `by` says which, by the column that is named. Only orders whose shortfall is known are in the amounts;
-- where the arrival price is unknown, all that was paid over the decision is impact. Runs on Postgres.
SELECT
    currency,
    CASE
        WHEN GROUPING(strategy) = 0 THEN 'strategy'
        WHEN GROUPING(order_type) = 0 THEN 'order_type'
        WHEN GROUPING(symbol) = 0 THEN 'symbol'
    END AS by,
    portfolio,
    strategy,
    order_type,
    symbol,
    venue,
    count(*) AS orders,
    count(*) FILTER (WHERE filled_quantity <> 0) AS filled,
    count(*) FILTER (WHERE shortfall IS NULL) AS unknown,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY slippage) AS slippage,
    coalesce(sum(delay_cost) FILTER (WHERE shortfall IS NOT NULL), 0) AS delay,
    coalesce(
        sum(coalesce(impact_cost, shortfall - commission - opportunity_cost))
            FILTER (WHERE shortfall IS NOT NULL),
        0
    ) AS impact,
    coalesce(sum(commission) FILTER (WHERE shortfall IS NOT NULL), 0) AS commission,
    coalesce(sum(opportunity_cost) FILTER (WHERE shortfall IS NOT NULL), 0) AS opportunity,
    coalesce(sum(shortfall), 0) AS shortfall,
    (array_agg(trace_id ORDER BY shortfall DESC, sequence) FILTER (WHERE shortfall IS NOT NULL))[1]
        AS trace_id
FROM (
    SELECT
        coalesce(currency, '') AS currency,
        portfolio,
        coalesce(strategy, '') AS strategy,
        coalesce(order_type, '') AS order_type,
        coalesce(symbol, '') AS symbol,
        coalesce(venue, '') AS venue,
        filled_quantity,
        slippage,
        delay_cost,
        impact_cost,
        commission,
        opportunity_cost,
        shortfall,
        sequence,
        trace_id
    FROM executions
    WHERE run_id = %(run_id)s
) AS named
GROUP BY GROUPING SETS (
    (currency), (currency, portfolio, strategy), (currency, order_type), (currency, symbol, venue)
)
