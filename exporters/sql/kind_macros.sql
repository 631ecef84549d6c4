-- What the views of single kinds of events have in common.

-- An attribute as text; NULL when it is absent. The key is one of ours, without quotes.
CREATE MACRO attribute_text(attributes, key) AS
    json_extract_string(attributes, '$."' || key || '"');

-- A number that lies in a column of doubles, or among the attributes when it does not fit there.
-- A double that stands for up to 15 digits prints as these digits.
CREATE MACRO exact_number(name, number, exact_numbers, key, attributes) AS
    TRY_CAST(
        coalesce(
            json_extract_string(exact_numbers, name),
            CAST(number AS VARCHAR),
            attribute_text(attributes, key)
        )
        AS exact
    );
