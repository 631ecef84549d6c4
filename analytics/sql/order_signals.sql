-- The signal that each order came from. Runs on DuckDB, with the table `order_causes`.
SELECT
    portfolio,
    client_order_id,
    coalesce(signal_name, signal_value) AS signal
FROM order_causes
WHERE coalesce(signal_name, signal_value) IS NOT NULL
