"""The spool gives back what was written, whole blocks only, and notices damage."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.spool import (
    COLUMNS,
    FLAGS_SHIFT,
    HEADER,
    NO_TIME,
    SLOTS,
    Block,
    BlockType,
    Count,
    EventRecord,
    Field,
    FieldKind,
    Flag,
    SideRecord,
    Site,
    SpoolReader,
    list_spools,
)
from fillpath.instrumentation.spool_writer import SpoolWriter, pack_side_record

RUN = {"run_id": "r", "started_at": 1}
END = {"status": "Ended"}


def event(sequence: int, parent: int = 0, flags: int = 0) -> tuple[Any, ...]:
    place = 1 | flags << FLAGS_SHIFT
    return (sequence, parent, parent or sequence, 1, 2, NO_TIME, place, *(0.5,) * SLOTS)


def flat(record: EventRecord) -> tuple[Any, ...]:
    return (*record[: len(COLUMNS)], *record.numbers)


def site(number: int, word: str = "ORDER") -> Site:
    return Site(number, "publish", word, "demo/fx", "S-1", None, "XNAS", None)


def write_two_files(folder: Path) -> None:
    """A spool with every type of block, in two files."""
    spool = SpoolWriter(folder, RUN, max_file_bytes=300)
    side = pack_side_record(SideRecord(2, {"a": Decimal("1.50")}, [(b"t" * 16, b"s" * 8)], {}))
    spool.append([event(1)], [], [site(1)], [])
    spool.append([event(2, 1, Flag.SIDE)], [side], [site(2, "FILL")], [Count("p", "ORDER", 2, {})])
    spool.append([event(3)], [], [], [Count("p", "ORDER", 3, {"spool_error": 1})])
    spool.finish(END)


def read(folder: Path) -> list[Block]:
    return list(SpoolReader(folder).blocks())


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def starts_of_blocks(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        yield place
        place += HEADER.size + HEADER.unpack_from(data, place)[5]


def things_in(block: Block) -> list[Any]:
    read_them: dict[BlockType, Callable[[], Iterable[Any]]] = {
        BlockType.SITES: block.sites,
        BlockType.COUNTS: block.counts,
        BlockType.SIDE: block.side_records,
        BlockType.EVENTS: block.events,
    }
    return list(read_them.get(block.type, list)())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


names = st.sampled_from(["", "a", "demo/fx", "é", "\U0001f4c8", "\0", "x" * 300])
times = st.integers(-(1 << 63), (1 << 63) - 1)
numbers = st.integers(0, (1 << 64) - 1)
records = st.builds(
    EventRecord,
    numbers,
    numbers,
    numbers,
    times,
    times,
    times,
    numbers,
    st.tuples(*[st.floats(allow_nan=False)] * SLOTS),
)
fields = st.builds(Field, names, st.sampled_from(list(FieldKind)), st.integers(0, 18))
texts = st.tuples(names, names | st.integers(0, 9))
sites = st.builds(
    Site,
    numbers,
    names,
    names,
    names,
    *[names | st.none()] * 4,
    st.lists(fields, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.booleans(),
)
sides = st.builds(
    SideRecord,
    numbers,
    st.dictionaries(names, st.integers() | st.decimals(allow_nan=False), max_size=3),
    st.lists(st.just((b"t" * 16, b"s" * 8)), max_size=2),
    st.dictionaries(names, names, max_size=3),
)
counts = st.builds(Count, names, names, numbers, st.dictionaries(names, numbers, max_size=3))
batches = st.tuples(
    st.lists(records, max_size=3),
    st.lists(sides, max_size=3),
    st.lists(sites, max_size=5),
    st.lists(counts, max_size=5),
)


@pytest.mark.smoke
@settings(max_examples=30)
@given(st.lists(batches, max_size=4), st.integers(100, 2000))
def test_what_is_written_is_read(
    given_batches: list[tuple[Any, Any, Any, Any]], max_file_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        spool = SpoolWriter(folder, RUN, max_file_bytes=max_file_bytes)
        for events, side, new_sites, totals in given_batches:
            rows = [flat(each) for each in events]
            spool.append(rows, [pack_side_record(each) for each in side], new_sites, totals)
        spool.finish(END)
        blocks = read(folder)
        files = len(files_of(folder))
    assert [block.number for block in blocks] == list(range(1, len(blocks) + 1))
    runs = [block for block in blocks if block.type is BlockType.RUN]
    assert [block.value() for block in runs] == [RUN] * files
    assert blocks[-1].type is BlockType.END
    assert blocks[-1].value() == END
    by_type: dict[BlockType, list[Any]] = {each: [] for each in BlockType}
    for block in blocks:
        things = things_in(block)
        assert block.count == (len(things) or 1)
        by_type[block.type] += things
    assert by_type[BlockType.EVENTS] == [each for batch in given_batches for each in batch[0]]
    assert by_type[BlockType.SIDE] == [each for batch in given_batches for each in batch[1]]
    assert by_type[BlockType.COUNTS] == [each for batch in given_batches for each in batch[3]]
    written = [each for batch in given_batches for each in batch[2]]
    if files == 1:
        assert by_type[BlockType.SITES] == written
    assert set(by_type[BlockType.SITES]) == set(written)


@pytest.mark.smoke
def test_a_spool_cut_off_at_any_byte_gives_the_blocks_before(tmp_path: Path) -> None:
    write_two_files(tmp_path / "whole")
    first, last = files_of(tmp_path / "whole")
    whole = read(tmp_path / "whole")
    cut = tmp_path / "cut"
    cut.mkdir()
    for path, before in ((first, []), (last, [first])):
        for other in before:
            (cut / other.name).write_bytes(other.read_bytes())
        data = path.read_bytes()
        seen = set()
        for length in range(len(data) + 1):
            (cut / path.name).write_bytes(data[:length])
            blocks = read(cut)
            assert blocks == whole[: len(blocks)]
            seen.add(len(blocks))
        assert seen == set(range(min(seen), max(seen) + 1))
    assert blocks == whole


def test_a_flipped_bit_never_passes_for_data(tmp_path: Path) -> None:
    write_two_files(tmp_path / "run")
    first, last = files_of(tmp_path / "run")
    whole = read(tmp_path / "run")
    messages = set()
    last_block = len(last.read_bytes()) - HEADER.size - len(whole[-1].payload)
    for path in (first, last):
        data = path.read_bytes()
        headers = {place + n for place in starts_of_blocks(data) for n in range(HEADER.size)}
        for place in range(len(data)):
            for bit in (place % 8, (place + 3) % 8) if place in headers else (place % 8,):
                flipped = bytearray(data)
                flipped[place] ^= 1 << bit
                path.write_bytes(flipped)
                blocks = []
                try:
                    for block in SpoolReader(tmp_path / "run").blocks():
                        blocks.append(block)  # noqa: PERF402 - those before the damage count too
                except SpoolError as error:
                    messages.add(str(error)[:20])
                else:
                    # Only the payload of the very last block may pass, for a torn one.
                    assert path == last
                    assert place >= last_block + HEADER.size
                    assert len(blocks) == len(whole) - 1
                assert blocks == whole[: len(blocks)]
        path.write_bytes(data)
    assert messages == {"The spool is damaged", "This is not a fillpa"}


def test_a_torn_file_that_is_not_the_last_is_damage(tmp_path: Path) -> None:
    write_two_files(tmp_path / "run")
    first, _ = files_of(tmp_path / "run")
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(SpoolError, match=r"damaged.*torn.*another file follows"):
        read(tmp_path / "run")


def test_a_tail_of_zeros_is_a_torn_one(tmp_path: Path) -> None:
    write_two_files(tmp_path / "run")
    whole = read(tmp_path / "run")
    *_, last = files_of(tmp_path / "run")
    with last.open("ab") as file:
        file.write(bytes(5000))
    assert read(tmp_path / "run") == whole
    with last.open("ab") as file:
        file.write(b"x")
    with pytest.raises(SpoolError, match="not a fillpath spool"):
        read(tmp_path / "run")


def test_a_reader_follows_a_spool_that_is_being_written(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", RUN, max_file_bytes=250)
    reader = SpoolReader(tmp_path / "run")
    read_so_far = list(reader.blocks())
    assert [block.type for block in read_so_far] == [BlockType.RUN]
    for sequence in range(1, 20):
        spool.append([event(sequence)], [], [], [])
        new = list(reader.blocks())
        assert [e.sequence for b in new if b.type is BlockType.EVENTS for e in b.events()] == [
            sequence
        ]
        read_so_far += new
    assert list(reader.blocks()) == []
    spool.finish(END)
    read_so_far += reader.blocks()
    assert read_so_far == read(tmp_path / "run")
    assert len(files_of(tmp_path / "run")) > 2


def test_every_file_can_be_understood_by_itself(tmp_path: Path) -> None:
    write_two_files(tmp_path / "run")
    first, last = files_of(tmp_path / "run")
    first.write_bytes(last.read_bytes())
    last.unlink()
    run, known, *_ = read(tmp_path / "run")
    assert run.value() == RUN
    assert known.sites() == [site(1), site(2, "FILL")]


def test_a_run_that_has_a_spool_is_refused(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "run", RUN).finish(END)
    with pytest.raises(SpoolError, match="already has a spool"):
        SpoolWriter(tmp_path / "run", RUN)
    assert read(tmp_path / "run")[-1].type is BlockType.END


def test_a_spool_that_cannot_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        SpoolWriter(tmp_path / "run", RUN)
    assert not (tmp_path / "run").exists()
    SpoolWriter(tmp_path / "run", RUN).finish(END)


def test_a_block_that_does_not_fit_on_the_disk_is_left_out_whole(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", RUN)
    spool.append([event(1)], [], [site(1)], [])
    size = files_of(tmp_path / "run")[0].stat().st_size
    with largest_file(size + 100), pytest.raises(OSError, match="File too large"):
        spool.append([event(n) for n in range(2, 9)], [], [site(2)], [])
    spool.append([event(9)], [], [site(2)], [])
    spool.finish(END)
    blocks = read(tmp_path / "run")
    events = [e.sequence for b in blocks if b.type is BlockType.EVENTS for e in b.events()]
    assert events == [1, 9]


@pytest.mark.parametrize("call", ["open", "close"])
def test_control_c_while_a_next_file_begins_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = SpoolWriter(tmp_path / "run", RUN, max_file_bytes=100)
    spool.append([event(1)], [], [site(1)], [])
    first = spool.mark()
    real = getattr(os, call)

    def interrupted(*given_values: Any) -> None:
        real(*given_values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            spool.append([event(2)], [], [], [])
    assert not spool.has_grown_since(first)
    for number in (2, 3):
        spool.append([event(number)], [], [], [])
    on_disk = sum(path.stat().st_size for path in files_of(tmp_path / "run"))
    assert spool.written_behind(1, 0) == on_disk
    spool.finish(END)
    events = [b for b in read(tmp_path / "run") if b.type is BlockType.EVENTS]
    assert [e.sequence for block in events for e in block.events()] == [1, 2, 3]


def test_a_next_file_that_cannot_begin_is_tried_again(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", RUN, max_file_bytes=100)
    spool.append([event(1)], [], [site(1)], [])
    with largest_file(20), pytest.raises(OSError, match="File too large"):
        spool.append([event(2)], [], [], [])
    assert len(files_of(tmp_path / "run")) == 1
    with largest_file(70), pytest.raises(OSError, match="File too large"):
        spool.append([event(3)], [], [], [])
    spool.append([event(4)], [], [], [])
    spool.finish(END)
    blocks = read(tmp_path / "run")
    assert [path.name for path in files_of(tmp_path / "run")] == ["000001.spool", "000002.spool"]
    assert [block.type for block in blocks].count(BlockType.RUN) == 2
    events = [e.sequence for b in blocks if b.type is BlockType.EVENTS for e in b.events()]
    assert events == [1, 4]


def with_header(change: Callable[[list[Any]], None]) -> Callable[[bytes], bytes]:
    """Rewrites the first header, checksum included."""

    def rewrite(data: bytes) -> bytes:
        fields = list(HEADER.unpack(data[: HEADER.size]))
        change(fields)
        head = HEADER.pack(*fields)[:20]
        return head + struct.pack("<I", zlib.crc32(head)) + data[HEADER.size :]

    return rewrite


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (lambda _: b"PAR1" + bytes(40), "not a fillpath spool"),
        (with_header(lambda fields: fields.__setitem__(2, 9)), "has format version 9"),
        (with_header(lambda fields: fields.__setitem__(2, 1)), "version 1, .*record the run again"),
        (with_header(lambda fields: fields.__setitem__(1, 77)), "unknown type 77"),
        (with_header(lambda fields: fields.__setitem__(1, 4)), "not have the length of its events"),
        (with_header(lambda fields: fields.__setitem__(6, 5)), "does not fit its checksum"),
    ],
    ids=["foreign", "newer", "older", "unknown", "events", "payload"],
)
def test_what_is_no_spool_of_ours_is_refused(
    tmp_path: Path, rewrite: Callable[[bytes], bytes], message: str
) -> None:
    SpoolWriter(tmp_path / "run", RUN).finish(END)
    (path,) = files_of(tmp_path / "run")
    path.write_bytes(rewrite(path.read_bytes()))
    with pytest.raises(SpoolError, match=f"(?s){message}"):
        read(tmp_path / "run")


def test_spools_are_listed_by_name(tmp_path: Path) -> None:
    assert list_spools(tmp_path / "none") == []
    for name in ("b", "a"):
        SpoolWriter(tmp_path / name, RUN).finish(END)
    (tmp_path / "c").mkdir()
    assert [path.name for path in list_spools(tmp_path)] == ["a", "b"]
    with pytest.raises(SpoolError, match="no spool"):
        SpoolReader(tmp_path / "c")


def test_a_finished_spool_takes_no_more(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", RUN)
    spool.finish(END)
    before = open_files()
    with pytest.raises(OSError, match="Bad file descriptor"):
        spool.append([event(1)], [], [], [])
    spool.close()
    assert open_files() == before
    assert read(tmp_path / "run")[-1].type is BlockType.END
