-- What the views of single kinds of events have in common.

-- An attribute as text; NULL when it is absent. The key is one of ours, without quotes.
CREATE MACRO attribute_text(attributes, key) AS
    json_extract_string(attributes, '$."' || key || '"');

-- An attribute as text when it can be a number: no bytes, whose hex digits may look like one.
CREATE MACRO numeral_text(attributes, key) AS
    CASE
        WHEN NOT coalesce(
            json_contains(
                json_extract(attributes, '$."trading.event.replaced_fields"'), to_json(key)
            ),
            false
        ) THEN attribute_text(attributes, key)
    END;

-- A number among the attributes.
CREATE MACRO attribute_number(attributes, key) AS
    TRY_CAST(numeral_text(attributes, key) AS exact);

-- A number that lies in a column of doubles, or among the attributes when it does not fit there. The
-- column holds what is true or false as well, and the layout says so; that is no number.
-- A double that stands for up to 15 digits prints as these digits.
CREATE MACRO exact_number(name, number, exact_numbers, layout, key, attributes) AS
    TRY_CAST(
        coalesce(
            json_extract_string(exact_numbers, name),
            CASE
                WHEN NOT coalesce(contains(layout, '"' || name || '","boolean"'), false)
                    THEN CAST(number AS VARCHAR)
            END,
            numeral_text(attributes, key)
        )
        AS exact
    );
