-- Attribution: what each amount of P&L, trade, order and signal belongs to, and figures of runs.

ALTER TABLE runs ADD code_version text, ADD seed text, ADD data_from bigint, ADD data_to bigint;
COMMENT ON COLUMN runs.code_version IS 'Version of the host''s code, such as a commit; NULL if unknown.';
COMMENT ON COLUMN runs.seed IS 'Seed of the host''s random numbers; NULL if none was told.';
COMMENT ON COLUMN runs.data_from IS 'Simulated time of the first event, nanoseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN runs.data_to IS 'Simulated time of the last event, nanoseconds since 1970-01-01 UTC.';

ALTER TABLE pnl_slices
    ADD account_id text,
    ADD venue text,
    ADD side text,
    ADD signal text,
    ADD regime text,
    ADD exit_reason text,
    ADD holding_time bigint,
    ADD holding text,
    ADD quantity numeric,
    ADD trade_id text,
    ADD reclassified text;
ALTER TABLE pnl_slices DROP CONSTRAINT pnl_slices_kind_known;
ALTER TABLE pnl_slices ADD CONSTRAINT pnl_slices_kind_known CHECK (kind IN (
    'realized', 'unrealized', 'commission', 'cash_flow', 'funding', 'conversion', 'rounding',
    'reclassification'
));
COMMENT ON COLUMN pnl_slices.kind IS
    'realized: a FIFO match of an exit with its entry, before commission. unrealized: what a mark '
    'interval added to a lot that is open, taken back when it is closed. commission: a fee, a cost '
    'is negative. cash_flow: dividends and the like, as the host gave them. funding: changes of the '
    'account without a fill that pass as financing, such as interest. conversion: a change of an '
    'exchange rate. rounding: what the account''s rounding adds or takes. reclassification: from '
    'realized to unrealized between strategies and the book they share; adds up to nothing.';
COMMENT ON COLUMN pnl_slices.account_id IS 'The engine''s id of the account; NULL if it has none.';
COMMENT ON COLUMN pnl_slices.venue IS 'Venue; NULL if unknown.';
COMMENT ON COLUMN pnl_slices.side IS 'LONG or SHORT: the side of the lot; NULL if there is none.';
COMMENT ON COLUMN pnl_slices.signal IS 'Name of the signal that the lot''s entry came from; NULL if none.';
COMMENT ON COLUMN pnl_slices.regime IS 'Regime of the market when the lot was entered; NULL if unknown.';
COMMENT ON COLUMN pnl_slices.exit_reason IS 'Why the lot was closed; NULL while it is open.';
COMMENT ON COLUMN pnl_slices.holding_time IS
    'Simulated time from entry to exit of the lot, nanoseconds; NULL while it is open.';
COMMENT ON COLUMN pnl_slices.holding IS 'holding_time in classes, such as 1h to 1d; NULL while open.';
COMMENT ON COLUMN pnl_slices.quantity IS 'Quantity of the lot that the amount is for; NULL if none.';
COMMENT ON COLUMN pnl_slices.trade_id IS 'Trade that the amount belongs to; NULL if none.';
COMMENT ON COLUMN pnl_slices.reclassified IS
    'realized or unrealized: what a reclassification adds to; NULL for other kinds.';

CREATE TABLE pnl_rollups (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text,
    symbol text,
    currency text NOT NULL,
    kind text NOT NULL,
    day date,
    amount numeric NOT NULL,
    slices bigint NOT NULL
);
COMMENT ON TABLE pnl_rollups IS 'Sums of pnl_slices by portfolio, strategy, symbol, kind and day.';
COMMENT ON COLUMN pnl_rollups.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN pnl_rollups.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN pnl_rollups.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN pnl_rollups.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN pnl_rollups.symbol IS 'Instrument.';
COMMENT ON COLUMN pnl_rollups.currency IS 'Currency of the amount.';
COMMENT ON COLUMN pnl_rollups.kind IS
    'As in pnl_slices, but reclassified_realized or reclassified_unrealized for a reclassification.';
