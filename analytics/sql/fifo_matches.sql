-- First in, first out by overlapping intervals, in place of a queue: in a book, the n-th unit that
-- was bought belongs to the n-th unit that was sold, and whichever came first is the entry. Runs on
-- DuckDB, with the legs in the relation `fifo_legs` (book, number, sign, quantity in whole steps).
WITH intervals AS (
    SELECT
        book,
        number,
        sign,
        coalesce(
            sum(quantity) OVER (
                PARTITION BY book, sign
                ORDER BY number
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ),
            0
        ) AS low,
        sum(quantity) OVER (PARTITION BY book, sign ORDER BY number) AS high
    FROM fifo_legs
)

SELECT
    least(bought.number, sold.number) AS entry,
    greatest(bought.number, sold.number) AS exit,
    CAST(least(bought.high, sold.high) - greatest(bought.low, sold.low) AS VARCHAR) AS quantity
FROM intervals AS bought
JOIN intervals AS sold
    ON sold.book = bought.book
    AND sold.low < bought.high
    AND bought.low < sold.high
WHERE bought.sign = 1
  AND sold.sign = -1
ORDER BY exit, entry
