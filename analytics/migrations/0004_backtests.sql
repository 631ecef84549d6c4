-- A run may hold several backtests of one strategy: a loop over parameters in one process.

ALTER TABLE runs ADD backtests jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN runs.backtests IS
    'The backtests of a run that holds several comparable ones: a list of their portfolios and the parameters of each; else empty.';
