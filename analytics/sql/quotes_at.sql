-- The last quoted price of an instrument at given moments of a run. Runs on DuckDB, with the
-- moments in the relation `moments` (number, portfolio, symbol, venue, sequence).
SELECT moments.number, quotes.price, quotes.bid, quotes.ask
FROM moments
ASOF JOIN (
    SELECT *
    FROM quoted_prices($run_id, $trade_price, $bid, $ask)
    WHERE symbol IN (SELECT DISTINCT symbol FROM moments)
) AS quotes
    ON moments.portfolio = quotes.portfolio
    AND moments.symbol = quotes.symbol
    AND moments.venue = quotes.venue
    AND moments.sequence >= quotes.sequence
