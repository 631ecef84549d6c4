-- The highest and the lowest price of the market between two fills, doubled, for many such spans at
-- once. Runs on DuckDB, with the spans in the relation `holdings` (number, portfolio, symbol, venue,
-- and of both fills sequence, time and the sequence of their order's first event; an end that is not
-- reached yet is NULL) and the table `market_prices`.
--
-- A tick counts between both fills. A bar counts with its high and low if all of its interval lies
-- between them. One that a fill lies in counts with its close alone, after an entry, and not at all
-- before an exit: nobody can tell which of its prices came first. A fill lies in the bar before it if
-- its order was waiting when the bar came and the fill's time is not later; and in the bar after it
-- if its time is later than the interval's beginning, or there is no telling.
WITH spans_of_series AS (
    SELECT DISTINCT holdings.*, series.series, series.is_bar
    FROM holdings
    JOIN market_instruments USING (portfolio, symbol, venue)
    JOIN (SELECT DISTINCT feed, series, is_bar FROM market_prices) AS series USING (feed)
),

-- The bars around both fills.
around AS (
    SELECT
        one.*,
        before.sequence AS before_sequence,
        before.event_time AS before_time,
        before.twice AS before_twice,
        next.sequence AS next_sequence,
        next.begins AS next_begins,
        next.twice AS next_twice,
        last.sequence AS last_sequence,
        last.event_time AS last_time
    FROM spans_of_series AS one
    ASOF LEFT JOIN market_prices AS before
        ON one.series = before.series AND one.begin_sequence > before.sequence
    ASOF LEFT JOIN market_prices AS next
        ON one.series = next.series AND one.begin_sequence < next.sequence
    ASOF LEFT JOIN market_prices AS last
        ON one.series = last.series AND coalesce(one.end_sequence, $endless) > last.sequence
),

judged AS (
    SELECT
        *,
        is_bar
            AND before_sequence > coalesce(begin_order, -1)
            AND coalesce(begin_time <= before_time, true) AS begins_in_before,
        is_bar AND coalesce(begin_time > next_begins, true) AS begins_in_next,
        is_bar
            AND end_sequence IS NOT NULL
            AND last_sequence > coalesce(end_order, -1)
            AND coalesce(end_time <= last_time, true) AS ends_in_last
    FROM around
),

frames AS (
    SELECT
        *,
        CASE WHEN begins_in_next THEN next_sequence + 1 ELSE begin_sequence + 1 END AS first,
        CASE WHEN ends_in_last THEN last_sequence - 1
            ELSE coalesce(end_sequence, $endless) - 1 END AS final
    FROM judged
),

-- A window finds the extremes of any stretch of a series without going through it.
stretches AS (
    SELECT
        number,
        max(twice_high) OVER stretch AS highest,
        min(twice_low) OVER stretch AS lowest
    FROM (
        SELECT
            series, sequence, sequence AS first, twice_high, twice_low, CAST(NULL AS BIGINT) AS number
        FROM market_prices
        WHERE series IN (SELECT series FROM spans_of_series)

        UNION ALL

        SELECT series, final, first, NULL, NULL, number
        FROM frames
        WHERE first <= final
    )
    WINDOW stretch AS (
        PARTITION BY series ORDER BY sequence
        RANGE BETWEEN (sequence - first) PRECEDING AND CURRENT ROW
    )
    QUALIFY number IS NOT NULL
),

found AS (
    SELECT number, highest, lowest FROM stretches

    UNION ALL

    SELECT number, before_twice, before_twice
    FROM frames
    WHERE begins_in_before AND before_sequence <= final

    UNION ALL

    SELECT number, next_twice, next_twice
    FROM frames
    WHERE begins_in_next AND next_sequence <= final
)

SELECT number, max(highest) AS highest, min(lowest) AS lowest
FROM found
WHERE highest IS NOT NULL
GROUP BY number
