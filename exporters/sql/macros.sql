-- Numbers of a span become attributes again, digit by digit. A macro's argument is written out
-- wherever it stands, so each stands once where that can be had.

-- A number as JSON: `kind` and `scale` as in the layout, `digits` those that the double lacks. A
-- double stands for at most 15 digits of a decimal, which are found again by rounding to its scale.
CREATE MACRO json_of_number(number, kind, scale, digits) AS
    CASE
        WHEN digits IS NOT NULL THEN
            CASE WHEN kind = 'integer' THEN digits ELSE CAST(to_json(digits) AS VARCHAR) END
        WHEN kind = 'decimal' THEN format('"{:.{}f}"', number, scale)
        WHEN kind = 'integer' THEN format('{:.0f}', number)
        WHEN kind = 'boolean' THEN CASE WHEN number = 1 THEN 'true' ELSE 'false' END
        WHEN isfinite(number) THEN CAST(to_json(number) AS VARCHAR)
        WHEN isnan(number) THEN '"NaN"'
        WHEN number > 0 THEN '"Infinity"'
        ELSE '"-Infinity"'
    END;

-- Members of a JSON object (or '') and another object (or NULL), of different keys, as one.
CREATE MACRO joined_object(members, object) AS
    '{' || concat_ws(',', nullif(members, ''), nullif(substr(object, 2, length(object) - 2), '')) || '}';

-- The numbers of a row that its attributes show, as members of a JSON object. Money has columns of
-- its own in the view, so of it only these are shown here, too (schema.REPEATED_ATTRIBUTES).
CREATE MACRO members_of_numbers(
    layout, exact_numbers, quantity, price, commission, open, high, low, bid, ask, bid_size, ask_size,
    strength, value_1, value_2, value_3, value_4, value_5
) AS
    array_to_string([
        CAST(to_json(entry.key) AS VARCHAR)
            || ':' || json_of_number(entry.number, entry.kind, entry.scale, entry.digits)
        FOR entry IN [
            {
                'key': part[1],
                'kind': part[3],
                'scale': CAST(part[4] AS INTEGER),
                'digits': json_extract_string(exact_numbers, part[2]),
                'number': CASE part[2]
                    WHEN 'quantity' THEN quantity
                    WHEN 'price' THEN price
                    WHEN 'commission' THEN commission
                    WHEN 'open' THEN open
                    WHEN 'high' THEN high
                    WHEN 'low' THEN low
                    WHEN 'bid' THEN bid
                    WHEN 'ask' THEN ask
                    WHEN 'bid_size' THEN bid_size
                    WHEN 'ask_size' THEN ask_size
                    WHEN 'strength' THEN strength
                    WHEN 'value_1' THEN value_1
                    WHEN 'value_2' THEN value_2
                    WHEN 'value_3' THEN value_3
                    WHEN 'value_4' THEN value_4
                    WHEN 'value_5' THEN value_5
                END
            }
            FOR part IN from_json(layout, '[["VARCHAR"]]')
            IF part[2] NOT IN ('quantity', 'price', 'commission')
                OR part[1] IN (
                    'trading.bar.close',
                    'trading.bar.volume',
                    'trading.tick.price',
                    'trading.tick.size',
                    'trading.order.trigger_price'
                )
        ]
    ], ',');
