-- The last price of each interval in which a lot was open: of its instrument, after the entry and
-- before the last exit. Runs on DuckDB, with `day_marks` and the relation `lot_spans`.
WITH marks AS (
    SELECT
        portfolio,
        symbol,
        venue,
        max(sequence) AS sequence,
        arg_max(mark, sequence) AS mark
    FROM day_marks
    GROUP BY portfolio, symbol, venue, date_trunc($unit, day)
)

SELECT
    lot_spans.lot,
    marks.sequence,
    marks.mark.event_time,
    marks.mark.trace_id,
    marks.mark.span_id,
    marks.mark.price,
    marks.mark.bid,
    marks.mark.ask
FROM lot_spans
JOIN marks
    ON marks.portfolio = lot_spans.portfolio
    AND marks.symbol = lot_spans.symbol
    AND marks.venue = lot_spans.venue
    AND marks.sequence > lot_spans.first
    AND marks.sequence < lot_spans.last
ORDER BY lot_spans.lot, marks.sequence
