-- Results of runs. Amounts and prices are numeric without a scale: the digits the engine gave.
-- Names from outside (strategies, ids) may be of any length and content, so no b-tree holds them:
-- its rows must not pass 2,704 bytes.

CREATE TABLE runs (
    run_id text PRIMARY KEY,
    mode text,
    status text,
    service_name text,
    engine text,
    engine_version text,
    started_at bigint,
    ended_at bigint,
    parameters jsonb NOT NULL DEFAULT '{}',
    published bigint,
    kept bigint,
    sampled_out bigint,
    dropped bigint
);
COMMENT ON TABLE runs IS
    'One backtest or one live session.';
COMMENT ON COLUMN runs.run_id IS 'Name of the run.';
COMMENT ON COLUMN runs.mode IS 'backtest or live.';
COMMENT ON COLUMN runs.status IS 'Running, Ended or Crashed.';
COMMENT ON COLUMN runs.service_name IS 'OpenTelemetry''s service.name of the process.';
COMMENT ON COLUMN runs.engine IS 'Trading engine, such as nautilus_trader.';
COMMENT ON COLUMN runs.engine_version IS 'Version of the engine.';
COMMENT ON COLUMN runs.started_at IS 'Wall clock at the start, nanoseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN runs.ended_at IS
    'Wall clock at the end, nanoseconds since 1970-01-01 UTC; NULL if it did not end.';
COMMENT ON COLUMN runs.parameters IS 'What the run was started with.';
COMMENT ON COLUMN runs.published IS 'Events the engine published.';
COMMENT ON COLUMN runs.kept IS 'Events in the lake.';
COMMENT ON COLUMN runs.sampled_out IS 'Events the sampling policy left out.';
COMMENT ON COLUMN runs.dropped IS 'Events lost, for the reasons in completeness.';

