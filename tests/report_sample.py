"""What a report of the demo's run is filled with: realistic, deterministic, every sum right."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from fillpath.analytics.report_latency import (
    HopLatency,
    LatencyOverTime,
    LatencySection,
    PeriodLatency,
    SlowestChain,
)
from fillpath.analytics.report_model import (
    Account,
    AccountFigures,
    CompletenessRow,
    EngineFigures,
    EquityPoint,
    EquitySeries,
    Evidence,
    FunnelRow,
    OrderCount,
    PnlAmounts,
    PnlRow,
    ReportData,
    RunCard,
    SpanLink,
    Trace,
    TraceSpan,
    Trade,
)
from fillpath.analytics.report_sections import ALWAYS, SECTIONS, FilledSection, Section

D = Decimal
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
START = 1_362_182_400 * SECOND  # 2013-03-02
WALL = 1_760_000_000 * SECOND
EQUITIES, FX = "demo/equities", "demo/fx"
HOSTILE = (
    "<script>alert(1)</script>",
    "'; DROP TABLE spans; --",
    "../../../etc/passwd",
    "</script><img src=x onerror=alert(2)>",
    "<!--<script>",
    "x" * 300,
    "\N{ROCKET}\N{CHART WITH UPWARDS TREND} \u202egnp.exe \u2028\u2029 \x00\x07 \ud83d",
    '" onmouseover="alert(3)" x="',
    "{{ 7 * 7 }} ${7*7} `id` $(id)",
    "__proto__",
)


def an_id(*parts: object, digits: int = 32) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:digits]


def a_chain(key: object, symbol: str, strategy: str, side: str, price: str, day: int) -> Trace:
    """Return a chain as the engine makes it, from a bar to the fill and what follows it."""
    trace_id = an_id(key)
    spans: list[TraceSpan] = []

    def add(parent: int | None, name: str, after: int, **fields: Any) -> int:
        operation, event_type = name.split()
        place = len(spans)
        spans.append(
            TraceSpan(
                span_id=an_id(key, place, digits=16),
                sequence=day * 1000 + place,
                name=name,
                event_type=event_type,
                span_kind="CONSUMER" if operation == "process" else "PRODUCER",
                start_time=WALL + day * SECOND + after * 1_000,
                end_time=WALL + day * SECOND + after * 1_000 + 21_400,
                parent_span_id=None if parent is None else spans[parent].span_id,
                event_time=START + day * DAY,
                strategy=strategy,
                **fields,
            )
        )
        return place

    quantity, cash = D("120.000000000"), f"balance {D(100_000) + day * 17} USD"
    order: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "client_order_id": f"O-20130302-{day:06}-001-000-{day}",
    }
    bar = add(None, "publish BAR", 0, symbol=symbol, price=D(price), detail="close")
    run = add(bar, "process BAR", 9, handler=f"{strategy}.on_bar")
    signal = add(run, "publish SIGNAL", 35, detail=f"{strategy}.trend = 1.0")
    created = add(signal, "publish ORDER", 80, order_type="MARKET", status="INITIALIZED", **order)
    command = add(created, "publish COMMAND", 112, detail="SubmitOrder")
    add(command, "publish ORDER", 140, order_type="MARKET", status="SUBMITTED", **order)
    order["order_id"] = f"SIM-{day}-001"
    accepted = add(command, "publish ORDER", 190, order_type="MARKET", status="ACCEPTED", **order)
    fill = add(
        accepted,
        "publish FILL",
        233,
        status="FILLED",
        price=D(price),
        commission=D("1.20"),
        currency="USD",
        fill_id=f"SIM-{day}-T1",
        links=(SpanLink(an_id("elsewhere", day), an_id(day, digits=16)),) if side == "SELL" else (),
        **order,
    )
    add(fill, "publish PORTFOLIO", 260, detail=cash)
    add(
        fill,
        "publish POSITION_OPEN" if side == "BUY" else "publish POSITION_CLOSE",
        282,
        symbol=symbol,
        position_id=f"{symbol}.SIM-{strategy}",
    )
    return Trace(trace_id, tuple(spans))


def a_series(portfolio: str, currency: str, start: str, end: str, changes: int) -> EquitySeries:
    chance = random.Random(portfolio)
    steps = [D(chance.randrange(-9_000, 9_000)) / 100 for _ in range(changes - 1)]
    drift = ((D(end) - D(start) - sum(steps)) / changes).quantize(D("0.01"))
    steps = [step + drift for step in steps]
    steps.append(D(end) - D(start) - sum(steps))
    points, balance = [EquityPoint(START, D(start))], D(start)
    for place, step in enumerate(steps, start=1):
        balance += step
        points.append(
            EquityPoint(
                START + place * 1400 * DAY // changes, balance, None, an_id(portfolio, place)
            )
        )
    return EquitySeries(portfolio, currency, tuple(points))


def amounts(realized: str, unrealized: str, commission: str, rounding: str) -> PnlAmounts:
    total = D(realized) + D(unrealized) - D(commission) + D(rounding)
    return PnlAmounts(D(realized), D(unrealized), D(commission), D(rounding), total)


def a_row(currency: str, parts: tuple[str, str, str, str], **fields: Any) -> PnlRow:
    key = (fields.get("strategy"), fields.get("symbol"), currency)
    query = "SELECT * FROM spans WHERE event_type = 'FILL' ORDER BY sequence"
    return PnlRow(currency, amounts(*parts), evidence=Evidence(an_id("best", key), query), **fields)


def sample() -> ReportData:
    """Return a report's data as a run of the demo fills it, with every sum right."""
    by_strategy = (
        ("TrendFollower-001", "AAPL", ("6120.40", "310.00", "96.00", "0.00"), 40),
        ("MeanReversion-002", "AAPL", ("-1842.15", "0.00", "141.60", "-0.01"), 59),
        ("BreakoutBracket-003", "GOOG", ("987.30", "-120.50", "62.40", "0.01"), 26),
        ("PairsLimit-004", "IBM", ("-310.05", "0.00", "38.40", "0.00"), 16),
    )
    fx = ("-220.11", "14.80", "61.37", "0.00")
    equities = ("4955.50", "189.50", "338.40", "0.00")
    trades, traces = [], []
    for rank in range(10):
        net = D(1_480 - 137 * rank) * (-1 if rank % 3 == 2 else 1)
        symbol = ("AAPL", "GOOG", "IBM")[rank % 3]
        entry = a_chain(("entry", rank), symbol, by_strategy[rank % 3][0], "BUY", "98.21", rank)
        leave = a_chain(
            ("exit", rank), symbol, by_strategy[rank % 3][0], "SELL", "110.55", rank + 30
        )
        linked = replace(leave.spans[7], links=(SpanLink(entry.trace_id, entry.spans[7].span_id),))
        leave = replace(leave, spans=(*leave.spans[:7], linked, *leave.spans[8:]))
        traces += [entry, leave]
        trades.append(
            Trade(
                portfolio=EQUITIES,
                strategy=by_strategy[rank % 3][0],
                symbol=symbol,
                side="BUY",
                quantity=D("120.000000000"),
                currency="USD",
                entry_time=START + rank * DAY,
                entry_price=D("98.210000000"),
                pnl=net + D("2.40"),
                commission=D("2.40"),
                net=net,
                entry_trace_id=entry.trace_id,
                exit_time=START + (rank + 30) * DAY,
                exit_price=D("110.55"),
                exit_trace_id=leave.trace_id,
            )
        )
    kinds = {"BAR": 5_215, "SIGNAL": 412, "COMMAND": 402, "ORDER": 1_377, "FILL": 286}
    kinds |= {"POSITION_OPEN": 141, "POSITION_CHANGE": 9, "POSITION_CLOSE": 139, "PORTFOLIO": 287}
    completeness = [CompletenessRow(EQUITIES, kind, count, count) for kind, count in kinds.items()]
    completeness += [
        CompletenessRow(
            FX, kind, count // 2, count // 2 - 40 * (kind == "BAR"), 40 * (kind == "BAR")
        )
        for kind, count in kinds.items()
    ]
    orders = (
        ("MARKET", "FILLED", 248),
        ("LIMIT", "FILLED", 61),
        ("LIMIT", "CANCELED", 42),
        ("LIMIT", "EXPIRED", 6),
        ("STOP_MARKET", "FILLED", 27),
        ("MARKET", "DENIED", 12),
        ("STOP_MARKET", "CANCELED", 31),
    )
    hops = (
        ("BAR", "SIGNAL", 18),
        ("SIGNAL", "ORDER", 41),
        ("ORDER", "FILL", 96),
        ("BAR", "FILL", 188),
    )
    latency = LatencySection(
        hops=tuple(
            HopLatency(
                f"{source} → {target}",
                "demo/equities",
                count=286 + place * 11,
                p50=usual * 1_040,
                p90=usual * 1_870,
                p99=usual * 6_300,
                max=usual * 71_000,
                trace_id=an_id("slow", place) if place else traces[0].trace_id,
            )
            for place, (source, target, usual) in enumerate(hops)
        ),
        by_strategy=tuple(
            HopLatency(
                "BAR → FILL", EQUITIES, 90, 91_000, 130_000, 1_900_000, 5_000_000,
                strategy=strategy,
                trace_id=an_id("slow", strategy),
            )
            for strategy in (by_strategy[0][0], by_strategy[1][0])
        ),
        handlers=(
            HopLatency(
                "BAR → handled", EQUITIES, 400, 12_000, 19_000, 88_000, 410_000,
                handler="TrendFollower.on_bar", trace_id=an_id("slow", "handler"),
            ),
        ),
        over_time=(
            LatencyOverTime(
                "BAR → FILL",
                10 * SECOND,
                0.0217,
                tuple(
                    PeriodLatency(
                        WALL + place * 10 * SECOND, 40, 190_000 - place * 9_000, 350_000, 1_200_000,
                        13_348_000, an_id("slow", "period", place),
                    )
                    for place in range(4)
                ),
            ),
        ),
        slowest=(
            SlowestChain(
                "BAR → FILL", EQUITIES, by_strategy[0][0], WALL, 13_348_000, traces[0].trace_id
            ),
        ),
        backwards=3,
        sampled_out=120,
    )  # fmt: skip
    everyone = [row[0] for row in by_strategy]
    return ReportData(
        run=RunCard(
            run_id="demo-20261122-153104-7f3a",
            engine="NautilusTrader",
            engine_version="1.221.0",
            mode="backtest",
            status="Ended",
            started_at=WALL,
            ended_at=WALL + 4_213_884_120,
            simulated_from=START,
            simulated_to=START + 1400 * DAY,
            portfolios=(EQUITIES, FX),
            strategies=(*everyone, "EuroCarry-005"),
            events=sum(row.published for row in completeness),
            orders=sum(row[2] for row in orders),
            fills=427,
            trades=176,
            fillpath_version="0.1.0",
            lake_path="./.fillpath/lake",
        ),
        accounts=(
            Account(
                EQUITIES,
                "USD",
                AccountFigures(
                    D("100000.00"),
                    D("4955.50"),
                    D("338.40"),
                    D("104617.10"),
                    unrealized=D("189.50"),
                ),
                EngineFigures(D("100000.00"), D("4955.50"), D("338.40"), D("104617.10")),
                "SIM-001",
                Evidence(traces[-1].trace_id),
            ),
            Account(
                FX,
                "EUR",
                AccountFigures(
                    D("50000.00"),
                    D("-220.11"),
                    D("61.37"),
                    D("49718.52"),
                    unrealized=D("14.80"),
                ),
                EngineFigures(D("50000.00"), D("-220.11"), D("61.37"), D("49718.52")),
                "FXCM-001",
            ),
        ),
        completeness=tuple(completeness),
        equity=(
            a_series(EQUITIES, "USD", "100000.00", "104617.10", 1_500),
            a_series(FX, "EUR", "50000.00", "49718.52", 300),
        ),
        pnl_totals={"USD": amounts(*equities), "EUR": amounts(*fx)},
        pnl_by_portfolio=(
            a_row("USD", equities, portfolio=EQUITIES, trades=141),
            a_row("EUR", fx, portfolio=FX, trades=35),
        ),
        pnl_by_strategy=(
            *(
                a_row("USD", parts, portfolio=EQUITIES, strategy=strategy, trades=count)
                for strategy, _, parts, count in by_strategy
            ),
            a_row("EUR", fx, portfolio=FX, strategy="EuroCarry-005", trades=35),
        ),
        pnl_by_symbol=(
            a_row(
                "USD",
                ("4278.25", "310.00", "237.60", "-0.01"),
                portfolio=EQUITIES,
                symbol="AAPL",
                trades=99,
            ),
            a_row("USD", by_strategy[2][2], portfolio=EQUITIES, symbol="GOOG", trades=26),
            a_row("USD", by_strategy[3][2], portfolio=EQUITIES, symbol="IBM", trades=16),
            a_row("EUR", fx, portfolio=FX, symbol="EUR/USD", trades=35),
        ),
        funnel=tuple(
            FunnelRow(
                FX if strategy == "EuroCarry-005" else EQUITIES,
                strategy,
                signals=160 - 21 * place,
                with_order=120 - 19 * place,
                orders=126 - 18 * place,
                denied=(0, 9, 0, 3, 0)[place],
                filled=104 - 16 * place,
                publishes_signals=place != 3,
                evidence=Evidence(traces[place].trace_id),
            )
            for place, strategy in enumerate((*everyone, "EuroCarry-005"))
        ),
        orders=tuple(
            OrderCount(kind, status, count, Evidence(an_id(kind, status)))
            for kind, status, count in orders
        ),
        largest_trades=tuple(trades),
        traces=tuple(traces),
        command=("fillpath", "--data", "./.fillpath"),
        made_at=WALL + 60 * SECOND,
        sections=tuple(
            replace(filled, model=latency) if filled.section.key == "latency" else filled
            for filled in ALWAYS
        ),
    )