COMMENT ON COLUMN pnl_rollups.day IS 'Day of the simulated time, UTC; NULL if unknown.';
COMMENT ON COLUMN pnl_rollups.amount IS 'Sum of the amounts, exact.';
COMMENT ON COLUMN pnl_rollups.slices IS 'How many slices it sums.';

ALTER TABLE reconciliation
    ADD cash_flow numeric NOT NULL DEFAULT 0,
    ADD transfers numeric NOT NULL DEFAULT 0,
    ADD realized_fifo numeric,
    ADD unrealized numeric,
    ADD unrealized_fifo numeric,
    ADD engine_unrealized numeric;
COMMENT ON COLUMN reconciliation.realized IS
    'P&L of what was closed by the engine''s own rule (average cost), before commission.';
COMMENT ON COLUMN reconciliation.cash_flow IS 'Dividends and the like, as the host gave them.';
COMMENT ON COLUMN reconciliation.transfers IS 'Deposits less withdrawals: no profit.';
COMMENT ON COLUMN reconciliation.realized_fifo IS 'P&L of what was closed, first in first out.';
COMMENT ON COLUMN reconciliation.unrealized IS
    'P&L of what is open at the last prices, by the engine''s own rule.';
COMMENT ON COLUMN reconciliation.unrealized_fifo IS
    'The same, first in first out: realized + unrealized is the same by both rules.';
COMMENT ON COLUMN reconciliation.engine_unrealized IS
    'P&L of what is open by the engine''s own statement; NULL if not told.';

ALTER TABLE trades
    ADD account_id text,
    ADD holding_time bigint,
    ADD entry_signal text,
    ADD entry_signal_strength double precision,
    ADD entry_signal_trace_id text,
    ADD entry_signal_span_id text,
    ADD entry_regime text,
    ADD exit_regime text,
    ADD exit_reason text,
    ADD entry_order_id text,
    ADD exit_order_id text,
    ADD entry_decision_price numeric,
    ADD entry_arrival_price numeric,
    ADD exit_decision_price numeric,
    ADD exit_arrival_price numeric,
    ADD cost_currency text,
    ADD delay_cost numeric,
    ADD impact_cost numeric,
    ADD shortfall numeric,
    ADD best_price numeric,
    ADD worst_price numeric,
    ADD favourable_excursion numeric,
    ADD adverse_excursion numeric,
    ADD entry_latency bigint,
    ADD exit_latency bigint,
    ADD fills jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN trades.account_id IS 'The engine''s id of the account; NULL if it has none.';
COMMENT ON COLUMN trades.holding_time IS
    'Simulated time from the first entry fill to the last exit fill, nanoseconds; NULL while open.';
COMMENT ON COLUMN trades.entry_signal IS 'Name of the signal that led to the entry; NULL if none.';
COMMENT ON COLUMN trades.entry_signal_strength IS
    'Its strength, else its value as a number; NULL if neither.';
COMMENT ON COLUMN trades.entry_signal_trace_id IS 'Trace of that signal, 32 hex digits.';
COMMENT ON COLUMN trades.entry_signal_span_id IS 'Span of that signal, 16 hex digits.';
COMMENT ON COLUMN trades.entry_regime IS 'Regime of the market at the first entry fill.';
COMMENT ON COLUMN trades.exit_regime IS 'Regime of the market at the last exit fill; NULL while open.';
COMMENT ON COLUMN trades.exit_reason IS
    'Why it was closed: the host''s words, or stop, limit, signal, end of run, market; NULL while open.';
COMMENT ON COLUMN trades.entry_order_id IS 'The engine''s id of the order of the first entry fill.';
COMMENT ON COLUMN trades.exit_order_id IS 'The engine''s id of the order of the last exit fill.';
COMMENT ON COLUMN trades.entry_decision_price IS
    'Price of the market when the entry was decided on; several orders are averaged by quantity.';
COMMENT ON COLUMN trades.entry_arrival_price IS
    'Price of the market when the entry order reached the venue; averaged likewise.';
