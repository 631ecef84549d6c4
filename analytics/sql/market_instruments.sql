-- Which market data every instrument with orders is priced by: a row for each of its sources, and
-- `feed`, the number of the set of them. The instrument's own portfolio goes before others, since
-- portfolios of one run may see different markets; a venue that is not told may be any. Runs on
-- DuckDB.
CREATE OR REPLACE TEMPORARY TABLE market_instruments AS
WITH wanted AS (
    SELECT DISTINCT portfolio, symbol, coalesce(venue, '') AS venue
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('ORDER', 'FILL')
      AND symbol IS NOT NULL
),

sources AS (
    SELECT DISTINCT portfolio, symbol, coalesce(venue, '') AS venue
    FROM spans
    WHERE run_id = $run_id
      AND span_kind <> 'CONSUMER'
      AND event_type IN ('BAR', 'TICK')
      AND symbol IN (SELECT symbol FROM wanted)
),

nearest AS (
    SELECT
        wanted.*,
        sources.portfolio AS source_portfolio,
        sources.venue AS source_venue
    FROM wanted
    JOIN sources
        ON sources.symbol = wanted.symbol
        AND (sources.venue = wanted.venue OR sources.venue = '' OR wanted.venue = '')
    QUALIFY rank() OVER (
        PARTITION BY wanted.portfolio, wanted.symbol, wanted.venue
        ORDER BY sources.portfolio <> wanted.portfolio, sources.venue <> wanted.venue
    ) = 1
),

sets AS (
    SELECT
        *,
        list({'portfolio': source_portfolio, 'symbol': symbol, 'venue': source_venue} ORDER BY
            source_portfolio, source_venue) OVER (PARTITION BY portfolio, symbol, venue) AS sources
    FROM nearest
)

SELECT * EXCLUDE (sources), dense_rank() OVER (ORDER BY sources) AS feed
FROM sets
