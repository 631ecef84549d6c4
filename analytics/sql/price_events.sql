-- Every price of a run, one row a feed: all bars of one type, all trades or all quotes of an
-- instrument at a venue. Reads `raw_spans`, because putting attributes together takes microseconds a
-- span, and there may be millions of bars. Runs on DuckDB.
WITH prices AS (
    SELECT
        coalesce(portfolio, $default_portfolio) AS portfolio,
        symbol,
        venue,
        event_type,
        CASE
            WHEN event_type = 'BAR' THEN attributes ->> $bar_type
            WHEN price IS NULL THEN 'quotes'
            ELSE 'trades'
        END AS feed,
        sequence,
        event_time,
        coalesce(price, (bid + ask) / 2) AS price,
        coalesce(sampling_reason, 'all') <> 'all' OR (attributes ->> $summary_count) IS NOT NULL
            AS is_thinned
    FROM raw_spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IS NOT NULL
)

SELECT
    portfolio,
    symbol,
    venue,
    event_type,
    feed,
    bool_or(is_thinned) AS is_thinned,
    list(
        {
            'sequence': sequence,
            'event_time': coalesce(event_time, -1),
            'price': CAST(price AS DOUBLE)
        }
        ORDER BY sequence
    ) AS events
FROM prices
WHERE price IS NOT NULL
GROUP BY portfolio, symbol, venue, event_type, feed
ORDER BY min(sequence)