COMMENT ON COLUMN trades.exit_decision_price IS 'The same for the exit.';
COMMENT ON COLUMN trades.exit_arrival_price IS 'The same for the exit.';
COMMENT ON COLUMN trades.cost_currency IS
    'Currency of the costs and excursions: the instrument''s, which need not be the account''s.';
COMMENT ON COLUMN trades.delay_cost IS
    'Cost of the market''s moves between decision and arrival, entries and exits, in cost_currency; a cost is positive.';
COMMENT ON COLUMN trades.impact_cost IS
    'Cost of filling at other prices than on arrival (spread and impact), in cost_currency; a cost is positive.';
COMMENT ON COLUMN trades.shortfall IS
    'Implementation shortfall: delay_cost + impact_cost + commission as far as it is in cost_currency; a cost is positive.';
COMMENT ON COLUMN trades.best_price IS
    'Best price of the market while it was held, its own fills among them; NULL if the market told none.';
COMMENT ON COLUMN trades.worst_price IS 'Worst price of the market while it was held, likewise.';
COMMENT ON COLUMN trades.favourable_excursion IS
    'Highest profit while it was held, closed and open, before commission, in cost_currency; never negative.';
COMMENT ON COLUMN trades.adverse_excursion IS
    'Lowest profit while it was held, closed and open, before commission, in cost_currency; never positive.';
COMMENT ON COLUMN trades.entry_latency IS
    'Wall clock from the market event that led to the entry to its first fill, nanoseconds.';
COMMENT ON COLUMN trades.exit_latency IS 'The same for the exit.';
COMMENT ON COLUMN trades.fills IS
    'Its fills, and how much of each belongs to it: [{leg, sequence, client_order_id, quantity, price, event_time, trace_id, span_id}].';

CREATE TABLE executions (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    sequence bigint NOT NULL,
    client_order_id text NOT NULL,
    strategy text,
    symbol text,
    venue text,
    side text NOT NULL,
    order_type text,
    status text,
    reason text,
    signal text,
    signal_strength double precision,
    signal_trace_id text,
    signal_span_id text,
    quantity numeric,
    filled_quantity numeric NOT NULL,
    decision_time bigint,
    decision_price numeric,
    arrival_time bigint,
    arrival_price numeric,
    average_price numeric,
    last_price numeric,
    currency text,
    delay_cost numeric,
    impact_cost numeric,
    commission numeric,
    opportunity_cost numeric,
    shortfall numeric,
    slippage double precision,
    market_to_signal bigint,
    signal_to_order bigint,
    order_to_ack bigint,
    ack_to_fill bigint,
    trace_id text,
    span_id text,
    PRIMARY KEY (run_id, sequence)
);
COMMENT ON TABLE executions IS
    'Orders by what they cost against the price they were decided at: shortfall = delay_cost + impact_cost + commission + opportunity_cost.';
COMMENT ON COLUMN executions.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN executions.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN executions.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN executions.sequence IS 'Position in the run of the order''s first event.';
COMMENT ON COLUMN executions.client_order_id IS 'The engine''s id of the order.';
COMMENT ON COLUMN executions.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN executions.symbol IS 'Instrument.';
COMMENT ON COLUMN executions.venue IS 'Venue.';
COMMENT ON COLUMN executions.side IS 'BUY or SELL.';
COMMENT ON COLUMN executions.order_type IS 'MARKET, LIMIT, STOP_MARKET…, in the engine''s words.';
COMMENT ON COLUMN executions.status IS 'Last status, such as FILLED or CANCELED.';
COMMENT ON COLUMN executions.reason IS
    'Why it was sent: the host''s words, or stop, limit, signal, end of run, market.';
COMMENT ON COLUMN executions.signal IS 'Name of the signal that led to it; NULL if none.';
COMMENT ON COLUMN executions.signal_strength IS
    'Its strength, else its value as a number; NULL if neither.';
