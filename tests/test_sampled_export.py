"""What `export --sampled` gives of a whole lake is what a sampled lake of the same run holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import PROCESS, Bar, EventType, Signal, Tick

SECOND = 1_000_000_000


def record(data: Path, sampling: str, seed: int) -> None:
    """Record signals that mostly repeat themselves, wild markets, and handlers that fail."""
    chance = random.Random(seed)
    with Tracing(
        "same",
        data=data,
        portfolio="fund",
        writer="inline",
        lake_sampling="policy" if sampling == "policy" else "all",
    ) as tracing:
        tracer = tracing.tracer
        price, value, now = 100.0, 0, 1_700_000_000 * SECOND
        waiting: list[OpenEvent] = []
        long: OpenEvent | None = None
        for number in range(1_500):
            now += chance.choice([1, 60]) * SECOND
            price += chance.gauss(0, 1) * (30 if chance.random() < 0.02 else 1)
            symbol = chance.choice(["A", "B", None])
            if number % 100 == 0:
                if long is not None:
                    tracer.close(long, error=ValueError("late") if number % 200 else None)
                long = tracer.open(EventType.FEATURES, symbol="A", event_time=now)
            if number % 37 == 0:
                tracer.close(tracer.open("X", symbol="B", event_time=now, parent=long))
            bar = tracer.open(
                EventType.BAR,
                symbol=symbol,
                venue="V",
                event_time=now,
                attributes={Bar.CLOSE: f"{price:.2f}"},
            )
            run = tracer.open(
                EventType.BAR, operation=PROCESS, symbol=symbol, handler="On.bar", parent=bar
            )
            if chance.random() < 0.05:
                value = chance.choice([-1, 0, 1])
            signal = tracer.open(
                EventType.SIGNAL,
                symbol=symbol,
                strategy="S",
                event_time=now,
                attributes={Signal.NAME: "trend", Signal.VALUE: value},
                parent=run,
            )
            tracer.close(signal)
            if chance.random() < 0.005:
                cause = chance.choice(waiting) if waiting else signal
                tracer.close(tracer.open(EventType.ORDER, symbol=symbol, parent=cause))
            waiting.append(signal)
            error = ValueError("no") if chance.random() < 0.004 else None
            tracer.close(run, error=error)
            tracer.close(bar, error=error if number % 2 else None)
            tick = tracer.open(
                EventType.TICK, symbol=symbol, event_time=now, attributes={Tick.BID: price}
            )
            tracer.close(tick, error=ValueError("odd") if chance.random() < 0.002 else None)


def spans_of(data: Path) -> set[str]:
    rows = EventStore(data).query("SELECT span_id FROM spans").rows
    return {span_id for (span_id,) in rows}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sampled_export_holds_what_the_sampled_lake_holds(tmp_path: Path, seed: int) -> None:
    for sampling in ("all", "policy"):
        record(tmp_path / sampling, sampling, seed)
    whole, wanted = spans_of(tmp_path / "all"), spans_of(tmp_path / "policy")
    assert 100 < len(wanted) < len(whole) / 2
    selection = SpanSelection(EventStore(tmp_path / "all"), "same", policy=EventSampler())
    assert selection.span_ids() == wanted


def test_a_sample_of_a_chain_is_that_part_of_the_runs_sample(tmp_path: Path) -> None:
    record(tmp_path / "all", "all", 3)
    store = EventStore(tmp_path / "all")
    kept = SpanSelection(store, "same", policy=EventSampler()).span_ids() or set()
    rows = store.query("SELECT trace_id, span_id FROM spans ORDER BY sequence").rows
    chain_of = {span_id: trace_id for trace_id, span_id in rows}
    for trace_id in list(dict.fromkeys(chain_of.values()))[:3]:
        chosen = SpanSelection(store, "same", [trace_id], EventSampler())
        given = {one.hex() for batch in chosen.batches() for one in batch["span_id"].to_pylist()}
        assert given == {one for one in kept if chain_of[one] == trace_id}


def test_a_lake_that_was_sampled_is_exported_as_it_is(tmp_path: Path) -> None:
    record(tmp_path / "policy", "policy", 4)
    selection = SpanSelection(EventStore(tmp_path / "policy"), "same", policy=EventSampler())
    assert selection.span_ids() == spans_of(tmp_path / "policy")
