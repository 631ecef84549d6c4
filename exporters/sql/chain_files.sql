-- What the log tells of the files, for the macro `chain`.
SET VARIABLE chain_files = (
    SELECT list({'path': path, 'run_key': run_key, 'first': first, 'last': last})
    FROM (
        SELECT
            unnest($paths::VARCHAR[]) AS path,
            unnest($keys::VARCHAR[]) AS run_key,
            unnest($firsts::BIGINT[]) AS first,
            unnest($lasts::BIGINT[]) AS last
    )
)
