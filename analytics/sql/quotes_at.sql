-- The last quoted price of an instrument at given moments of a run. Runs on DuckDB, with the
-- moments in the relation `moments` (portfolio, symbol, venue, sequence).
WITH quotes AS (
    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        sequence,
        coalesce(CAST(price AS VARCHAR), attributes ->> $trade_price) AS price,
        attributes ->> $bid AS bid,
        attributes ->> $ask AS ask
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IN (SELECT DISTINCT symbol FROM moments)
)

SELECT
    moments.portfolio,
    moments.symbol,
    moments.venue,
    moments.sequence,
    quotes.price,
    quotes.bid,
    quotes.ask
FROM moments
ASOF JOIN (
    SELECT *
    FROM quotes
    WHERE price IS NOT NULL OR (bid IS NOT NULL AND ask IS NOT NULL)
) AS quotes
    ON moments.portfolio = quotes.portfolio
    AND moments.symbol = quotes.symbol
    AND moments.venue = quotes.venue
    AND moments.sequence >= quotes.sequence
