-- Every price that the market told of the instruments in `market_instruments`, by feed and in the
-- order of the events: close of a bar, price of a trade, or the middle of a quote. All are doubled,
-- so that the middle has no more digits than its sides. A bar's interval begins where the one before
-- it in its series ended. Runs on DuckDB, with the views `bars` and `ticks`.
CREATE OR REPLACE TEMPORARY TABLE market_prices AS
WITH told AS (
    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        sequence,
        event_time,
        true AS is_bar,
        coalesce(bar_type, '') AS bar_type,
        close + close AS twice,
        greatest(close + close, high + high) AS twice_high,
        least(close + close, low + low) AS twice_low
    FROM bars
    WHERE run_id = $run_id
      AND symbol IN (SELECT symbol FROM market_instruments)
      AND close IS NOT NULL

    UNION ALL

    SELECT
        portfolio,
        symbol,
        coalesce(venue, '') AS venue,
        sequence,
        event_time,
        false AS is_bar,
        '' AS bar_type,
        coalesce(price + price, bid + ask) AS twice,
        twice AS twice_high,
        twice AS twice_low
    FROM ticks
    WHERE run_id = $run_id
      AND symbol IN (SELECT symbol FROM market_instruments)
      AND coalesce(price, bid + ask) IS NOT NULL
),

feeds AS (
    SELECT DISTINCT feed, source_portfolio AS portfolio, symbol, source_venue AS venue
    FROM market_instruments
),

series AS (
    SELECT *, row_number() OVER (ORDER BY feed, is_bar, bar_type) AS series
    FROM (
        SELECT DISTINCT feeds.feed, told.is_bar, told.bar_type
        FROM told
        JOIN feeds USING (portfolio, symbol, venue)
    )
)

SELECT
    series.series,
    series.feed,
    series.is_bar,
    told.sequence,
    told.event_time,
    told.twice,
    told.twice_high,
    told.twice_low,
    lag(told.event_time) OVER (PARTITION BY series.series ORDER BY told.sequence) AS begins
FROM told
JOIN feeds USING (portfolio, symbol, venue)
JOIN series USING (feed, is_bar, bar_type)
