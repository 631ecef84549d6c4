-- What the fills of a run were worth, by portfolio and currency: price times quantity times
-- multiplier, and for an inverse contract quantity times multiplier over price. Runs on DuckDB.
SELECT
    portfolio,
    CASE
        WHEN attributes ->> $is_inverse = 'true'
            THEN coalesce(attributes ->> $base_currency, currency, '')
        ELSE coalesce(currency, '')
    END AS notional_currency,
    -- Compensated, so that it comes to the same in whatever order the rows are read.
    fsum(
        CAST(quantity AS DOUBLE)
        * coalesce(try_cast(attributes ->> $multiplier AS DOUBLE), 1)
        * CASE
            WHEN attributes ->> $is_inverse = 'true' THEN 1 / nullif(CAST(price AS DOUBLE), 0)
            ELSE CAST(price AS DOUBLE)
        END
    ) AS notional
FROM spans
WHERE run_id = $run_id
  AND span_kind <> 'CONSUMER'
  AND event_type = 'FILL'
  AND side IN ('BUY', 'SELL')
GROUP BY ALL
