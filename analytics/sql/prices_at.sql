-- The last price of the market at given moments of a run, doubled. Runs on DuckDB, with the moments in
-- the relation `moments` (portfolio, symbol, venue, sequence) and the table `market_prices`.
WITH asked AS (
    SELECT DISTINCT moments.*, market_instruments.feed
    FROM moments
    JOIN market_instruments USING (portfolio, symbol, venue)
)

SELECT asked.portfolio, asked.symbol, asked.venue, asked.sequence, market_prices.twice
FROM asked
ASOF JOIN market_prices
    ON asked.feed = market_prices.feed
    AND asked.sequence >= market_prices.sequence