CREATE TABLE completeness (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    event_type text NOT NULL,
    published bigint NOT NULL,
    kept bigint NOT NULL,
    sampled_out bigint NOT NULL,
    dropped bigint NOT NULL,
    dropped_by_reason jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX completeness_key ON completeness (
    run_id, shard, hashtextextended(portfolio, 0), hashtextextended(event_type, 0)
);
COMMENT ON TABLE completeness IS
    'What became of the events: published = kept + sampled_out + dropped.';
COMMENT ON COLUMN completeness.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN completeness.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN completeness.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN completeness.event_type IS 'Kind of event, such as FILL.';
COMMENT ON COLUMN completeness.published IS 'Events the engine published.';
COMMENT ON COLUMN completeness.kept IS 'Events in the lake.';
COMMENT ON COLUMN completeness.sampled_out IS 'Events the sampling policy left out.';
COMMENT ON COLUMN completeness.dropped IS 'Events lost.';
COMMENT ON COLUMN completeness.dropped_by_reason IS 'Events lost by reason; adds up to dropped.';

CREATE TABLE orders (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    sequence bigint NOT NULL,
    client_order_id text NOT NULL,
    order_id text,
    strategy text,
    symbol text,
    venue text,
    side text,
    order_type text,
    quantity numeric,
    price numeric,
    filled_quantity numeric,
    average_price numeric,
    status text,
    reject_reason text,
    event_time bigint,
    event_at timestamptz GENERATED ALWAYS AS (
        (timestamp '1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'
    ) STORED,
    trace_id text,
    span_id text,
    PRIMARY KEY (run_id, sequence),
    CONSTRAINT orders_side_known CHECK (side IN ('BUY', 'SELL'))
);
CREATE INDEX orders_client_order_id ON orders USING hash (client_order_id);
COMMENT ON TABLE orders IS
    'Orders, one row each, as they stood at the end of the shard.';
COMMENT ON COLUMN orders.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN orders.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN orders.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN orders.sequence IS 'Position in the run of the order''s first event.';
COMMENT ON COLUMN orders.client_order_id IS 'The engine''s id of the order.';
COMMENT ON COLUMN orders.order_id IS 'The venue''s id of the order; NULL if it never got there.';
COMMENT ON COLUMN orders.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN orders.symbol IS 'Instrument.';
COMMENT ON COLUMN orders.venue IS 'Venue the order was for.';
COMMENT ON COLUMN orders.side IS 'BUY or SELL.';
COMMENT ON COLUMN orders.order_type IS 'MARKET, LIMIT, STOP_MARKET…, in the engine''s words.';
COMMENT ON COLUMN orders.quantity IS 'Quantity ordered, in units of the instrument.';
COMMENT ON COLUMN orders.price IS
    'Limit or trigger price, in the instrument''s quote currency; NULL for market orders.';
COMMENT ON COLUMN orders.filled_quantity IS 'Quantity filled, in units of the instrument.';
COMMENT ON COLUMN orders.average_price IS
    'Mean price of the fills, weighted by quantity; NULL without fills.';
COMMENT ON COLUMN orders.status IS 'Last status, such as FILLED, CANCELED or DENIED.';
COMMENT ON COLUMN orders.reject_reason IS 'Why it was rejected or denied; NULL otherwise.';
COMMENT ON COLUMN orders.event_time IS
    'Simulated time of the order''s first event, nanoseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN orders.event_at IS 'event_time as a timestamp, cut to microseconds.';
COMMENT ON COLUMN orders.trace_id IS 'Trace of the order''s first event, 32 hex digits.';
COMMENT ON COLUMN orders.span_id IS 'Span of the order''s first event, 16 hex digits.';

CREATE TABLE fills (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    sequence bigint NOT NULL,
    fill_id text NOT NULL,
    client_order_id text,
    order_id text,
    position_id text,
    strategy text,
    symbol text,
    venue text,
    side text NOT NULL,
    quantity numeric NOT NULL,
    price numeric NOT NULL,
    commission numeric,
    commission_currency text,
    currency text,
    event_time bigint,
    event_at timestamptz GENERATED ALWAYS AS (
        (timestamp '1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'
    ) STORED,
    trace_id text,
    span_id text,
    PRIMARY KEY (run_id, sequence),
    CONSTRAINT fills_side_known CHECK (side IN ('BUY', 'SELL'))
);
CREATE INDEX fills_fill_id ON fills USING hash (fill_id);
CREATE INDEX fills_client_order_id ON fills USING hash (client_order_id);
COMMENT ON TABLE fills IS
    'Fills, one row each.';
COMMENT ON COLUMN fills.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN fills.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN fills.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN fills.sequence IS 'Position of the event in the run; the order of events.';
COMMENT ON COLUMN fills.fill_id IS 'The venue''s id of the fill.';
COMMENT ON COLUMN fills.client_order_id IS 'The engine''s id of the order.';
COMMENT ON COLUMN fills.order_id IS 'The venue''s id of the order.';
COMMENT ON COLUMN fills.position_id IS
    'The engine''s id of the position; netting engines use one id again and again.';
COMMENT ON COLUMN fills.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN fills.symbol IS 'Instrument.';
COMMENT ON COLUMN fills.venue IS 'Venue.';
COMMENT ON COLUMN fills.side IS 'BUY or SELL.';
COMMENT ON COLUMN fills.quantity IS 'Quantity of this fill, in units of the instrument.';
COMMENT ON COLUMN fills.price IS 'Price of this fill, in currency.';
COMMENT ON COLUMN fills.commission IS
    'Commission of this fill, in commission_currency; a cost is positive.';
COMMENT ON COLUMN fills.commission_currency IS 'Currency of the commission.';
COMMENT ON COLUMN fills.currency IS 'Currency of the price.';
COMMENT ON COLUMN fills.event_time IS
    'Simulated time of the event, nanoseconds since 1970-01-01 UTC; NULL if unknown.';
COMMENT ON COLUMN fills.event_at IS 'event_time as a timestamp, cut to microseconds.';
COMMENT ON COLUMN fills.trace_id IS 'Trace of the event, 32 hex digits.';
COMMENT ON COLUMN fills.span_id IS 'Span of the event, 16 hex digits.';

CREATE TABLE trades (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    trade_id text NOT NULL,
    entry_sequence bigint NOT NULL,
    position_id text,
    strategy text,
    symbol text,
    venue text,
    direction text NOT NULL,
    quantity numeric NOT NULL,
    open_quantity numeric NOT NULL DEFAULT 0,
    entry_time bigint,
    exit_time bigint,
    entry_price numeric,
    exit_price numeric,
    realized_pnl numeric,
    unrealized_pnl numeric,
    commission numeric,
    currency text,
    entry_trace_id text,
    entry_span_id text,
    exit_trace_id text,
    exit_span_id text,
    CONSTRAINT trades_direction_known CHECK (direction IN ('LONG', 'SHORT'))
);
CREATE UNIQUE INDEX trades_key ON trades (run_id, hashtextextended(trade_id, 0));
COMMENT ON TABLE trades IS
    'Round trips: from the fill that opens a position to the one that closes it.';
COMMENT ON COLUMN trades.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN trades.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN trades.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN trades.trade_id IS 'Name of the trade, the same in every load of the run.';
COMMENT ON COLUMN trades.entry_sequence IS 'Position in the run of the first entry fill.';
COMMENT ON COLUMN trades.position_id IS 'The engine''s id of the position.';
COMMENT ON COLUMN trades.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN trades.symbol IS 'Instrument.';
COMMENT ON COLUMN trades.venue IS 'Venue.';
COMMENT ON COLUMN trades.direction IS 'LONG or SHORT.';
COMMENT ON COLUMN trades.quantity IS
    'Quantity of all entries, in units of the instrument; positive.';
COMMENT ON COLUMN trades.open_quantity IS
    'What of it is still held, in units of the instrument; 0 once closed.';
COMMENT ON COLUMN trades.entry_time IS
    'Simulated time of the first entry fill, nanoseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN trades.exit_time IS
    'Simulated time of the fill that closed it, nanoseconds since 1970-01-01 UTC; NULL while open.';
COMMENT ON COLUMN trades.entry_price IS 'Mean entry price, weighted by quantity, in currency.';
COMMENT ON COLUMN trades.exit_price IS
    'Mean exit price, weighted by quantity, in currency; NULL while nothing is closed.';
COMMENT ON COLUMN trades.realized_pnl IS 'Realized P&L before commission, in currency.';
COMMENT ON COLUMN trades.unrealized_pnl IS
    'P&L of what is still held at the last price, in currency; NULL without one, or once closed.';
COMMENT ON COLUMN trades.commission IS
    'Commission of all its fills, as far as it is in currency; a cost is positive.';
COMMENT ON COLUMN trades.currency IS 'Currency of the amounts.';
COMMENT ON COLUMN trades.entry_trace_id IS 'Trace of the first entry fill, 32 hex digits.';
COMMENT ON COLUMN trades.entry_span_id IS 'Span of the first entry fill, 16 hex digits.';
COMMENT ON COLUMN trades.exit_trace_id IS
    'Trace of the last exit fill so far, 32 hex digits; NULL while nothing is closed.';
COMMENT ON COLUMN trades.exit_span_id IS
    'Span of the last exit fill so far, 16 hex digits; NULL while nothing is closed.';

CREATE TABLE pnl_slices (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text,
    symbol text,
    currency text NOT NULL,
    kind text NOT NULL,
    sequence bigint NOT NULL,
    event_time bigint,
    event_at timestamptz GENERATED ALWAYS AS (
        (timestamp '1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'
    ) STORED,
    amount numeric NOT NULL,
    fill_id text,
    trace_id text,
    span_id text,
    CONSTRAINT pnl_slices_kind_known CHECK (kind IN (
        'realized', 'unrealized', 'commission', 'funding', 'conversion', 'rounding',
        'reclassification'
    ))
);
CREATE INDEX pnl_slices_run ON pnl_slices (run_id, sequence);
COMMENT ON TABLE pnl_slices IS
    'The ledger: every amount of P&L once. Any breakdown of P&L is a SUM of these rows.';
COMMENT ON COLUMN pnl_slices.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN pnl_slices.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN pnl_slices.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN pnl_slices.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN pnl_slices.symbol IS 'Instrument.';
COMMENT ON COLUMN pnl_slices.currency IS 'Currency of the amount.';
COMMENT ON COLUMN pnl_slices.kind IS
    'realized: a match of an exit with its entry, before commission. unrealized: a change of '
    'the mark of what is open. commission: a fee, a cost is negative. funding: interest and '
    'financing. conversion: a change of an exchange rate. rounding: what the account''s '
    'rounding adds or takes. reclassification: moved between strategies, adds up to nothing.';
COMMENT ON COLUMN pnl_slices.sequence IS 'Position of the event in the run; the order of events.';
COMMENT ON COLUMN pnl_slices.event_time IS
    'Simulated time of the event, nanoseconds since 1970-01-01 UTC; NULL if unknown.';
COMMENT ON COLUMN pnl_slices.event_at IS 'event_time as a timestamp, cut to microseconds.';
COMMENT ON COLUMN pnl_slices.amount IS 'Amount in currency, exact; a gain is positive.';
COMMENT ON COLUMN pnl_slices.fill_id IS 'Fill that caused it; NULL if none did.';
COMMENT ON COLUMN pnl_slices.trace_id IS 'Trace of the event, 32 hex digits.';
COMMENT ON COLUMN pnl_slices.span_id IS 'Span of the event, 16 hex digits.';

CREATE TABLE balances (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    account_id text NOT NULL,
    account_type text,
    currency text NOT NULL,
    start_balance numeric,
    end_balance numeric
);
CREATE UNIQUE INDEX balances_key ON balances (
    run_id, shard, hashtextextended(portfolio, 0), hashtextextended(account_id, 0), currency
);
COMMENT ON TABLE balances IS
    'Accounts at the start and at the end, one row per account and currency.';
COMMENT ON COLUMN balances.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN balances.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN balances.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN balances.account_id IS 'The engine''s id of the account.';
COMMENT ON COLUMN balances.account_type IS 'CASH, MARGIN…';
COMMENT ON COLUMN balances.currency IS 'Currency of the balances.';
COMMENT ON COLUMN balances.start_balance IS
    'Total balance at the first account event, in currency.';
COMMENT ON COLUMN balances.end_balance IS 'Total balance at the last account event, in currency.';

CREATE TABLE reconciliation (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    account_id text NOT NULL,
    account_type text NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    start_balance numeric,
    end_balance numeric,
    realized numeric NOT NULL,
    commission numeric NOT NULL,
    rounding numeric NOT NULL,
    conversion numeric NOT NULL,
    funding numeric NOT NULL,
    held numeric NOT NULL,
    not_booked numeric NOT NULL,
    difference numeric NOT NULL,
    engine_realized numeric,
    notes jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT reconciliation_status_known CHECK (
        status IN ('reconciled', 'failed', 'no account statement')
    )
);
CREATE UNIQUE INDEX reconciliation_key ON reconciliation (
    run_id, shard, hashtextextended(portfolio, 0), hashtextextended(account_id, 0),
    hashtextextended(currency, 0)
);
COMMENT ON TABLE reconciliation IS
    'Accounts by the engine and by the ledger: end_balance = start_balance + realized + '
    'commission + rounding + conversion + funding + held + not_booked + difference.';
COMMENT ON COLUMN reconciliation.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN reconciliation.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN reconciliation.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN reconciliation.account_id IS
    'The engine''s id of the account; empty if it keeps none.';
COMMENT ON COLUMN reconciliation.account_type IS 'CASH, MARGIN, BETTING, or empty.';
COMMENT ON COLUMN reconciliation.currency IS 'Currency of the amounts.';
COMMENT ON COLUMN reconciliation.status IS
    'reconciled: every amount follows from the ledger. failed: it does not, see difference and '
    'notes. no account statement: the engine says nothing about its account, or keeps it frozen.';
COMMENT ON COLUMN reconciliation.start_balance IS 'Balance at the start, by the engine.';
COMMENT ON COLUMN reconciliation.end_balance IS 'Balance at the end, by the engine.';
COMMENT ON COLUMN reconciliation.realized IS 'P&L of what was closed, before commission.';
COMMENT ON COLUMN reconciliation.commission IS 'Commissions; a cost is negative.';
COMMENT ON COLUMN reconciliation.rounding IS 'What the account''s rounding added or took.';
COMMENT ON COLUMN reconciliation.conversion IS 'What changes of exchange rates added or took.';
COMMENT ON COLUMN reconciliation.funding IS 'Changes without a fill, such as interest.';
COMMENT ON COLUMN reconciliation.held IS
    'What is held: minus its cost where the whole price is paid, plus the quantity where the '
    'currency itself was bought.';
COMMENT ON COLUMN reconciliation.not_booked IS
    'What the engine''s balance has because it leaves something out by a rule of its own.';
COMMENT ON COLUMN reconciliation.difference IS 'What nothing explains; 0 if reconciled.';
COMMENT ON COLUMN reconciliation.engine_realized IS
    'P&L before commission by the engine''s own positions; NULL if not told in this currency.';
COMMENT ON COLUMN reconciliation.notes IS 'Reasons and remarks, each a sentence.';

CREATE TABLE equity (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    sequence bigint NOT NULL,
    account_id text NOT NULL,
    currency text NOT NULL,
    balance numeric NOT NULL,
    equity numeric,
    event_time bigint,
    event_at timestamptz GENERATED ALWAYS AS (
        (timestamp '1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'
    ) STORED,
    trace_id text,
    span_id text,
    PRIMARY KEY (run_id, sequence, currency)
);
COMMENT ON TABLE equity IS
    'Balances of the accounts over time, one row per account event and currency.';
COMMENT ON COLUMN equity.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN equity.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN equity.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN equity.sequence IS 'Position of the event in the run; the order of events.';
COMMENT ON COLUMN equity.account_id IS 'The engine''s id of the account.';
COMMENT ON COLUMN equity.currency IS 'Currency of the balance.';
COMMENT ON COLUMN equity.balance IS 'Total balance, in currency.';
COMMENT ON COLUMN equity.equity IS
    'The balance and what is held at the last prices, in currency.';
COMMENT ON COLUMN equity.event_time IS
    'Simulated time of the event, nanoseconds since 1970-01-01 UTC; NULL if unknown.';
COMMENT ON COLUMN equity.event_at IS 'event_time as a timestamp, cut to microseconds.';
COMMENT ON COLUMN equity.trace_id IS 'Trace of the event, 32 hex digits.';
COMMENT ON COLUMN equity.span_id IS 'Span of the event, 16 hex digits.';

CREATE TABLE latency (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    hop text NOT NULL,
    count bigint NOT NULL,
    p50 bigint,
    p90 bigint,
    p99 bigint,
    max bigint,
    slowest_trace_id text
);
CREATE UNIQUE INDEX latency_key ON latency (
    run_id, shard, hashtextextended(portfolio, 0), hashtextextended(hop, 0)
);
COMMENT ON TABLE latency IS
    'How long each hop of a chain took by the wall clock.';
COMMENT ON COLUMN latency.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN latency.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN latency.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN latency.hop IS 'From what to what, such as SIGNAL → ORDER.';
COMMENT ON COLUMN latency.count IS 'How many were measured.';
COMMENT ON COLUMN latency.p50 IS 'Median, nanoseconds.';
COMMENT ON COLUMN latency.p90 IS '90th percentile, nanoseconds.';
COMMENT ON COLUMN latency.p99 IS '99th percentile, nanoseconds.';
COMMENT ON COLUMN latency.max IS 'Longest, nanoseconds.';
COMMENT ON COLUMN latency.slowest_trace_id IS 'Trace of the longest, 32 hex digits.';

CREATE TABLE signals (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    sequence bigint NOT NULL,
    strategy text,
    symbol text,
    name text,
    value text,
    event_time bigint,
    event_at timestamptz GENERATED ALWAYS AS (
        (timestamp '1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'
    ) STORED,
    outcome text NOT NULL,
    trace_id text,
    span_id text,
    PRIMARY KEY (run_id, sequence),
    CONSTRAINT signals_outcome_known CHECK (outcome IN ('ordered', 'no_order', 'denied'))
);
COMMENT ON TABLE signals IS
    'Signals and what came of them.';
COMMENT ON COLUMN signals.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN signals.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN signals.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN signals.sequence IS 'Position of the event in the run; the order of events.';
COMMENT ON COLUMN signals.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN signals.symbol IS 'Instrument.';
COMMENT ON COLUMN signals.name IS 'Name of the signal.';
COMMENT ON COLUMN signals.value IS 'Value of the signal, as the engine wrote it.';
COMMENT ON COLUMN signals.event_time IS
    'Simulated time of the event, nanoseconds since 1970-01-01 UTC; NULL if unknown.';
COMMENT ON COLUMN signals.event_at IS 'event_time as a timestamp, cut to microseconds.';
COMMENT ON COLUMN signals.outcome IS
    'ordered: an order followed. no_order: none did. denied: a risk rule stopped it.';
COMMENT ON COLUMN signals.trace_id IS 'Trace of the event, 32 hex digits.';
COMMENT ON COLUMN signals.span_id IS 'Span of the event, 16 hex digits.';

CREATE TABLE load_log (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    rows jsonb NOT NULL,
    source_version text NOT NULL,
    PRIMARY KEY (run_id, shard)
);
COMMENT ON TABLE load_log IS
    'What was loaded from the lake, and from which version of it; a shard of the same version is not loaded again.';
COMMENT ON COLUMN load_log.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN load_log.shard IS 'Part of the run that was loaded at once.';
COMMENT ON COLUMN load_log.loaded_at IS 'When it was loaded.';
COMMENT ON COLUMN load_log.rows IS 'How many rows went to each table.';
COMMENT ON COLUMN load_log.source_version IS
    'What the rows were made from: version of the lake and of the code.';
