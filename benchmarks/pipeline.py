"""Events a second from the host to the committed Parquet file, on one core.

The host publishes the realistic stream through `Tracing` with its writer process; both stay on one
core, and the CPU time of both counts. What starting them costs is taken out: a short run and a long
one are measured, and the figure is the difference. The SDK's run is measured in the same way.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from harness import Figure, Size, figure, one_core
from peers import PlainParquetExporter, sdk_provider
from replay import emit_stream, span_stream
from stream import Stream, make_stream

Spent = tuple[float, float]
"""Seconds of CPU of all processes, and seconds that passed."""


def measure(size: Size) -> dict[str, Figure]:
    """Record short and long runs in turn, ours and the SDK's."""
    stream = make_stream(size.pick(1_000, 100_000, 100_000))
    times = size.pick(2, 10, 30)
    sample = make_stream(size.pick(500, 5_000, 10_000))
    rounds = size.pick(1, 3, 5)
    ours: list[Spent] = []
    theirs: list[Spent] = []
    starts: list[float] = []
    with one_core():
        for _ in range(rounds):
            short, long = _ours(stream, 1), _ours(stream, times)
            ours.append(_rates(short, long, (times - 1) * len(stream), size))
            starts.append(times * len(stream) / long[0])
            short, long = _sdk(sample, 1), _sdk(sample, 4)
            theirs.append(_rates(short, long, 3 * len(sample), size))
    cpu, wall = (statistics.median(column) for column in zip(*ours, strict=True))
    sdk_cpu, sdk_wall = (statistics.median(column) for column in zip(*theirs, strict=True))
    peer = "OTel SDK, plain Parquet exporter"
    return {
        "sustained, by CPU": figure(
            cpu,
            "events/s",
            peer=(peer, sdk_cpu),
            more_is_better=True,
            goal="≥ 900,000 and ≥ 35×",
            at_least=900_000,
            ratio_at_least=35,
        ),
        "sustained, by wall": figure(wall, "events/s", peer=(peer, sdk_wall), more_is_better=True),
        "with all that starting takes": figure(statistics.median(starts), "events/s"),
    }


def _rates(short: Spent, long: Spent, events: int, size: Size) -> Spent:
    """Events a second, of those that the long run has more than the short one."""
    if size == Size.TINY:  # too short for a difference that means anything
        short = (0.0, 0.0)
    cpu, wall = (more - less for less, more in zip(short, long, strict=True))
    if min(cpu, wall) <= 0:
        raise RuntimeError(f"a run of {events} events more took less time: too much noise")
    return events / cpu, events / wall


def _ours(stream: Stream, times: int) -> Spent:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        session = Tracing("benchmark", data=folder, writer="process")
        with _Stopwatch(folder) as watch:
            session.start()
            publish = emit_stream(session.tracer, stream)
            watch.begin()
            published = publish(times)
            session.stop()
        (run,) = EventStore(folder).run_records()
        rows = EventStore(folder).facts()["spans"].rows
    if run.status != "Ended" or not published == run.kept == rows:
        raise RuntimeError(f"{published} events published, {run.kept} kept, {rows} in the lake")
    return watch.spent


def _sdk(stream: Stream, times: int) -> Spent:
    with tempfile.TemporaryDirectory() as folder:
        exporter = PlainParquetExporter(Path(folder))
        provider = sdk_provider(exporter, times * len(stream))
        publish: Callable[[int], int] = span_stream(provider, stream)
        with _Stopwatch(folder) as watch:
            watch.begin()
            published = publish(times)
            provider.shutdown()
    if exporter.rows != published:
        raise RuntimeError(f"{published} spans published, {exporter.rows} in the files")
    return watch.spent


class _Stopwatch:
    """Counts CPU time of this process, of children that have ended, and of a writer that stays.

    A child's time is known once it has ended; that of a writer that lives on is read from /proc.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.spent: Spent = (0.0, 0.0)

    def __enter__(self) -> Self:
        gc.collect()
        return self

    def begin(self) -> None:
        """Start the clock."""
        self._cpu, self._wall = self._cpu_now(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.spent = (self._cpu_now() - self._cpu, time.perf_counter() - self._wall)

    def _cpu_now(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime + self._of_writers()

    def _of_writers(self) -> float:
        ticks = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._folder.encode() in (process / "cmdline").read_bytes():
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
            except OSError:
                continue  # it has just ended
        return ticks / os.sysconf("SC_CLK_TCK")