COMMENT ON COLUMN executions.signal_trace_id IS 'Trace of that signal, 32 hex digits.';
COMMENT ON COLUMN executions.signal_span_id IS 'Span of that signal, 16 hex digits.';
COMMENT ON COLUMN executions.quantity IS 'Quantity ordered.';
COMMENT ON COLUMN executions.filled_quantity IS 'Quantity filled.';
COMMENT ON COLUMN executions.decision_time IS
    'Simulated time of the signal, or of the nearest market event, fill or handler without one, nanoseconds.';
COMMENT ON COLUMN executions.decision_price IS
    'The host''s own decision price; else the price that it waited for, of a stop (its trigger) and of a limit order that only closes; else that of the market then; NULL if there was none.';
COMMENT ON COLUMN executions.arrival_time IS
    'Simulated time at which the venue had it: accepted, else submitted, nanoseconds.';
COMMENT ON COLUMN executions.arrival_price IS
    'Price of the market then: the middle of a quote; of an order that waited for a price, that one.';
COMMENT ON COLUMN executions.average_price IS 'Mean price of the fills, weighted by quantity.';
COMMENT ON COLUMN executions.last_price IS
    'Price of the market when it was done with: what was not filled would have cost that.';
COMMENT ON COLUMN executions.currency IS
    'Currency of the amounts: the one that the instrument settles in; NULL if nobody names it.';
COMMENT ON COLUMN executions.delay_cost IS
    '(arrival - decision) * filled quantity, signed so that a cost is positive.';
COMMENT ON COLUMN executions.impact_cost IS
    '(average - arrival) * filled quantity, signed so that a cost is positive.';
COMMENT ON COLUMN executions.commission IS 'Commission, as far as it is in currency; a cost is positive.';
COMMENT ON COLUMN executions.opportunity_cost IS
    '(last - decision) * quantity not filled, signed so that a cost is positive; 0 for a stop whose trigger never came and for an order that only closes.';
COMMENT ON COLUMN executions.shortfall IS
    'All four together; known also where only the arrival price is not.';
COMMENT ON COLUMN executions.slippage IS
    '(average - arrival) / arrival in basis points, signed so that a cost is positive.';
COMMENT ON COLUMN executions.market_to_signal IS 'Wall clock, nanoseconds; NULL if it cannot be told.';
COMMENT ON COLUMN executions.signal_to_order IS
    'From the signal (without one, from the market event) to the order''s first event, nanoseconds.';
COMMENT ON COLUMN executions.order_to_ack IS 'From there to ACCEPTED, nanoseconds.';
COMMENT ON COLUMN executions.ack_to_fill IS
    'From there (without one, from the order''s first event) to the first fill, nanoseconds.';
COMMENT ON COLUMN executions.trace_id IS 'Trace of the order''s first event, 32 hex digits.';
COMMENT ON COLUMN executions.span_id IS 'Span of the order''s first event, 16 hex digits.';

ALTER TABLE signals
    ADD strength double precision,
    ADD price numeric,
    ADD reason text,
    ADD pnl numeric,
    ADD currency text,
    ADD returns jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN signals.strength IS
    'Its strength, else its value as a number, signed: positive expects a rise; NULL if neither.';
COMMENT ON COLUMN signals.price IS 'Price of the market when it was published; NULL if none.';
COMMENT ON COLUMN signals.reason IS
    'What came of it: filled, partly filled, working, cancelled, expired, rejected by risk, rejected by venue, already positioned, flat, no order.';
COMMENT ON COLUMN signals.pnl IS
    'P&L of the lots that it entered, commission taken off, in currency; NULL if it entered none.';
COMMENT ON COLUMN signals.currency IS 'Currency of pnl.';
COMMENT ON COLUMN signals.returns IS
    'Return of the instrument from its price over the next so many price events, by horizon: {"1": 0.001, "5": …}.';

