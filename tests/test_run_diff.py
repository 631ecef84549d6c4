"""Two runs compared: the first event at which they part, against loops over plain lists."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics import cli
from fillpath.analytics.compared_runs import ComparedRuns, PartingEvent, _Partings, compare_events
from fillpath.analytics.diff_counts import count_differences
from fillpath.analytics.pnl_effect import PnlComparison, PnlEffect
from fillpath.analytics.run_cards import compared_kinds
from fillpath.exporters import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import EXIT_DIFFERENT, EXIT_NOT_FOUND, EXIT_OK

sys.path.insert(0, str(Path(__file__).parent))

from made_runs import SECOND, MadeEvent, connect, hold
from recorded_market import Market

LAKE = connect()
SLOWER = ('"quick-trend", 5', '"quick-trend", 7')
EXAMPLES = Path(__file__).parents[1] / "examples"
Events = list[MadeEvent]


def compare(a: Events, b: Events, **options: Any) -> ComparedRuns:
    hold(LAKE, {"a": a, "b": b})
    return compare_events((LAKE, "a"), (LAKE, "b"), **options)


def trading(seed: int, events: int = 60, names: int = 0) -> Events:
    """Make up a run: bars, signals, orders, fills; equal seeds are equal runs but for names."""
    market, ids = random.Random(seed), random.Random(f"{seed} {names}")
    made: Events = []
    orders: list[MadeEvent] = []
    while len(made) < events:
        time = (len(made) // 5 + 1) * SECOND
        symbol = market.choice(["ACME", "INIT"])
        columns = {"symbol": symbol, "event_time": time}
        bar = MadeEvent("BAR", {**columns, "price": float(market.randint(95, 105))})
        made.append(bar)
        for strategy in market.sample(["trend", "mean"], market.randint(0, 2)):
            own = {**columns, "strategy": strategy}
            value = market.randint(-1, 1)
            signal = MadeEvent("SIGNAL", own, bar, f"{strategy}.on_bar", {"app.value": value})
            name = str(UUID(int=ids.getrandbits(128)))
            order = MadeEvent("ORDER", {**own, "client_order_id": name, "side": "BUY"}, signal)
            made += [signal, order]
            orders.append(order)
        if orders and market.random() < 0.6:
            order = market.choice(orders)
            fill = {
                **order.columns,
                "event_time": time,
                "fill_id": f"F-{ids.getrandbits(40)}",
                "price": bar.columns["price"],
                "quantity": 10.0,
            }
            made.append(MadeEvent("FILL", fill, order, links=[bar]))
            opened = {"trading.position.opening_order_id": order.columns["client_order_id"]}
            made.append(MadeEvent("POSITION_OPEN", {"event_time": time}, made[-1], None, opened))
    return made


class Reference:
    """Compares two lists of events with plain loops, lane by lane."""

    def __init__(self, a: Events, b: Events) -> None:
        self.a, self.b = a, b
        self.lanes_a, self.lanes_b = self._lanes(a), self._lanes(b)

    def partings(self) -> dict[tuple[Any, ...], int]:
        """Position at which each lane parts that does, ids aside."""
        found = {}
        for lane in {*self.lanes_a, *self.lanes_b}:
            ours, theirs = self.lanes_a.get(lane, []), self.lanes_b.get(lane, [])
            for position in range(max(len(ours), len(theirs))):
                if position >= min(len(ours), len(theirs)) or not self._same(
                    ours[position], theirs[position]
                ):
                    found[lane] = position
                    break
        return found

    @staticmethod
    def _lanes(events: Events) -> dict[tuple[Any, ...], Events]:
        lanes = defaultdict(list)
        for event in events:
            lanes[Reference.lane(event)].append(event)
        return lanes

    @staticmethod
    def lane(event: MadeEvent) -> tuple[Any, ...]:
        return event.columns.get("strategy"), event.columns.get("symbol")

    def _same(self, one: MadeEvent, other: MadeEvent) -> bool:
        cause, other_cause = self._known(self.a, one.cause), self._known(self.b, other.cause)
        links = [link for link in one.links if self._known(self.a, link)]
        other_links = [link for link in other.links if self._known(self.b, link)]
        if said(one) != said(other) or len(links) != len(other_links):
            return False
        if cause is not None and one.handler != other.handler:
            return False
        pairs = [(cause, other_cause), *zip(links, other_links, strict=True)]
        return all(self._same_place(*pair) for pair in pairs)

    @staticmethod
    def _known(events: Events, wanted: MadeEvent | None) -> MadeEvent | None:
        return wanted if any(event is wanted for event in events) else None

    def _same_place(self, one: MadeEvent | None, other: MadeEvent | None) -> bool:
        if one is None or other is None:
            return one is other
        place = self._place(self.lanes_a, one)
        if place[1] >= len(self.lanes_b.get(place[0], [])):
            return True  # its lane has parted
        return place == self._place(self.lanes_b, other)

    def _place(
        self, lanes: dict[tuple[Any, ...], Events], event: MadeEvent
    ) -> tuple[tuple[Any, ...], int]:
        lane = self.lane(event)
        return lane, next(n for n, one in enumerate(lanes[lane]) if one is event)


def said(event: MadeEvent) -> tuple[Any, ...]:
    """What an event says, without ids."""
    columns = {k: v for k, v in event.columns.items() if not k.endswith("_id")}
    attributes = {k: v for k, v in event.attributes.items() if not k.endswith("_id")}
    return event.event_type, sorted(columns.items()), sorted(attributes.items())


def first_in_order(a: Events, b: Events) -> int | None:
    """The first place at which two lists differ, one event after the other, ids one to one."""
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for place in range(max(len(a), len(b))):
        if place >= min(len(a), len(b)):
            return place
        one, other = a[place], b[place]
        causes = [
            next((n for n, e in enumerate(events) if e is event.cause), None)
            for events, event in ((a, one), (b, other))
        ]
        if said(one) != said(other) or causes[0] != causes[1] or one.handler != other.handler:
            return place
        for key in ("client_order_id", "fill_id"):
            ours, theirs = one.columns.get(key), other.columns.get(key)
            if ours is None or theirs is None:
                if ours is not theirs:
                    return place
                continue
            mine, yours = f"{key}/{ours}", f"{key}/{theirs}"
            if there.setdefault(mine, yours) != yours or back.setdefault(yours, mine) != mine:
                return place
    return None


@pytest.mark.smoke
def test_runs_that_differ_in_ids_clocks_and_traces_only_are_identical() -> None:
    a, b = trading(1), trading(1, names=1)
    found = compare(a, b)
    assert found.identical
    assert found.diff.renamed
    assert count_differences(found.diff).differing == 0
    assert first_in_order(a, b) is None


def altered(events: Events, how: str, place: int) -> Events:
    """Alter one event of a run."""
    events = list(events)
    event = events[place]
    if how == "tick":
        event.columns = {**event.columns, "price": (event.columns.get("price") or 0.0) + 0.01}
    elif how == "attribute":
        event.attributes = {**event.attributes, "app.note": "other"}
    elif how == "removed":
        del events[place]
    elif how == "doubled":
        events.insert(place + 1, copy.copy(event))
    elif how == "parent":
        event.cause = events[0] if place and event.cause is not events[0] else None
    elif how == "handler":
        event.cause, event.handler = event.cause or events[0], "Other.on_event"
    elif how == "id":
        event.columns = {**event.columns, "client_order_id": "another"}
    return events


@pytest.mark.parametrize("how", ["tick", "attribute", "removed", "doubled", "parent", "handler"])
@pytest.mark.parametrize("place", [1, 17, -1])
def test_one_altered_event_is_found_where_it_is(how: str, place: int) -> None:
    a, b = trading(2), trading(2, names=1)
    place %= len(a)
    b = altered(b, how, place)
    found = compare(a, b)
    assert found.first is not None
    assert found.first.number == place + 1 + (how == "doubled")
    ways = {"removed": "only_a", "doubled": "only_b", "parent": "cause", "handler": "cause"}
    assert found.first.how == ways.get(how, "changed")
    if how == "tick":
        assert [field.name for field in found.first.fields] == ["price"]


def test_an_order_whose_fill_names_another_order_is_a_difference_of_its_own() -> None:
    a, b = trading(3), trading(3, names=1)
    fills = [n for n, event in enumerate(b) if event.event_type == "FILL"]
    b = altered(b, "id", fills[2])
    found = compare(a, b)
    assert found.first is not None
    assert (found.first.how, found.first.number) == ("ids", fills[2] + 1)
    assert first_in_order(a, b) == fills[2]


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(["tick", "attribute", "removed", "doubled", "parent", "id"]),
    share=st.floats(0, 0.999),
)
def test_random_runs_part_where_a_loop_over_their_events_says(
    seed: int, how: str, share: float
) -> None:
    a, b = trading(seed, 30), trading(seed, 30, names=1)
    b = altered(b, how, int(share * len(b)))
    found = compare(a, b)
    expected = first_in_order(a, b)
    assert (None if found.first is None else found.first.number - 1) == expected


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_every_lane_parts_where_a_loop_over_it_says(one: int, other: int) -> None:
    """Runs that have little in common: bars of one, orders of the other."""
    mixer = random.Random(one)
    a, b = trading(one % 7, 25), trading(one % 7 if other % 3 else other, 25, names=2)
    for _ in range(other % 4):
        hows = ["tick", "removed", "doubled", "parent", "attribute"]
        b = altered(b, mixer.choice(hows), mixer.randrange(len(b)))
    found = compare(a, b)
    reference = Reference(a, b).partings()
    partings = [(one, (one.event.strategy, one.event.symbol)) for one in read_all(found)]
    parted = {lane: one.position for one, lane in partings if one.how != "ids"}
    # Where two lanes part at once, one event may have taken the place of the other.
    clashes = {
        (event.strategy, event.symbol)
        for one, _ in partings
        for event in (one.a, one.b)
        if event is not None and one.how in {"ids", "replaced"}
    }
    found_by_loop = {lane: at for lane, at in reference.items() if lane not in clashes}
    assert found_by_loop == {lane: at for lane, at in parted.items() if lane not in clashes}
    counts = found.counts
    assert sum(kind.a for kind in counts.kinds) == len(a)
    assert all(k.a == k.same + k.changed + k.only_a for k in counts.kinds)
    assert all(k.b == k.same + k.changed + k.only_b for k in counts.kinds)


def read_all(found: ComparedRuns) -> Sequence[PartingEvent]:
    """Read where every lane parts."""
    return _Partings(LAKE, LAKE, found.diff).read(list(found.diff.lanes))


def test_threads_may_interleave_as_they_like() -> None:
    a = trading(5)
    b = trading(5, names=1)
    lanes: dict[tuple[Any, ...], Events] = defaultdict(list)
    for event in b:
        lanes[Reference.lane(event)].append(event)
    mixed: Events = []
    scheduler = random.Random(1)
    while len(mixed) < len(b):
        ready = [
            lane
            for lane, events in lanes.items()
            if events and causes_of(events[0]) <= {id(event) for event in mixed}
        ]
        mixed.append(lanes[scheduler.choice(ready)].pop(0))
    assert [id(event) for event in mixed] != [id(event) for event in b]
    assert compare(a, mixed).identical


def causes_of(event: MadeEvent) -> set[int]:
    causes = event.links if event.cause is None else [event.cause, *event.links]
    return {id(cause) for cause in causes}


def test_the_end_of_the_shorter_run_is_the_first_difference() -> None:
    a, b = trading(6), trading(6, names=1)
    cut = 31
    found = compare(a, b[:cut])
    assert found.first is not None
    assert (found.first.how, found.first.number) == ("only_a", cut + 1)
    assert found.ways is not None
    assert found.ways[0].holds_event
    assert not found.ways[1].holds_event
    assert compare(a[:cut], b).first is not None
    assert compare([], []).identical
    nothing = compare([], b)
    assert nothing.first is not None
    assert (nothing.first.how, nothing.first.number) == ("only_b", 1)


def test_what_led_to_the_difference_is_shown_of_both_runs() -> None:
    a, b = trading(7), trading(7, names=1)
    place = next(n for n, event in enumerate(b) if event.event_type == "FILL")
    b = altered(b, "tick", place)
    found = compare(a, b)
    assert found.ways is not None
    for way in found.ways:
        kinds = [span.event_type for span in way.spans]
        assert kinds == ["BAR", "DELIVERY", "SIGNAL", "ORDER", "FILL"]
        assert way.left_out == 0


def test_a_deep_chain_is_cut_in_its_middle() -> None:
    chain: Events = []
    for number in range(3000):
        columns = {"symbol": "ACME", "event_time": (number + 1) * SECOND}
        chain.append(MadeEvent("ORDER", columns, chain[-1] if chain else None))
    other = copy.deepcopy(chain)
    other[-1].columns["price"] = 1.0
    found = compare(chain, other)
    assert found.first is not None
    assert found.first.number == 3000
    assert found.ways is not None
    assert len(found.ways[0].spans) + found.ways[0].left_out == 3000
    assert found.ways[0].spans[0].sequence == 1


def test_numbers_are_compared_by_value_and_a_tolerance_is_kept() -> None:
    def one(**attributes: Any) -> Events:
        return [MadeEvent("FEATURES", {"symbol": "ACME", "event_time": 1}, None, None, attributes)]

    assert compare(one(x="100.50"), one(x="100.5")).identical
    assert compare(one(x=100), one(x="100.0")).identical
    assert not compare(one(x="100.5"), one(x="100.51")).identical
    assert not compare(one(x="yes"), one(x=True)).identical
    near = one(x=0.1 + 0.2), one(x=0.3)
    assert not compare(*near).identical
    assert compare(*near, tolerance=1e-9).identical
    assert not compare(one(x=1e6), one(x=1e6 + 0.01), tolerance=1e-9).identical
    assert not compare(one(x="1e999999999"), one(x="2e999999999"), tolerance=0.5).identical


def test_ignored_keys_and_kinds_do_not_count() -> None:
    a, b = trading(8), trading(8, names=1)
    for event in b:
        if event.event_type == "SIGNAL":
            event.attributes = {**event.attributes, "app.load": random.random()}
        event.columns = {**event.columns, "event_time": event.columns["event_time"] + 1}
    assert compare(a, b).first is not None
    ignored = ["app.load", "event_time"]
    assert compare(a, b, ignored=ignored).identical
    b = altered(b, "tick", next(n for n, event in enumerate(b) if event.event_type == "FILL"))
    found = compare(a, b, ignored=ignored)
    assert found.first is not None
    assert found.first.event.event_type == "FILL"
    assert compare(a, b, ignored=ignored, kinds=["BAR", "SIGNAL"]).identical
    assert not compare(a, b, ignored=ignored, kinds=["FILL"]).identical


def test_an_event_of_another_strategy_takes_the_place_of_the_first() -> None:
    a, b = trading(9), trading(9, names=1)
    place = next(n for n, event in enumerate(b) if event.event_type == "SIGNAL")
    b[place].columns = {**b[place].columns, "strategy": "another"}
    found = compare(a, b)
    assert found.first is not None
    assert (found.first.how, found.first.number) == ("replaced", place + 1)
    assert [field.name for field in found.first.fields] == ["strategy"]


def test_a_host_that_names_everything_anew_is_the_same() -> None:
    def run(name: Callable[[int], str]) -> Events:
        made: Events = []
        for number in range(8):
            columns = {"symbol": "ACME", "event_time": number + 1, "position_id": name(number % 3)}
            attributes = {
                "trading.order.linked_ids": [name(number), name(number + 1)],
                "app.parent_ref": f"after {UUID(int=hash(name(number)) % 2**100)}",
                "app.basket_id": number % 2 if name(0) == "n0" else f"basket {number % 2}",
                "trading.account.id": "SIM-1",
            }
            made.append(MadeEvent("ORDER", columns, None, None, attributes))
        return made

    a, b = run(lambda n: f"n{n}"), run(lambda n: f"m{n * 7}")
    assert compare(a, b).identical
    b[5].attributes["trading.order.linked_ids"] = ["m0", "m1", "m2"]
    longer = compare(a, b)
    assert longer.first is not None
    assert longer.first.number == 6
    b = run(lambda n: f"m{n * 7}")
    b[3].attributes["trading.account.id"] = "SIM-2"
    account = compare(a, b)
    assert account.first is not None
    assert [field.name for field in account.first.fields] == ["trading.account.id"]


def test_only_what_both_runs_kept_is_compared() -> None:
    def run(policy: dict[str, Any] | None, **sampled: int) -> dict[str, Any]:
        rows = [
            {"event_type": kind, "portfolio": "p", "sampled_out": sampled.get(kind, 0)}
            for kind in ("BAR", "FILL", "SIGNAL", "TICK")
        ]
        metadata = {} if policy is None else {"sampling": policy}
        return {"status": "Ended", "completeness": rows, "metadata": metadata}

    policy = {"rate": 0.1, "critical_kinds": ["FILL", "SIGNAL"]}
    whole, sampled = run(None), run(policy, BAR=3, SIGNAL=1)
    assert compared_kinds(whole, whole).kinds is None
    both = compared_kinds(sampled, sampled)
    assert both.kinds == {"FILL": True, "SIGNAL": False, "TICK": True}
    one = compared_kinds(whole, sampled)
    assert one.kinds == {"FILL": True, "TICK": True}
    assert any("BAR" in note for note in one.notes)
    other = compared_kinds(run({"rate": 0.2}, SIGNAL=1), sampled)
    assert other.kinds == {"FILL": True, "TICK": True}
    assert compared_kinds(whole, sampled, ["FILL"]).kinds == {"FILL": True}


def test_a_sampled_run_is_the_same_as_the_whole_one(tmp_path: Path) -> None:
    kept: dict[str, Literal["all", "policy"]] = {"whole": "all", "sampled": "policy"}
    for name, sampling in kept.items():
        with Tracing(name, data=tmp_path, writer="inline", lake_sampling=sampling) as tracing:
            market = Market(tracing)
            for number in range(40):
                market.bar(str(100 + number % 7))
            market.trade()
            market.finish()
    store = EventStore(tmp_path)
    with store.connect(further_views=()) as connection:
        found = compare_events((connection, "whole"), (connection, "sampled"))
    assert found.identical
    assert len(found.diff.a) < found.a["kept"]
    assert any("BAR" in note for note in found.notes)


def engine_script(folder: Path, *changes: tuple[str, str]) -> Path:
    """Copy the example engine with orders and fills named at random, and changes of the source."""
    folder.mkdir()
    source = (EXAMPLES / "home_made_bus.py").read_text(encoding="utf-8")
    for old, new in (("next(ids)", "__import__('uuid').uuid4()"), *changes):
        assert old in source
        source = source.replace(old, new)
    (folder / "home_made_bus.py").write_text(source, encoding="utf-8")
    script = folder / "trace.py"
    script.write_text((EXAMPLES / "trace_home_made_bus.py").read_text("utf-8"), "utf-8")
    return script


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of the home-made engine: two are the same, one has another parameter."""
    folder = tmp_path_factory.mktemp("engines")
    scripts = {
        "first": engine_script(folder / "same"),
        "again": folder / "same" / "trace.py",
        "other": engine_script(folder / "other", SLOWER),
    }
    for run_id, script in scripts.items():
        record(script, folder / "data", run_id)
    return folder / "data"


