"""Attributes find their place in an event's record and site, and none gets lost on the way."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation.attribute_sites import MAX_SITES_OF_ONE, MAX_TEXT
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.semconv import Bar, Order
from fillpath.instrumentation.spool import BlockType, Field, FieldKind, SideRecord, SpoolReader
from fillpath.instrumentation.spool_writer import SpoolWriter


class Run:
    """Events of one kind with given attributes, as they were recorded."""

    def __init__(self, folder: Path, all_attributes: list[dict[str, Any]]) -> None:
        recorder = Recorder(SpoolWriter(folder, {}))
        tracer = EventTracer("run", recorder, "p")
        for attributes in all_attributes:
            tracer.close(tracer.open("ORDER", parent=None, attributes=attributes))
        recorder.stop({})
        spool = SpoolEvents()
        self.events: list[RecordedEvent] = []
        self.sides: list[SideRecord] = []
        for block in SpoolReader(folder).blocks():
            if block.type is BlockType.SIDE:
                self.sides += block.side_records()
            self.events += spool.feed(block)
        self.sites = spool.sites


def test_numbers_and_recurring_words_need_no_side_record(tmp_path: Path) -> None:
    attributes = {
        Order.SIDE: "BUY",
        Order.PRICE: Decimal("190.50"),
        Order.QUANTITY: 7,
        Order.REDUCE_ONLY: True,
        Bar.TYPE: "1-MINUTE",
        "score": 0.1,
        "zero": Decimal("0.00"),
    }
    run = Run(tmp_path / "run", [attributes] * 3)
    assert not run.sides
    assert [repr(sorted(event.attributes.items())) for event in run.events] == [
        repr(sorted(attributes.items()))
    ] * 3
    site = run.events[0].site
    assert len({event.site.number for event in run.events}) == 1
    assert dict(site.texts) == {Order.SIDE: "BUY", Bar.TYPE: "1-MINUTE"}
    assert site.fields == (
        Field(Order.PRICE, FieldKind.DECIMAL, 2),
        Field(Order.QUANTITY, FieldKind.INTEGER),
        Field(Order.REDUCE_ONLY, FieldKind.BOOLEAN),
        Field("score"),
        Field("zero", FieldKind.DECIMAL, 2),
    )
    assert site.counted


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1E+2"),
        Decimal("1E-19"),
        Decimal("-0.0"),
        Decimal(1234567890123456),
        Decimal("NaN"),
        Decimal("-Infinity"),
        2**53 + 1,
        "words",
        b"bytes",
        [1.5],
    ],
)
def test_what_a_number_cannot_say_exactly_stands_beside_the_record(
    tmp_path: Path, value: Any
) -> None:
    run = Run(tmp_path / "run", [{"a": value, "b": 1.5}])
    assert [list(side.attributes) for side in run.sides] == [["a"]]
    assert repr(run.events[0].attributes["a"]) == repr(value)
    assert run.events[0].site.fields == (Field("b"),)


def test_only_so_many_numbers_have_room(tmp_path: Path) -> None:
    attributes = {f"n{n}": n + 0.5 for n in range(8)}
    run = Run(tmp_path / "run", [attributes])
    assert run.events[0].attributes == attributes
    assert run.sides[0].attributes == {f"n{n}": n + 0.5 for n in range(5, 8)}


def test_a_long_word_stands_beside_the_record(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", [{Order.SIDE: "x" * (MAX_TEXT + 1)}])
    assert run.events[0].attributes == run.sides[0].attributes == {Order.SIDE: "x" * (MAX_TEXT + 1)}


def test_a_host_whose_words_never_recur_makes_no_endless_list_of_sites(tmp_path: Path) -> None:
    all_attributes = [{Order.STATUS: f"status {n}", "n": n} for n in range(MAX_SITES_OF_ONE + 100)]
    run = Run(tmp_path / "run", all_attributes)
    assert [event.attributes for event in run.events] == all_attributes
    assert len(run.sites) == MAX_SITES_OF_ONE + 1
    assert len(run.sides) == 100


def test_decimals_of_many_scales_keep_their_digits(tmp_path: Path) -> None:
    texts = [
        "0",
        "0.0",
        "-1.50",
        "190",
        "190.5",
        "190.50",
        "0.000000000000000001",
        "-0.00000012",
        "0E-9",
        "-99999999999.9999",
    ]
    run = Run(tmp_path / "run", [{"a": Decimal(text)} for text in texts])
    assert [str(event.attributes["a"]) for event in run.events] == [str(Decimal(t)) for t in texts]
    assert not run.sides