CREATE TABLE signal_strength (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text,
    name text,
    bucket integer NOT NULL,
    low double precision,
    high double precision,
    signals bigint NOT NULL,
    traded bigint NOT NULL,
    hits bigint NOT NULL,
    hit_rate double precision,
    hit_rate_low double precision,
    hit_rate_high double precision,
    pnl numeric,
    currency text,
    trace_id text
);
COMMENT ON TABLE signal_strength IS 'Signals by strength: how often they were right, what they earned.';
COMMENT ON COLUMN signal_strength.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN signal_strength.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN signal_strength.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN signal_strength.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN signal_strength.name IS 'Name of the signal; NULL if it has none.';
COMMENT ON COLUMN signal_strength.bucket IS 'Number of the bucket, from 1, the weakest first.';
COMMENT ON COLUMN signal_strength.low IS 'Weakest strength in it, by size.';
COMMENT ON COLUMN signal_strength.high IS 'Strongest strength in it, by size.';
COMMENT ON COLUMN signal_strength.signals IS 'Signals in it.';
COMMENT ON COLUMN signal_strength.traded IS 'Signals that entered a lot which is closed by now.';
COMMENT ON COLUMN signal_strength.hits IS 'Those of them that earned something after commission.';
COMMENT ON COLUMN signal_strength.hit_rate IS 'hits / traded; NULL without any.';
COMMENT ON COLUMN signal_strength.hit_rate_low IS 'Lower end of its 95 % interval (Wilson).';
COMMENT ON COLUMN signal_strength.hit_rate_high IS 'Upper end of its 95 % interval (Wilson).';
COMMENT ON COLUMN signal_strength.pnl IS 'P&L of the lots that they entered, commission taken off.';
COMMENT ON COLUMN signal_strength.currency IS 'Currency of pnl.';
COMMENT ON COLUMN signal_strength.trace_id IS 'Trace of the signal in it that earned or lost most.';

CREATE TABLE signal_decay (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text,
    name text,
    horizon integer NOT NULL,
    signals bigint NOT NULL,
    information_coefficient double precision,
    low double precision,
    high double precision,
    p_value double precision,
    hit_rate double precision,
    mean_return double precision
);
COMMENT ON TABLE signal_decay IS
    'How well signals foretold returns, by horizon: the rank correlation of strength and return.';
COMMENT ON COLUMN signal_decay.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN signal_decay.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN signal_decay.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN signal_decay.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN signal_decay.name IS 'Name of the signal; NULL if it has none.';
COMMENT ON COLUMN signal_decay.horizon IS 'Price events of the instrument after the signal.';
COMMENT ON COLUMN signal_decay.signals IS 'Signals with a strength and a return.';
COMMENT ON COLUMN signal_decay.information_coefficient IS 'Spearman''s rank correlation; NULL if undefined.';
COMMENT ON COLUMN signal_decay.low IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN signal_decay.high IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN signal_decay.p_value IS 'Probability of one as large without any connection.';
COMMENT ON COLUMN signal_decay.hit_rate IS 'Share of signals whose return has the sign of the strength.';
COMMENT ON COLUMN signal_decay.mean_return IS 'Mean return in the direction of the signal.';

CREATE TABLE funnel (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text NOT NULL,
    signals bigint NOT NULL,
    with_order bigint NOT NULL,
    orders bigint NOT NULL,
    denied bigint NOT NULL,
    filled bigint NOT NULL,
    publishes_signals boolean NOT NULL,
    trace_id text
);
COMMENT ON TABLE funnel IS 'How far the signals of each strategy came.';
COMMENT ON COLUMN funnel.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN funnel.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN funnel.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN funnel.strategy IS 'Strategy, in the engine''s own words; empty if none.';
COMMENT ON COLUMN funnel.signals IS
    'Signals; for a strategy that publishes none, runs of its handlers that led to an order.';
COMMENT ON COLUMN funnel.with_order IS 'Those of them that led to an order.';
COMMENT ON COLUMN funnel.orders IS 'Orders that they led to.';
COMMENT ON COLUMN funnel.denied IS 'Those of the orders that were denied or rejected.';
COMMENT ON COLUMN funnel.filled IS 'Those of the orders that were filled, at least in part.';
COMMENT ON COLUMN funnel.publishes_signals IS 'False if signals counts runs of handlers.';
COMMENT ON COLUMN funnel.trace_id IS 'Trace of one of the orders, a filled one if there is any.';

