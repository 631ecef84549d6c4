-- One chain by its name, from the files that can hold it: `FROM chain('4bf92f3577b34da6a3ce929d0e0e4736')`.
-- What a name of a chain is made of is known before the query runs, so DuckDB opens these files only.

-- A trace id without the dashes of a UUID; NULL when it is the host's own word.
CREATE MACRO trace_hex(id) AS
    nullif(regexp_extract(replace(lower(id), '-', ''), '^[0-9a-f]{32}$'), '');

-- The files of the run that the id names in which a chain of this root can have events.
CREATE MACRO chain_files(hex) AS
    list_transform(
        list_filter(
            coalesce(getvariable('chain_files'), []),
            lambda file: file.run_key = left(hex, 22)
                AND CAST('0x' || right(hex, 10) AS BIGINT) BETWEEN file.first AND file.last
        ),
        lambda file: file.path
    );

-- The files of several runs, of which it is not known whose chains they hold.
CREATE MACRO shared_files() AS
    list_transform(
        list_filter(coalesce(getvariable('chain_files'), []), lambda file: file.run_key IS NULL),
        lambda file: file.path
    );

CREATE MACRO may_hold_chain(path, hex) AS
    hex IS NULL
    OR len(chain_files(hex)) = 0
    OR list_contains(list_concat(chain_files(hex), shared_files()), path);

CREATE MACRO is_of_chain(trace_id, correlation_id, id) AS
    CASE
        WHEN trace_hex(id) IS NULL THEN correlation_id = id
        ELSE trace_id = unhex(trace_hex(id))
    END;
