"""docs/spool-format.md is enough to read a spool: the reader here is written from it alone."""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.recorder import (
    DROPPED_ADAPTER_ERROR,
    DROPPED_SPOOL_ERROR,
    DROPPED_SPOOL_FULL,
)
from fillpath.instrumentation.span_parts import SPAN_KIND, SPAN_NAME, SPAN_SCOPE, TRACE_STATE
from fillpath.instrumentation.spool import BlockType, Field, FieldKind, Flag, SpoolReader
from fillpath.instrumentation.tracing import Tracing

PAGE = (Path(__file__).parents[1] / "docs" / "spool-format.md").read_text(encoding="utf-8")
NO_TIME = -(2**63)


def unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, strict_map_key=False, ext_hook=extension)


def extension(code: int, data: bytes) -> Any:
    assert code in (1, 2)
    return Decimal(data.decode()) if code == 1 else int(data.decode(), 16)


def blocks(folder: Path) -> list[tuple[int, int, int, bytes]]:
    """Type, columns of numbers, number of things and payload of every block."""
    found = []
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{n:06d}.spool" for n in range(1, len(files) + 1)]
    for file in files:
        data, place = file.read_bytes(), 0
        while place + 24 <= len(data):
            magic, kind, version, slots, count, length, payload_sum, head_sum = struct.unpack_from(
                "<4sBBHIIII", data, place
            )
            assert (magic, version) == (b"FPSB", 2)
            assert slots == 0 or kind == 4
            assert zlib.crc32(data[place : place + 20]) == head_sum
            payload = data[place + 24 : place + 24 + length]
            if len(payload) < length:
                assert file == files[-1]
                break
            assert zlib.crc32(payload) == payload_sum
            found.append((kind, slots, count, payload))
            place += 24 + length
    return found


def side_records(payload: bytes) -> list[Any]:
    found, place = [], 0
    while place < len(payload):
        (length,) = struct.unpack_from("<I", payload, place)
        found.append(unpacked(payload[place + 4 : place + 4 + length]))
        place += 4 + length
    return found


class Ids:
    """Ids of a run."""

    def __init__(self, run_id: str) -> None:
        digest = hashlib.blake2b(run_id.encode(), digest_size=11, person=b"fillpath").digest()
        self.run_id = run_id
        self.key = int.from_bytes(digest, "big") or 1

    def span(self, sequence: int) -> int:
        return self.key % 2**24 * 2**40 + sequence

    def trace(self, root: int) -> int:
        return self.key * 2**40 + root

    def named_trace(self, name: str) -> int:
        digits = name.strip().lower()
        if re.fullmatch(r"[0-9a-f]{32}", digits.replace("-", "")) and int(
            digits.replace("-", ""), 16
        ):
            return int(digits.replace("-", ""), 16)
        hashed = hashlib.blake2b(
            name.encode(),
            digest_size=16,
            person=b"fillpath-corr",
            key=hashlib.blake2b(self.run_id.encode(), digest_size=32).digest(),
        )
        return int.from_bytes(hashed.digest(), "big") or 1


def decoded(folder: Path) -> dict[str, Any]:
    """A run as the page describes it."""
    run: dict[str, Any] = {"events": {}, "counts": [], "end": None, "notes": {}}
    sites: dict[int, list[Any]] = {}
    sides: dict[int, list[Any]] = {}
    for number, (kind, slots, count, payload) in enumerate(blocks(folder)):
        if kind == 1:
            run.setdefault("run", unpacked(payload))
            assert (count, unpacked(payload)) == (1, run["run"])
        elif kind == 2:
            assert len(unpacked(payload)) == count
            sites.update((site[0], site[1:]) for site in unpacked(payload))
        elif kind == 3:
            records = side_records(payload)
            assert len(records) == count
            for record in records:
                sides.setdefault(record[0], []).append(record[1:])
        elif kind == 4:
            assert len(payload) == 8 * count * (7 + slots)
            columns = [
                struct.unpack_from(f"<{count}{letter}", payload, 8 * count * place)
                for place, letter in enumerate("QQQqqqQ" + "d" * slots)
            ]
            for record in zip(*columns, strict=True):
                take(run, sites, sides, record)
        elif kind == 5:
            run["counts"] = unpacked(payload)
            assert len(run["counts"]) == count
        elif kind == 7:
            assert count == 1
            run["notes"].update(unpacked(payload))
        else:
            assert kind == 6
            run["end"] = unpacked(payload)
            assert (count, number) == (1, len(blocks(folder)) - 1)
    return run