CREATE TABLE regimes (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    symbol text,
    sequence bigint NOT NULL,
    event_time bigint,
    end_time bigint,
    name text NOT NULL,
    source text NOT NULL,
    volatility double precision,
    trend double precision,
    events bigint NOT NULL,
    trace_id text,
    span_id text
);
COMMENT ON TABLE regimes IS 'Spells of the market''s character, in force from sequence on.';
COMMENT ON COLUMN regimes.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN regimes.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN regimes.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN regimes.symbol IS 'Instrument; NULL if it is the whole portfolio''s.';
COMMENT ON COLUMN regimes.sequence IS 'Position in the run of the event that began it.';
COMMENT ON COLUMN regimes.event_time IS 'Simulated time of that event, nanoseconds.';
COMMENT ON COLUMN regimes.end_time IS 'Simulated time of the next one''s beginning; NULL for the last.';
COMMENT ON COLUMN regimes.name IS 'The host''s name, or one of the classifier: calm or turbulent, up, down or sideways.';
COMMENT ON COLUMN regimes.source IS 'host or classifier.';
COMMENT ON COLUMN regimes.volatility IS 'By the classifier, at its beginning; NULL for the host''s own.';
COMMENT ON COLUMN regimes.trend IS 'By the classifier, at its beginning; NULL for the host''s own.';
COMMENT ON COLUMN regimes.events IS 'Price events of the instrument in it.';
COMMENT ON COLUMN regimes.trace_id IS 'Trace of the event that began it, 32 hex digits.';
COMMENT ON COLUMN regimes.span_id IS 'Span of that event, 16 hex digits.';

ALTER TABLE latency
    ADD breakdown text NOT NULL DEFAULT 'hop',
    ADD strategy text,
    ADD handler text,
    ADD backwards bigint NOT NULL DEFAULT 0,
    ADD min bigint,
    ADD mean double precision,
    ADD slowest jsonb NOT NULL DEFAULT '[]';
ALTER TABLE latency ADD CONSTRAINT latency_breakdown_known
    CHECK (breakdown IN ('hop', 'strategy', 'handler'));
COMMENT ON TABLE latency IS
    'How long each hop of a chain took by the wall clock; exact. Each breakdown has all of them.';
COMMENT ON COLUMN latency.breakdown IS
    'hop: a portfolio''s all together; strategy: by strategy; handler: handlers by strategy and name.';
COMMENT ON COLUMN latency.strategy IS
    'Strategy, in the engine''s own words; NULL if none, and in the breakdown hop.';
COMMENT ON COLUMN latency.handler IS
    'Handler that ran, as Class.method; NULL if unknown, and in other breakdowns.';
COMMENT ON COLUMN latency.backwards IS
    'How often the wall clock ran backwards from the one to the other; these are in no other number.';
COMMENT ON COLUMN latency.min IS 'Shortest, nanoseconds; NULL if none was measured.';
COMMENT ON COLUMN latency.mean IS 'Mean, nanoseconds.';
COMMENT ON COLUMN latency.slowest IS
    'Up to ten of the longest that are in different traces, the longest first, each with trace_id, '
    'duration, start_time, strategy and handler; empty in other breakdowns than hop.';
DROP INDEX latency_key;
CREATE UNIQUE INDEX latency_key ON latency (
    run_id, shard, breakdown, hashtextextended(portfolio, 0),
    hashtextextended(coalesce(strategy, ''), 0), hashtextextended(coalesce(handler, ''), 0),
    hashtextextended(hop, 0)
);

CREATE TABLE latency_histograms (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    strategy text,
    handler text,
    hop text NOT NULL,
    period_start bigint NOT NULL,
    count bigint NOT NULL,
    sum numeric NOT NULL,
    min bigint NOT NULL,
    max bigint NOT NULL,
    scale integer NOT NULL,
    zero_count bigint NOT NULL,
    bucket_offset integer NOT NULL,
    bucket_counts jsonb NOT NULL,
    slowest_trace_id text
);
COMMENT ON TABLE latency_histograms IS
    'Durations of the hops over time, as OpenTelemetry''s exponential histograms, which can be added up.';