def hostile(data: ReportData) -> ReportData:
    """Return the same data with every name in it replaced by one that wants to break out.

    Names that were equal stay equal and others stay apart. Only trace ids stay what they are, and
    the words whose meaning decides what is shown.
    """
    names: dict[str, str] = {}
    kept = {"Ended", "PRODUCER", "CONSUMER", "ORDER"}

    def other(name: str) -> str:
        if name in kept or len(name) == 32:
            return name
        return names.setdefault(name, f"{HOSTILE[len(names) % len(HOSTILE)]}{len(names)}")

    def walk(value: Any) -> Any:
        if isinstance(value, Section):
            return value  # ours, whatever the run is called
        if isinstance(value, str):
            return other(value)
        if isinstance(value, tuple):
            return tuple(map(walk, value))
        if isinstance(value, dict):
            return {walk(key): walk(entry) for key, entry in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            new = {field.name: walk(getattr(value, field.name)) for field in fields(value)}
            return replace(value, **new)
        return value

    result: ReportData = walk(data)
    return result


def trade_rows(count: int, names: Sequence[str] = ("AAPL", "GOOG", "IBM")) -> list[dict[str, Any]]:
    """Return rows as `results/report_trades.sql` gives them, the largest results first."""
    chance = random.Random(count)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        entry = START + number * 3_600 * SECOND + chance.randrange(2) * 123_456_789
        is_open = number % 37 == 5
        trace = f"3fad3d{0:016}{{:010x}}"
        pnl = D(chance.randrange(-900_000, 1_000_000)) / 100
        commission = D(chance.randrange(0, 900)) / 100
        rows.append(
            {
                "portfolio": EQUITIES if number % 5 else FX,
                "strategy": None if number % 41 == 3 else f"Strategy-{number % 7}",
                "symbol": names[number % len(names)],
                "direction": "LONG" if number % 3 else "SHORT",
                "quantity": D(chance.randrange(1, 5_000)),
                "entry_time": entry,
                "entry_price": D(chance.randrange(10_000, 99_000)) / 100,
                "exit_time": None if is_open else entry + chance.randrange(1, 10**6) * SECOND,
                "exit_price": None if is_open else D(chance.randrange(10_000, 99_000)) / 100,
                "pnl": pnl,
                "commission": commission,
                "net": pnl - commission,
                "currency": "USD" if number % 5 else "EUR",
                "exit_reason": None if is_open else ("stop", "limit", "signal")[number % 3],
                "entry_trace_id": trace.format(number),
                "exit_trace_id": None if is_open else trace.format(number + 7 * (number % 2)),
            }
        )
    return sorted(rows, key=lambda row: -abs(row["net"]))


def attribution_rows(names: Sequence[str] = ("Trend", "Mean", "Pairs")) -> list[dict[str, Any]]:
    """Return rows as `results/pnl_breakdowns.sql` gives them, every breakdown right."""
    amounts = {
        (name, kind): D(number * 1_117 - 900 * (kind == "commission")) / 100
        for number, name in enumerate(names, 1)
        for kind in ("realized", "unrealized", "commission")
    }
    rows: list[tuple[str, str | None, str, Decimal]] = []
    for dimension in ("strategy", "symbol", "regime"):
        for (name, kind), amount in amounts.items():
            rows.append((dimension, name, kind, amount))
    for kind in ("realized", "unrealized", "commission"):
        amount = sum((a for (_, k), a in amounts.items() if k == kind), D(0))
        rows.append(("total", None, kind, amount))
    return [
        {
            "dimension": dimension,
            "name": name,
            "currency": "USD",
            "kind": kind,
            "amount": amount,
            "slices": 3,
            "trace_id": an_id(dimension, name, kind),
            "size": abs(amount),
        }
        for dimension, name, kind, amount in rows
    ]


class Rows:
    """Stands for the results where a section only reads rows: what it is given, by query."""

    def __init__(self, **queries: list[dict[str, Any]]) -> None:
        self.queries = queries

    def read(self, query: str, **_: object) -> list[dict[str, Any]]:
        return self.queries[query]


def with_sections(data: ReportData, trades: int = 300, names: Sequence[str] = ()) -> ReportData:
    """Return the data with the sections that read for themselves filled."""
    total = sum((row["amount"] for row in attribution_rows() if row["dimension"] == "total"), D(0))
    ends = {"currency": "USD", "start_equity": D(1000), "trace_id": an_id("end")}
    rows = Rows(
        pnl_breakdowns=attribution_rows(names or ("Trend", "Mean", "Pairs")),
        equity_ends=[ends | {"end_equity": D(1000) + total}],
        transfers=[],
        report_trades=trade_rows(trades, names or ("AAPL", "GOOG", "IBM")),
        counts=[{"orders": 1, "fills": 1, "trades": trades}],
    )
    run: Any = data.run
    source: Any = SimpleNamespace(results=rows, run=run)
    sections = []
    for section in SECTIONS:
        always = next((one for one in data.sections if one.section is section), None)
        if section.key in {"attribution", "all-trades"}:
            sections.append(FilledSection(section, section.read(source)))
        elif always is not None:
            sections.append(always)
    return replace(data, sections=tuple(sections))