def record(script: Path, data: Path, run_id: str) -> None:
    environment = {
        "FILLPATH_DATA": str(data),
        "FILLPATH_RUN_ID": run_id,
        "FILLPATH_WRITER": "inline",
    }
    subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True)


def diff(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> tuple[int, Any]:
    code = cli.main(["--data", str(data), "runs", "diff", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.smoke
def test_an_engine_that_runs_twice_is_identical(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = diff(capsys, engines, "first", "again")
    assert code == EXIT_OK
    assert document["identical"] is True
    assert document["first_difference"] is None
    assert document["renamed_ids"] > 500
    assert cli.main(["--data", str(engines), "runs", "diff", "first", "first"]) == EXIT_OK
    assert "identical" in capsys.readouterr().out


def plain_rows(data: Path, run_id: str) -> list[tuple[Any, ...]]:
    """The events of a run as a user would read them, without ids."""
    query = (
        "SELECT event_type, event_time, strategy, symbol, side, order_type, status, quantity, "
        "price, commission, attributes ->> '$.\"trading.signal.value\"', span_id FROM spans "
        f"WHERE run_id = '{run_id}' AND span_kind = 'PRODUCER' ORDER BY sequence"
    )
    return list(EventStore(data).query(query).rows)


def test_another_parameter_shows_where_it_first_matters(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = plain_rows(engines, "first"), plain_rows(engines, "other")
    place = next(
        n for n, (one, other) in enumerate(zip(a, b, strict=False)) if one[:-1] != other[:-1]
    )
    code, document = diff(capsys, engines, "first", "other", "--no-pnl")
    assert code == EXIT_DIFFERENT
    assert document["pnl"] is None
    first = document["first_difference"]
    assert first["number"] == place + 1
    shown = first["a"] or first["b"]
    rows = a if first["a"] else b
    assert shown["span_id"] == rows[place][-1]
    assert shown["strategy"] == "quick-trend"
    chain = first["chain_a" if first["a"] else "chain_b"]["spans"]
    assert chain[0]["event_type"] == "BAR"
    assert chain[-1]["span_id"] == shown["span_id"]


def test_the_effect_on_profit_adds_up(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, document = diff(capsys, engines, "first", "other")
    pnl = document["pnl"]
    (total,) = pnl["totals"]
    for rows in (pnl["rows"], pnl["by_strategy"]):
        for column in ("a", "b", "change"):
            assert sum(Decimal(row[column]) for row in rows) == Decimal(total[column])
    assert Decimal(total["b"]) - Decimal(total["a"]) == Decimal(total["change"]) != 0
    for run_id, column in (("first", "a"), ("other", "b")):
        assert profit_by_hand(engines, run_id) == Decimal(total[column])


def profit_by_hand(data: Path, run_id: str) -> Decimal:
    """Cash that the fills brought, and what is held at the last close."""
    cash = Decimal(0)
    held: dict[str, Decimal] = defaultdict(Decimal)
    close: dict[str, Decimal] = {}
    for kind, _, _, symbol, side, _, _, quantity, price, commission, *_ in plain_rows(data, run_id):
        if kind == "BAR":
            close[symbol] = price
        elif kind == "FILL":
            signed = quantity if side == "BUY" else -quantity
            cash -= signed * price + commission
            held[symbol] += signed
    return cash + sum((number * close[symbol] for symbol, number in held.items()), Decimal(0))


def test_a_run_that_is_not_there_is_told(engines: Path) -> None:
    assert cli.main(["--data", str(engines), "runs", "diff", "first", "nobody"]) == EXIT_NOT_FOUND


def test_runs_of_two_lakes_are_compared(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracing("elsewhere", data=tmp_path, writer="inline") as tracing:
        market = Market(tracing)
        market.trade()
        market.finish()
    words = ("first", "elsewhere", "--data-b", str(tmp_path), "--no-pnl")
    code, document = diff(capsys, engines, *words)
    assert code == EXIT_DIFFERENT
    assert document["b"]["run_id"] == "elsewhere"
    code, document = diff(capsys, tmp_path, "elsewhere", "elsewhere", "--data-b", str(tmp_path))
    assert (code, document["identical"]) == (EXIT_OK, True)


def test_sums_of_profit_keep_every_digit() -> None:
    rows = tuple(
        PnlEffect("p", strategy, symbol, "USD", Decimal(a), Decimal(b))
        for strategy, symbol, a, b in (
            ("x", "A", "0.1", "1e20"),
            ("x", "B", "0.2", "1e-15"),
            (None, "A", "-5", "0"),
        )
    )
    found = PnlComparison(rows)
    (total,) = found.totals()
    assert total.a == Decimal("-4.7")
    assert total.change == Decimal("100000000000000000004.700000000000001")
    assert [row.strategy for row in found.by_strategy()] == [None, "x"]


def test_the_page_shows_what_the_commands_print(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (EXAMPLES.parent / "docs" / "comparing-runs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (shown,) = [text for kind, text in blocks if kind == "text"]
    (commands,) = [text for kind, text in blocks if "--run-id" in text]
    assert re.findall(r"s/(.*?)/(.*?)/", commands) == [SLOWER]
    # An option behind the script would be the script's own.
    for command in commands.splitlines():
        if "--run-id" in command:
            assert re.fullmatch(r"fillpath run --run-id \w+ examples/\w+\.py", command)
    words = ["--data", str(engines), "runs", "diff", "first", "other", "--no-pnl"]
    assert cli.main(words) == EXIT_DIFFERENT
    printed = re.sub(r"  \+[\d.,]+ \S+s", "", capsys.readouterr().out)
    lines = [line for line in printed.splitlines() if "trace show" not in line]
    assert shown.strip() in "\n".join(lines)
