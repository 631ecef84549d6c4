"""Sampling a run: whatever is kept has its ancestors, and every way of asking gives one answer."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters import sequence_memory
from fillpath.exporters.batch_judge import BatchJudge, places_of
from fillpath.exporters.batch_sampling import BatchSampling
from fillpath.exporters.completeness import Completeness, totals
from fillpath.exporters.event_batch import CODE_OF, REASONS, EventBatch, row_attributes
from fillpath.exporters.site_table import SiteTable, meanings_of_numbers
from fillpath.exporters.spool_events import RecordedEvent
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import CriticalWhen, EventSampler
from fillpath.instrumentation.id_share import place_of
from fillpath.instrumentation.sampling_stream import Place, SamplingStream, price_of
from fillpath.instrumentation.semconv import (
    CRITICAL_EVENT_TYPES,
    PROCESS,
    PUBLISH,
    Bar,
    EventType,
    Signal,
    Tick,
)
from fillpath.instrumentation.signal_meaning import meaning_of, meaning_of_number
from fillpath.instrumentation.spool import FLAGS_SHIFT, NO_TIME, Field, FieldKind, Flag, Site

RUN = "sampled-run"
KEY = identity.run_key(RUN)
SECOND = 1_000_000_000
PRICE = Field(Bar.CLOSE, FieldKind.DECIMAL, 2)
SEEDS = st.integers(0, 2**32)
RATES = st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])


@dataclass(frozen=True)
class Record:
    """A row of an EVENTS block, with its side record."""

    sequence: int
    parent: int
    root: int
    site: Site
    event_time: int = NO_TIME
    numbers: tuple[float, ...] = ()
    flags: int = 0
    side: dict[str, Any] | None = None

    @property
    def ends(self) -> bool:
        return bool(self.flags & Flag.FINISH)

    @property
    def attributes(self) -> dict[str, Any]:
        return row_attributes(self.site, self.flags, self.numbers, self.side)

    @property
    def place(self) -> Place:
        return Place(self.site.portfolio, self.site.symbol, self.site.strategy)


@dataclass
class Made:
    """A made-up run: its records as they would stand in a spool."""

    records: list[Record] = field(default_factory=list)
    sites: dict[int, Site] = field(default_factory=dict)
    _numbers: dict[tuple[Any, ...], Site] = field(default_factory=dict)

    def site(self, *parts: Any, fields: tuple[Field, ...] = (), texts: Any = ()) -> Site:
        key = (parts, fields, texts)
        if key not in self._numbers:
            operation, kind, portfolio, strategy, symbol = parts
            made = Site(
                len(self.sites) + 1,
                operation,
                kind,
                portfolio,
                strategy,
                symbol,
                fields=fields,
                texts=texts,
            )
            self._numbers[key] = self.sites[made.number] = made
        return self._numbers[key]

    @property
    def begun(self) -> dict[int, Record]:
        return {record.sequence: record for record in self.records if not record.ends}


def random_run(seed: int, size: int = 400) -> Made:
    """Make a run up: causes near and far, ended or going on, calm and wild markets."""
    chance = random.Random(seed)
    run = Made()
    roots: dict[int, int] = {}
    ending: dict[int, list[Record]] = {}
    prices: dict[str, float] = {}
    now = 1_700_000_000 * SECOND
    portfolios = ["a", "b/c"][: chance.randint(1, 2)]
    symbols: list[str | None] = ["X", "Y", None][: chance.randint(1, 3)]
    lively = chance.random()
    for sequence in range(1, size + 1):
        parent = 0
        if sequence > 1 and chance.random() < 0.7:
            near = max(1, sequence - 4) if chance.random() < 0.9 else 1
            parent = chance.randint(near, sequence - 1)
        roots[sequence] = roots.get(parent, sequence)
        now += chance.choice([0, 1, 60]) * SECOND if chance.random() < 0.95 else 9_000 * SECOND
        place = (
            chance.choice(portfolios),
            chance.choice(["S", "T", None]),
            chance.choice(symbols),
        )
        bare = Record(sequence, parent, roots[sequence], run.site(PROCESS, "", *place), now)
        record = _random_record(chance, run, bare, prices, lively, place)
        after = chance.choice([0, 0, 0, 1, 5, 90, None])
        failing = Flag.ERROR if chance.random() < 0.02 else 0
        if after == 0:
            run.records.append(_with(record, flags=record.flags | failing))
        else:
            run.records.append(_with(record, flags=record.flags | Flag.BEGIN))
            if after is not None:
                ended = _with(record, flags=Flag.FINISH | failing, side=None)
                ending.setdefault(sequence + after, []).append(ended)
        run.records += ending.pop(sequence, ())
    for last in sorted(ending):
        run.records += ending[last]
    return run


def _with(record: Record, **parts: Any) -> Record:
    return Record(**{**vars(record), **parts})


def _random_record(
    chance: random.Random,
    run: Made,
    bare: Record,
    prices: dict[str, float],
    lively: float,
    place: tuple[str, str | None, str | None],
) -> Record:
    kind = chance.choices(
        [EventType.BAR, EventType.TICK, EventType.FEATURES, EventType.SIGNAL, EventType.ORDER, "X"],
        [30, 20, 20, 8, 1, 3],
    )[0]
    time = bare.event_time if chance.random() < 0.97 else NO_TIME
    numbers: tuple[float, ...] = ()
    side: dict[str, Any] | None = None
    flags = 0
    fields: tuple[Field, ...] = ()
    texts: tuple[tuple[str, Any], ...] = ()
    if chance.random() < 0.15:
        return _with(bare, site=run.site(PROCESS, kind, *place))
    if kind in (EventType.BAR, EventType.TICK):
        symbol = str(place[2])
        step = chance.gauss(0, 1) * (20 if chance.random() < lively / 20 else 1)
        prices[symbol] = prices.get(symbol, 10_000.0) + round(step * 10)
        cents = prices[symbol]
        if chance.random() < 0.1:
            side = {Bar.CLOSE if kind == EventType.BAR else Tick.BID: Decimal(int(cents)) / 100}
        else:
            key = Bar.CLOSE if kind == EventType.BAR else chance.choice([Tick.PRICE, Tick.BID])
            fields, numbers = (Field(key, FieldKind.DECIMAL, 2), Field("x")), (cents, 1.5)
            flags = Flag.ABSENT if chance.random() < 0.05 else 0
    elif kind == EventType.SIGNAL:
        value = chance.choice([0, 0, 1, -1])
        texts = ((Signal.NAME, "trend"),) if chance.random() < 0.8 else ()
        way = chance.random()
        if way < 0.6:
            fields, numbers = (Field(Signal.VALUE, FieldKind.INTEGER),), (float(value),)
            flags = Flag.ABSENT if chance.random() < 0.1 else 0
        elif way < 0.8:
            side = {Signal.VALUE: chance.choice(["flat", "BUY", Decimal(value), None, bool(value)])}
        elif way < 0.9:
            texts += ((Signal.VALUE, "BUY"),)
        else:
            fields, numbers = (Field(Signal.STRENGTH),), (value / 3,)
            side = {Signal.NAME: "other"} if chance.random() < 0.3 else None
    site = run.site(PUBLISH, kind, *place, fields=fields, texts=texts)
    return _with(bare, site=site, event_time=time, numbers=numbers, flags=flags, side=side)


class Reference:
    """Samples one record at a time, with everything in memory, as the documentation says it."""

    def __init__(self, policy: EventSampler, run: Made) -> None:
        self._policy = policy
        self._stream = SamplingStream[int](policy)
        self.reasons: dict[int, str] = {}
        self.probabilities: dict[int, float] = {}
        self._begun: dict[int, Record] = {}
        priced: dict[tuple[Any, ...], int] = {}
        for record in run.records:
            self._take(record)
            if not record.ends and record.site.operation == PUBLISH:
                price = price_of(record.site.event_type, record.attributes)
                if math.isfinite(price):
                    priced[record.site.portfolio, record.site.symbol] = record.sequence
        self._follow([], list(priced.values()))

    def _take(self, record: Record) -> None:
        failed = bool(record.flags & Flag.ERROR)
        sequence = record.sequence
        if record.ends:
            if failed and sequence in self._begun:
                self._set(sequence, "critical", 1.0)
                place = self._begun[sequence].place
                self._stream.expect_neighbours(place)
                self._follow([sequence], self._stream.neighbours(place))
            return
        self._begun[sequence] = record
        if record.site.operation != PUBLISH:
            self.probabilities[sequence] = 0.0
            if failed:
                self._set(sequence, "critical", 1.0)
                self._stream.expect_neighbours(record.place)
                self._follow([sequence], self._stream.neighbours(record.place))
            return
        decision = self._stream.judge(
            sequence,
            identity.span_id(KEY, sequence),
            record.site.event_type,
            record.place,
            record.attributes,
            None if record.event_time == NO_TIME else record.event_time,
            failed=failed,
        )
        self.probabilities[sequence] = decision.probability
        if decision.reason is not None:
            self._set(sequence, decision.reason, decision.probability)
            near = self._stream.neighbours(record.place) if decision.reason == "critical" else []
            self._follow([sequence], near)

    def _set(self, sequence: int, reason: str, probability: float) -> None:
        self.reasons[sequence] = reason
        self.probabilities[sequence] = probability

    def _follow(self, kept: list[int], near: list[int]) -> None:
        near = [sequence for sequence in near if sequence not in self.reasons]
        ancestors = set()
        for sequence in [*kept, *near]:
            parent = self._begun[sequence].parent
            while parent and parent not in ancestors:
                ancestors.add(parent)
                parent = self._begun[parent].parent
        for sequence in ancestors - set(self.reasons):
            self._set(sequence, "ancestor", 1.0)
        for sequence in set(near) - set(self.reasons):
            self._set(sequence, "context", 1.0)


def batches(run: Made, table: SiteTable, sizes: Sequence[int]) -> Iterator[EventBatch]:
    """Cut the records of a run into batches."""
    at, turn = 0, 0
    while at < len(run.records):
        records = run.records[at : at + sizes[turn % len(sizes)]]
        at, turn = at + len(records), turn + 1
        rows = [
            (r.sequence, r.parent, r.root, r.event_time, r.site.number | r.flags << FLAGS_SHIFT)
            for r in records
        ]
        sequence, parent, root, time, place = np.array(rows, np.int64).T.copy()
        numbers = np.array([(r.numbers + (0.0,) * 5)[:5] for r in records]).T.copy()
        sides = {row: r.side for row, r in enumerate(records) if r.side is not None}
        yield table.batch(sequence, parent, root, time, place, list(numbers), sides)


@dataclass
class Sampled:
    """What became of a run."""

    reasons: dict[int, str]
    probabilities: dict[int, float]
    completeness: list[dict[str, Any]]


def sample(policy: EventSampler, run: Made, sizes: Sequence[int] = (64,)) -> Sampled:
    """Sample a run batch by batch; whatever is decided is decided once."""
    completeness = Completeness()
    begun = run.begun

    def read_again(sequence: int) -> RecordedEvent | None:
        r = begun[sequence]
        return RecordedEvent(sequence, r.parent, r.root, None, None, None, r.site)

    sampling = BatchSampling(policy, RUN, run.sites, read_again, completeness)
    reasons: dict[int, str] = {}
    probabilities: dict[int, float] = {}

    def take(sequence: int, code: int, probability: float) -> None:
        assert sequence not in reasons, "decided twice"
        reason = REASONS[code]
        if reason is not None:
            reasons[sequence] = reason
        probabilities[sequence] = probability

    for batch in batches(run, sampling.table, sizes):
        answer = sampling.admit(batch)
        assert (answer.kept == (answer.reason != 0)).all()
        for row, sequence in enumerate(batch.sequence.tolist()):
            if not batch.begins[row]:
                take(sequence, int(answer.reason[row]), float(answer.probability[row]))
        back = zip(answer.bring_back.tolist(), answer.bring_back_reason.tolist(), strict=True)
        for sequence, code in back:
            take(sequence, code, 1.0)
    end = sampling.finish()
    columns = (end.sequence.tolist(), end.reason.tolist(), end.probability.tolist())
    for sequence, code, probability in zip(*columns, strict=True):
        take(sequence, code, probability)
    for sequence, code in zip(end.bring_back.tolist(), end.bring_back_reason.tolist(), strict=True):
        take(sequence, code, 1.0)
    return Sampled(reasons, probabilities, _counted(run, completeness))


def _counted(run: Made, completeness: Completeness) -> list[dict[str, Any]]:
    """Give the rows of what was counted, with what was published in truth."""
    published = Counter(
        (record.site.portfolio, record.site.event_type)
        for record in run.begun.values()
        if record.site.operation == PUBLISH
    )
    rows = completeness.rows("Ended")
    for row in rows:
        row["published"] = published[row["portfolio"], row["event_type"]]
    return rows


CONDITION = CriticalWhen("x", ">", 1, EventType.TICK)


@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    RATES,
    st.sampled_from([0, 1, 3]),
    st.booleans(),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_batches_of_any_size_give_the_answers_of_one_record_at_a_time(
    seed: int, rate: float, context: int, conditions: bool, sizes: list[int]
) -> None:
    run = random_run(seed)
    policy = EventSampler(
        CRITICAL_EVENT_TYPES, rate, (CONDITION,) if conditions and seed % 5 == 0 else (), context
    )
    expected = Reference(policy, run)
    found = sample(policy, run, sizes)
    assert found.reasons == expected.reasons
    assert found.probabilities == {
        sequence: expected.probabilities[sequence] for sequence in found.probabilities
    }
    assert set(found.probabilities) == set(run.begun)


@settings(deadline=None, max_examples=30)
@given(SEEDS, RATES, st.integers(0, 4))
def test_whatever_is_kept_has_its_ancestors_and_every_event_is_counted(
    seed: int, rate: float, context: int
) -> None:
    run = random_run(seed, 250)
    found = sample(EventSampler(rate=rate, context=context), run, [seed % 90 + 1])
    begun = run.begun
    for sequence in found.reasons:
        parent = begun[sequence].parent
        assert parent == 0 or parent in found.reasons
    for sequence, record in begun.items():
        order = record.site.operation == PUBLISH and record.site.event_type == EventType.ORDER
        if order or record.flags & Flag.ERROR:
            assert found.reasons[sequence] == "critical"
    for row in found.completeness:
        assert row["published"] == row["kept"] + row["sampled_out"]
    kept = sum(begun[sequence].site.operation == PUBLISH for sequence in found.reasons)
    assert totals(found.completeness)["kept"] == kept
    for sequence, reason in found.reasons.items():
        assert (found.probabilities[sequence] == 1.0) or reason == "random"


@settings(deadline=None, max_examples=30)
@given(SEEDS, RATES, RATES)
def test_what_a_rate_keeps_a_higher_rate_keeps_and_a_rerun_keeps_the_same(
    seed: int, one: float, other: float
) -> None:
    run = random_run(seed, 250)
    low, high = (sample(EventSampler(rate=rate), run) for rate in sorted((one, other)))
    assert set(low.reasons) <= set(high.reasons)
    again = sample(EventSampler(rate=min(one, other)), run)
    assert (again.reasons, again.probabilities) == (low.reasons, low.probabilities)
    everything = sample(EventSampler(rate=1.0), run)
    published = {s for s, r in run.begun.items() if r.site.operation == PUBLISH}
    assert published <= set(everything.reasons)


def _bars(number: int, symbol: str | None = "X") -> Made:
    run = Made()
    site = run.site(PUBLISH, EventType.BAR, "a", None, symbol, fields=(PRICE,))
    for sequence in range(1, number + 1):
        time = 1_700_000_000 * SECOND + sequence * 60 * SECOND
        run.records.append(Record(sequence, 0, sequence, site, time, (10_000.0 + sequence % 2,)))
    return run


def _publish(run: Made, kind: str, parent: int = 0, symbol: str | None = "X", **parts: Any) -> int:
    sequence = len(run.records) + 1
    site = run.site(PUBLISH, kind, "a", "S", symbol)
    run.records.append(Record(sequence, parent, parent or sequence, site, **parts))
    return sequence


def test_an_ancestor_older_than_the_memory_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_memory, "_ROWS", 8)
    run = _bars(200)
    order = _publish(run, EventType.ORDER, 5)
    found = sample(EventSampler(rate=0.0, context=0), run, [7])
    assert found.reasons == {5: "ancestor", 200: "context", order: "critical"}
    assert found.probabilities[5] == 1.0


def test_an_ancestor_that_was_dropped_is_passed_over() -> None:
    run = _bars(3)
    run.records[1] = _with(run.records[1], parent=0)
    lost = Record(500, 400, 400, run.site(PUBLISH, EventType.ORDER, "a", None, "X"))
    run.records.append(lost)
    asked: list[int] = []

    def read_again(sequence: int) -> None:
        asked.append(sequence)

    sampling = BatchSampling(
        EventSampler(rate=0.0, context=0), RUN, run.sites, read_again, Completeness()
    )
    run.records.append(_with(lost, sequence=501))
    kept = [sampling.admit(batch).kept.sum() for batch in batches(run, sampling.table, [1])]
    assert kept == [0, 0, 0, 1, 1]
    assert asked == [400]


def test_neighbours_are_those_of_the_same_portfolio_and_symbol() -> None:
    run = _bars(10)
    other = run.site(PUBLISH, EventType.BAR, "a", None, "Y")
    for _ in range(5):
        run.records.append(Record(len(run.records) + 1, 0, 0, other))
    order = _publish(run, EventType.ORDER)
    for place in range(6):
        same = run.records[0].site if place % 2 else other
        absent = int(Flag.ABSENT)  # without a price
        run.records.append(Record(len(run.records) + 1, 0, 0, same, flags=absent))
    for size in (1, 4, 100):
        found = sample(EventSampler(rate=0.0, context=2), run, [size])
        context = {9, 10, order + 2, order + 4}
        assert found.reasons == {order: "critical", **dict.fromkeys(context, "context")}


def test_events_without_a_symbol_have_no_neighbours() -> None:
    run = _bars(5, symbol=None)
    order = _publish(run, EventType.ORDER, symbol=None)
    assert sample(EventSampler(rate=0.0), run).reasons == {5: "context", order: "critical"}


def test_the_newest_price_of_each_instrument_is_kept() -> None:
    run = _bars(20)
    other = run.site(PUBLISH, EventType.BAR, "a", None, "Y", fields=(PRICE,))
    numbers = (5.0,)
    run.records.append(Record(21, 3, 3, other, numbers=numbers, flags=int(Flag.BEGIN)))
    run.records.append(Record(22, 4, 4, other, numbers=numbers, flags=int(Flag.ABSENT)))
    for size in (1, 7, 50):
        found = sample(EventSampler(rate=0.0), run, [size])
        assert found.reasons == {3: "ancestor", 20: "context", 21: "context"}


def test_only_a_signal_that_changes_something_is_critical() -> None:
    run = Made()
    field_ = (Field(Signal.VALUE, FieldKind.INTEGER),)
    for value in (0, 0, 1, 1, 0, -1, -1):
        site = run.site(PUBLISH, EventType.SIGNAL, "a", "S", "X", fields=field_)
        sequence = len(run.records) + 1
        run.records.append(Record(sequence, 0, sequence, site, NO_TIME, (float(value),)))
    said = run.site(PUBLISH, EventType.SIGNAL, "a", "S", "X")
    for side in ({Signal.VALUE: "FLAT"}, {Signal.VALUE: "buy"}, {Signal.VALUE: "BUY"}, {"own": 1}):
        sequence = len(run.records) + 1
        run.records.append(Record(sequence, 0, sequence, said, side=side))
    for size in (1, 3, 50):
        found = sample(EventSampler(rate=0.0, context=0), run, [size])
        assert sorted(found.reasons) == [3, 5, 6, 8, 9, 11]


def test_an_error_makes_an_event_critical_and_its_neighbours_interesting() -> None:
    run = _bars(6)
    handler = run.site(PROCESS, EventType.BAR, "a", "S", "X")
    run.records.insert(3, Record(100, 3, 3, handler, flags=int(Flag.BEGIN)))
    run.records.insert(5, Record(100, 3, 3, handler, flags=Flag.FINISH | Flag.ERROR))
    for size in (1, 2, 50):
        found = sample(EventSampler(rate=0.0, context=1), run, [size])
        near = {4: "context", 5: "context", 6: "context"}  # the last one is the newest price
        assert found.reasons == {100: "critical", 3: "ancestor", **near}


def test_a_lively_market_is_kept_more_often() -> None:
    quiet = sample(EventSampler(rate=0.01), _bars(400))
    assert set(quiet.probabilities.values()) == {0.01, 1.0}
    assert quiet.reasons[400] == "context"
    wild = _bars(400)
    wild.records[300] = _with(wild.records[300], numbers=(12_000.0,))
    wild.records[350] = _with(wild.records[350], event_time=wild.records[350].event_time + 10**15)
    found = sample(EventSampler(rate=0.01), wild)
    assert found.probabilities[301] == pytest.approx(0.01 * (1 + 19 * 0.6**2))
    assert found.probabilities[351] == pytest.approx(0.01 * (1 + 19 * 0.2**2))
    assert all(0.01 <= probability <= 1 for probability in found.probabilities.values())


def _share_kept(number: int, rate: float) -> float:
    run = _bars(number)
    found = sample(EventSampler(rate=rate), run, [8192])
    return sum(reason == "random" for reason in found.reasons.values()) / number


@pytest.mark.parametrize("number", [20_000, pytest.param(1_000_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_quiet_market_is_kept_at_the_rate(number: int, rate: float) -> None:
    deviation = math.sqrt(rate * (1 - rate) / number)
    assert abs(_share_kept(number, rate) - rate) < 4 * deviation


@settings(deadline=None, max_examples=5)
@given(SEEDS)
def test_the_number_kept_by_chance_fits_the_probabilities(seed: int) -> None:
    run = random_run(seed, 4_000)
    policy = EventSampler(frozenset(), 0.1, context=0)
    table = SiteTable(policy, run.sites)
    judge = BatchJudge(policy, RUN, table)
    nobody = np.empty(0, np.int64)
    chosen, expected, variance = 0, 0.0, 0.0
    for batch in batches(run, table, [500]):
        judged = judge.judge(batch, nobody, nobody)
        own = judged.probability[judged.probability < 1]
        chosen += int((judged.reason == CODE_OF["random"]).sum())
        expected += float(own.sum())
        variance += float((own * (1 - own)).sum())
    assert chosen
    assert abs(chosen - expected) < 5 * math.sqrt(variance)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_arrays_of_ids_fall_where_single_ids_fall(ids: list[int]) -> None:
    assert places_of(np.array(ids, np.uint64)).tolist() == [place_of(one) for one in ids]


@given(st.lists(st.floats() | st.sampled_from([0.0, -0.0, 1.0]), min_size=1))
def test_arrays_of_numbers_mean_what_single_numbers_mean(values: list[float]) -> None:
    found = meanings_of_numbers(np.array(values)).tolist()
    assert found == [meaning_of_number(value) for value in values]
    assert found == [meaning_of(value) for value in values]


def realistic(bars: int, seed: int = 11) -> Made:
    """Four symbols, three strategies each: a bar, its handlers, features and signals of a trend."""
    chance = random.Random(seed)
    run = Made()
    symbols = ["A", "B", "C", "D"]
    closes: dict[str, list[float]] = {symbol: [10_000.0] for symbol in symbols}
    features = (Field("momentum"),)
    value = (Field(Signal.VALUE, FieldKind.INTEGER),)
    state: dict[tuple[str, int], float] = {}

    def add(site: Site, parent: int, time: int, *numbers: float, root: int | None = None) -> int:
        sequence = len(run.records) + 1
        run.records.append(Record(sequence, parent, root or sequence, site, time, numbers))
        return sequence

    for bar in range(bars):
        time = (1_700_000_000 + 60 * bar) * SECOND
        for symbol in symbols:
            path = closes[symbol]
            path.append(path[-1] + round(chance.gauss(0, 5)))
            made = run.site(PUBLISH, EventType.BAR, "a", None, symbol, fields=(PRICE,))
            root = add(made, 0, time, path[-1])
            for length in (40, 80, 160):
                strategy = f"Trend-{length}"
                slow = path[-length:]
                trend = path[-1] + path[-9 % len(path)] - 2 * sum(slow) / len(slow)
                place = ("a", strategy, symbol)
                computed = run.site(PUBLISH, EventType.FEATURES, *place, fields=features)
                cause = add(computed, root, time, trend, root=root)
                last = state.get((symbol, length), 0.0)
                now = last if abs(trend) < length else math.copysign(1.0, trend)
                state[symbol, length] = now
                said = run.site(PUBLISH, EventType.SIGNAL, *place, fields=value)
                cause = add(said, cause, time, now, root=root)
                if now != last:
                    for kind in (EventType.ORDER, EventType.FILL, EventType.POSITION_OPEN):
                        cause = add(run.site(PUBLISH, kind, *place), cause, time, root=root)
    return run


def test_default_settings_leave_out_nine_in_ten_of_what_is_not_critical() -> None:
    run = realistic(1_500)
    found = sample(EventSampler(), run, [4096])
    critical = {s for s, reason in found.reasons.items() if reason == "critical"}
    orders = [r for r in run.records if r.site.event_type in (EventType.ORDER, EventType.FILL)]
    assert len(orders) > 50
    assert {record.sequence for record in orders} <= critical
    others = len(run.records) - len(critical)
    assert (len(found.reasons) - len(critical)) / others < 0.1
    assert {"context", "ancestor", "random"} < set(found.reasons.values())
