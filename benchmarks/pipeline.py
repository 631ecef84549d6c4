"""Events a second from the host to the committed Parquet file, on one core.

The host publishes a stream through `Tracing` with its writer process; both stay on one core, and
the CPU time of both counts. Two streams: the realistic one, whose orders, fills and positions have
ids, and the same events without the ids, so that all have nothing but numbers.

Two things are taken out, of ours and of the SDK's in the same way. What starting costs: a short run
and a long one are measured, and the figure is the difference. And what the host's own loop takes:
the same loop runs in the same round with emitters, or a tracer, that do nothing. What is left is
the cost of recording: of the calls, and of all that follows from them.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
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
    """Record short and long runs in turn, ours and the SDK's, of both streams."""
    stream = make_stream(size.pick(1_000, 100_000, 100_000))
    times = size.pick(2, 5, 30)
    sample = make_stream(size.pick(500, 5_000, 10_000))
    rounds = size.pick(1, 3, 5)
    rates: dict[str, list[Spent]] = {}
    starts: list[float] = []
    hosts: list[float] = []
    with one_core():
        for _ in range(rounds):
            for title, ours, theirs in (
                ("plain", _without_names(stream), _without_names(sample)),
                ("with orders", stream, sample),
            ):
                host = _idle(emit_stream(None, ours), times - 1)
                short, long = _ours(ours, 1), _ours(ours, times)
                events = (times - 1) * len(ours)
                rates.setdefault(title, []).append(_rates(short, long, host, events, size))
                starts.append(times * len(ours) / long[0])
                hosts.append(host[0] / events * 1e6)
                host = _idle(span_stream(None, theirs), 3)
                short, long = _sdk(theirs, 1), _sdk(theirs, 4)
                sdk = _rates(short, long, host, 3 * len(theirs), size)
                rates.setdefault(f"SDK {title}", []).append(sdk)
    figures: dict[str, Figure] = {}
    peer = "OTel SDK, plain Parquet exporter"
    for title in ("plain", "with orders"):
        cpu, wall = _medians(rates[title])
        sdk_cpu, sdk_wall = _medians(rates[f"SDK {title}"])
        figures[f"{title}: sustained"] = figure(
            cpu,
            "events/s",
            peer=(peer, sdk_cpu),
            more_is_better=True,
            goal="≥ 900,000 and ≥ 35×",
            at_least=900_000,
            ratio_at_least=35,
        )
        figures[f"{title}: by wall"] = figure(
            wall, "events/s", peer=(peer, sdk_wall), more_is_better=True
        )
    figures["the host's own loop, taken out"] = figure(statistics.median(hosts), "µs/event")
    figures["with all that starting takes, and the loop"] = figure(
        statistics.median(starts), "events/s"
    )
    return figures


def _without_names(stream: Stream) -> Stream:
    return replace(stream, names={})


def _medians(spent: list[Spent]) -> Spent:
    cpu, wall = zip(*spent, strict=True)
    return statistics.median(cpu), statistics.median(wall)


def _rates(short: Spent, long: Spent, host: Spent, events: int, size: Size) -> Spent:
    """Events a second, of those that the long run has more than the short one.

    Args:
        short: What the short run took.
        long: What the long one took.
        host: What the host's own loop takes for the events that the long one has more.
        events: How many these are.
        size: When it is tiny, nothing is taken out: the runs are too short for it.
    """
    if size == Size.TINY:
        short = host = (0.0, 0.0)
    cpu, wall = (more - less - own for less, more, own in zip(short, long, host, strict=True))
    if min(cpu, wall) <= 0:
        raise RuntimeError(f"a run of {events} events more took less time: too much noise")
    return events / cpu, events / wall


def _idle(publish: Callable[[int], int], times: int) -> Spent:
    """What a host's loop takes that records nothing."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    publish(times)
    return time.process_time() - cpu, time.perf_counter() - wall


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
