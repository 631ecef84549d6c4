"""How long it takes to find one chain by its correlation id among millions of events.

Warm: an open `EventStore`, a chain that was not asked for before. Cold: a new process that opens
the lake, after the pages of its files were dropped from the cache; imports are left out. Through
SQL: an open DuckDB connection, and the view `raw_spans`. The peer is the same SQL with a
condition that lets DuckDB skip nothing: the id as text.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.identity import run_key, trace_id
from harness import Figure, Size, figure
from stream import make_stream
from stream_spool import lake_of

_HERE: Final = Path(__file__).resolve().parent
_RUN: Final = "benchmark"
_LARGE: Final = "lake of millions"
_SMALL: Final = "lake of a thousand"
_BY_CHAIN: Final = "SELECT * FROM chain(?)"
_BY_ID: Final = "SELECT * FROM raw_spans WHERE trace_id = unhex(?)"
_BY_TEXT: Final = "SELECT * FROM raw_spans WHERE lower(hex(trace_id)) = ?"


def measure(size: Size) -> dict[str, Figure]:
    """Build a lake and look chains up that are drawn at random."""
    events = size.pick(20_000, 4_000_000, 20_000_000)
    stream = make_stream(events)
    roots = np.flatnonzero(stream.parent == 0) + 1
    picked = np.random.default_rng(5).choice(roots, size.pick(6, 40, 60), replace=False).tolist()
    lengths = {root: int((stream.root == root).sum()) for root in picked}
    with tempfile.TemporaryDirectory() as scratch:
        lake_of(make_stream(1_000), Path(scratch) / _SMALL, _RUN)
        store = lake_of(stream, Path(scratch) / _LARGE, _RUN)
        del stream
        key = run_key(_RUN)
        wanted = {f"{trace_id(key, root):032x}": lengths[root] for root in picked}
        warm, warm_cpu = _median(wanted, lambda hexes: store.find_chain(hexes).num_rows)
        with store.connect() as connection:

            def rows(sql: str) -> Callable[[str], int]:
                return lambda hexes: len(connection.execute(sql, [hexes]).fetchall())

            chain, chain_cpu = _median(wanted, rows(_BY_CHAIN))
            raw, raw_cpu = _median(wanted, rows(_BY_ID))
            few = dict(list(wanted.items())[: size.pick(3, 5, 5)])
            scan, scan_cpu = _median(few, rows(_BY_TEXT))
        cold = [_cold(Path(scratch), hexes, length, size) for hexes, length in few.items()]
    in_process, whole_process = (statistics.median(column) for column in zip(*cold, strict=True))
    peer = (f"DuckDB, scanning {events / 1e6:g}M events", scan)
    return {
        "warm": figure(warm, "ms", peer=peer, goal="< 10 ms", at_most=10),
        "cold": figure(in_process, "ms", peer=peer, goal="< 25 ms", at_most=25),
        "SQL, chain('…')": figure(chain, "ms", peer=peer, goal="< 20 ms", at_most=20),
        "SQL, raw_spans by trace_id": figure(raw, "ms", peer=peer),
        "warm, CPU": figure(warm_cpu, "ms", peer=(peer[0], scan_cpu)),
        "SQL, chain('…'), CPU": figure(chain_cpu, "ms", peer=(peer[0], scan_cpu)),
        "SQL, raw_spans, CPU": figure(raw_cpu, "ms", peer=(peer[0], scan_cpu)),
        "a whole process": figure(whole_process, "ms"),
    }


def _median(wanted: dict[str, int], find: Callable[[str], int]) -> tuple[float, float]:
    """Milliseconds of one look-up, by the wall and of CPU; the first does not count."""
    taken = []
    for hexes, length in wanted.items():
        begun, cpu = time.perf_counter(), time.process_time()
        found = find(hexes)
        taken.append(((time.perf_counter() - begun) * 1e3, (time.process_time() - cpu) * 1e3))
        _check(hexes, found, length)
    wall, cpu = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    return wall, cpu


def _check(hexes: str, found: int, length: int) -> None:
    if found != length:
        raise RuntimeError(f"chain {hexes} has {length} events, {found} were found")


def _cold(folder: Path, hexes: str, length: int, size: Size) -> tuple[float, float]:
    """Milliseconds of a look-up in a new process, and of that process from start to end."""
    begun = time.perf_counter()
    command = [sys.executable, "-P", str(_HERE), "--inside", "find", str(folder), hexes, size]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    whole = (time.perf_counter() - begun) * 1e3
    answer = json.loads(done.stdout)
    _check(hexes, answer["rows"], length)
    return float(answer["milliseconds"]), whole


def _drop_pages(folder: Path, *, everything: bool) -> None:
    """Drop the lake's pages from the cache; at full size the whole cache, where that is allowed."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if everything:
        try:
            Path("/proc/sys/vm/drop_caches").write_text("1")
        except OSError:
            return


def child(folder: str, hexes: str, size: str) -> None:
    """Look one chain up in a new process."""
    EventStore(Path(folder) / _SMALL).find_chain(f"{trace_id(run_key(_RUN), 1):032x}")
    lake = Path(folder) / _LARGE
    _drop_pages(lake, everything=size == Size.FULL)
    begun = time.perf_counter()
    rows = EventStore(lake).find_chain(hexes).num_rows
    taken = (time.perf_counter() - begun) * 1e3
    sys.stdout.write(json.dumps({"rows": rows, "milliseconds": taken}))