COMMENT ON COLUMN latency_histograms.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN latency_histograms.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN latency_histograms.portfolio IS 'Portfolio namespace, such as fund/desk/book.';
COMMENT ON COLUMN latency_histograms.strategy IS 'Strategy, in the engine''s own words; NULL if none.';
COMMENT ON COLUMN latency_histograms.handler IS
    'Handler that ran, as Class.method; NULL if unknown, and of hops.';
COMMENT ON COLUMN latency_histograms.hop IS 'From what to what, such as SIGNAL → ORDER.';
COMMENT ON COLUMN latency_histograms.period_start IS
    'Wall clock at the start of the period, nanoseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN latency_histograms.count IS 'How many were measured.';
COMMENT ON COLUMN latency_histograms.sum IS 'All together, nanoseconds.';
COMMENT ON COLUMN latency_histograms.min IS 'Shortest, nanoseconds.';
COMMENT ON COLUMN latency_histograms.max IS 'Longest, nanoseconds.';
COMMENT ON COLUMN latency_histograms.scale IS
    'Bucket i holds (base^i, base^(i+1)] with base = 2^(2^-scale), nanoseconds.';
COMMENT ON COLUMN latency_histograms.zero_count IS 'How many took no time.';
COMMENT ON COLUMN latency_histograms.bucket_offset IS 'Index of the first of bucket_counts.';
COMMENT ON COLUMN latency_histograms.bucket_counts IS 'Counts of buckets, one after the other.';
COMMENT ON COLUMN latency_histograms.slowest_trace_id IS 'Trace of the longest, 32 hex digits.';

CREATE TABLE daily_returns (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    currency text NOT NULL,
    day date NOT NULL,
    equity numeric,
    transfers numeric NOT NULL DEFAULT 0,
    pnl numeric NOT NULL,
    return double precision
);
COMMENT ON TABLE daily_returns IS
    'Equity at the end of each day of the simulated time, by portfolio and currency.';
COMMENT ON COLUMN daily_returns.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN daily_returns.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN daily_returns.portfolio IS 'Portfolio namespace; empty for all of the run.';
COMMENT ON COLUMN daily_returns.currency IS 'Currency of the amounts.';
COMMENT ON COLUMN daily_returns.day IS 'Day, UTC.';
COMMENT ON COLUMN daily_returns.equity IS
    'Equity at the end of the day; NULL if the balance at the start is unknown.';
COMMENT ON COLUMN daily_returns.transfers IS 'Deposits less withdrawals of the day.';
COMMENT ON COLUMN daily_returns.pnl IS 'Sum of the day''s pnl_slices.';
COMMENT ON COLUMN daily_returns.return IS
    'pnl / (equity at the end of the day before + transfers); NULL if that is not positive, and once equity has come down to zero or below.';

CREATE TABLE figures (
    run_id text NOT NULL REFERENCES runs ON DELETE CASCADE,
    shard text NOT NULL DEFAULT 'all',
    portfolio text NOT NULL,
    currency text NOT NULL,
    name text NOT NULL,
    value double precision
);
COMMENT ON TABLE figures IS 'Figures of a tearsheet, such as sharpe and max_drawdown; docs/figures.md defines them.';
COMMENT ON COLUMN figures.run_id IS 'Run the row belongs to.';
COMMENT ON COLUMN figures.shard IS
    'Part of the run that was loaded at once; a load replaces its shard.';
COMMENT ON COLUMN figures.portfolio IS 'Portfolio namespace; empty for all of the run.';
COMMENT ON COLUMN figures.currency IS 'Currency; empty if it is of none.';
COMMENT ON COLUMN figures.name IS 'Name, such as sharpe.';
COMMENT ON COLUMN figures.value IS 'Value; NULL if it is undefined.';