def numbered(fields: list[Any], numbers: tuple[float, ...], flags: int) -> dict[str, Any]:
    """Attributes that the numbers of a record stand for."""
    found: dict[str, Any] = {}
    for place, (key, kind, scale) in enumerate(fields):
        number = numbers[place]
        if flags & 256 << place:
            assert number == 0
        elif kind == "double":
            found[key] = number
        elif kind == "integer":
            assert abs(number) <= 2**53
            found[key] = int(number)
        elif kind == "boolean":
            found[key] = {0.0: False, 1.0: True}[number]
        else:
            assert kind == "decimal"
            assert abs(number) < 10**15
            found[key] = Decimal(f"{int(number)}e-{scale}")
    return found


def take(
    run: dict[str, Any],
    sites: dict[int, list[Any]],
    sides: dict[int, list[Any]],
    record: tuple[Any, ...],
) -> None:
    events, offset = run["events"], run["run"].get("clock_offset", 0)
    sequence, parent, root, start, end, time, place, *numbers = record
    site, flags = place % 2**32, place >> 32
    begins, finishes, failed, has_side = (bool(flags & bit) for bit in (1, 2, 4, 8))
    side = sides[sequence].pop(0) if has_side else [{}, [], {}]
    if finishes:
        event = events[sequence]
        assert event["end"] is None
        event.update(end=end + offset, failed=failed)
        event["attributes"].update(side[0])
        event["extra"].update(side[2])
        return
    assert parent == 0 or parent in events
    assert parent < sequence
    *names, fields, texts, counted = sites[site]
    attributes = {**dict(texts), **numbered(fields, tuple(numbers), flags), **side[0]}
    events[sequence] = {
        "parent": parent,
        "root": root,
        "start": start + offset,
        "end": None if begins else end + offset,
        "event_time": None if time == NO_TIME else time,
        "names": names,
        "counted": counted,
        "failed": failed,
        "attributes": attributes,
        "links": side[1],
        "extra": side[2],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool with everything that the page speaks of."""
    name = str(uuid.UUID(int=0x0123456789ABCDEF0123456789ABCDEF))
    parameters = {"size": Decimal("1.50"), "big": 2**70, "small": -(2**70), "raw": b"\0\xff"}
    with Tracing("run", data=tmp_path, writer="none", parameters=parameters) as tracing:
        tracer = tracing.tracer
        tracing.note_engine("Engine", "1.0")
        with tracer.event("BAR", symbol="EUR/USD", event_time=5, venue="XNAS") as bar:
            run = tracer.open("BAR", operation="process", handler="S.on_bar", parent=bar)
            with tracer.handling(run):
                order = tracer.open("ORDER", strategy="S", attributes={"price": Decimal("1.10")})
                fill = tracer.open("FILL", event_id="f-1", links=[bar], parent=order)
                tracer.close(fill, attributes={"number": 2**64})
                tracer.close(order, attributes={"late": "é\N{CHART WITH UPWARDS TREND}"})
            tracer.close(run)
        tick = tracer.open("TICK", correlation_id="trade 1")
        tracer.close(tracer.open("NOTE", parent=tick, correlation_id="another name"))
        tracer.close(tracer.open("SIGNAL", parent=None, correlation_id=name))
        tracer.close(tick, error=ValueError("no"))
        fields = [
            Field("a"),
            Field("b", FieldKind.INTEGER),
            Field("c", FieldKind.BOOLEAN),
            Field("d", FieldKind.DECIMAL, 2),
        ]
        emit = tracer.emitter("FEATURES", fields=fields, texts={"e": "f"})
        emit(7, emit(6, tick, 1.5, 2, True, Decimal("3.50")), None, "odd", None, 0.125)
        priced = {"open": Decimal("1.50"), "n": 3, "x": 0.5, "trading.order.side": "BUY"}
        tracer.close(tracer.open("PRICED", attributes=priced))
        with tracer.guarded(losing="BOOK"):
            raise ValueError("adapter")
        tracer.open("SYSTEM")
    return tmp_path / "spool" / "run"


def test_a_reader_written_from_the_page_reads_what_ours_reads(folder: Path) -> None:
    ours = SpoolEvents()
    events: dict[int, RecordedEvent] = {}
    for block in SpoolReader(folder).blocks():
        events.update((event.sequence, event) for event in ours.feed(block))
    theirs = decoded(folder)
    assert {**theirs["run"], **theirs["notes"]} == ours.run
    assert theirs["notes"] == {"engine": "Engine", "engine_version": "1.0"}
    assert theirs["end"] == ours.end
    assert theirs["counts"] == [list(count) for count in ours.counts]
    assert theirs["events"].keys() == events.keys()
    for sequence, event in events.items():
        other = theirs["events"][sequence]
        assert (other["parent"], other["root"]) == (event.parent, event.root)
        assert (other["start"], other["event_time"]) == (event.start, event.event_time)
        assert other["end"] == (event.end if event.finished else None)
        assert other["names"] == list(event.site[1:8])
        assert other["counted"] is event.site.counted
        assert printed(other["attributes"]) == printed(event.attributes)
        name = theirs["events"][event.root]["extra"].get("correlation_id")
        assert {**other["extra"], **({} if name is None else {"correlation_id": name})} == (
            event.extra
        )
        assert [tuple(link) for link in other["links"]] == event.links
        assert other["failed"] is ("error" in event.extra)


def printed(attributes: dict[str, Any]) -> dict[str, str]:
    """With types, and the digits of decimals: 1.5 is 1.50 otherwise, and True is 1."""
    return {key: repr(value) for key, value in attributes.items()}


def test_the_spool_shows_everything_that_the_page_speaks_of(folder: Path) -> None:
    theirs = decoded(folder)
    by_kind = {event["names"][1]: event for event in theirs["events"].values()}
    assert {block[0] for block in blocks(folder)} == set(BlockType)
    assert by_kind["FILL"]["attributes"] == {"number": 2**64}
    assert by_kind["FILL"]["extra"] == {"event_id": "f-1"}
    assert by_kind["FILL"]["links"]
    assert by_kind["ORDER"]["attributes"]["late"] == "é\N{CHART WITH UPWARDS TREND}"
    assert by_kind["TICK"]["extra"]["error"] == {"type": "ValueError", "message": "no"}
    assert by_kind["SYSTEM"]["end"] is None
    first, second = (e for e in theirs["events"].values() if e["names"][1] == "FEATURES")
    assert printed(first["attributes"]) == printed(
        {"e": "f", "a": 1.5, "b": 2, "c": True, "d": Decimal("3.50")}
    )
    assert printed(second["attributes"]) == printed({"e": "f", "b": "odd", "d": 0.125})
    assert printed(by_kind["PRICED"]["attributes"]) == printed(
        {"trading.order.side": "BUY", "open": Decimal("1.50"), "n": 3, "x": 0.5}
    )
    assert theirs["end"]["sequences"] == max(theirs["events"])
    assert theirs["counts"][1] == ["default", "BOOK", 1, {"adapter_error": 1}]


def test_ids_follow_from_the_page(folder: Path) -> None:
    ids, events = Ids("run"), decoded(folder)["events"]
    assert ids.key == identity.run_key("run")
    for sequence, event in events.items():
        assert ids.span(sequence) == identity.span_id(ids.key, sequence)
        assert ids.trace(event["root"]) == identity.trace_id(ids.key, event["root"])
        name = events[event["root"]]["extra"].get("correlation_id")
        if name is not None:
            assert ids.named_trace(name) == identity.trace_id_of_correlation("run", name)
    bar = next(sequence for sequence, event in events.items() if event["names"][1] == "BAR")
    (link,) = next(event["links"] for event in events.values() if event["links"])
    assert link == [ids.trace(bar).to_bytes(16, "big"), ids.span(bar).to_bytes(8, "big")]


def test_the_page_names_every_type_and_flag() -> None:
    for member in BlockType:
        assert f"| {member.value} | {member.name} |" in PAGE
    for flag in Flag:
        assert f"| {flag.value} | {flag.name} |" in PAGE
    for kind in FieldKind:
        assert f"| `{kind}` |" in PAGE
    for reason in (DROPPED_ADAPTER_ERROR, DROPPED_SPOOL_ERROR, DROPPED_SPOOL_FULL):
        assert f"| `{reason}` |" in PAGE


def test_the_page_names_all_that_a_run_says_of_itself_and_every_reserved_text(
    folder: Path,
) -> None:
    run = next(block.value() for block in SpoolReader(folder).blocks())
    for key in run:
        assert f"`{key}`" in PAGE
    for key in (SPAN_NAME, SPAN_KIND, SPAN_SCOPE, TRACE_STATE):
        assert f"| `{key}` |" in PAGE
