"""What tracing costs each engine: the same backtests untraced, traced, and with spans of the SDK.

``make bench ONLY=engines`` measures every engine that is installed, ``ONLY=engine_zipline`` one.
The peer is what a user would write: a span of OpenTelemetry's SDK for each event, with the same
attributes, through `BatchSpanProcessor` to an exporter that does nothing. CPU time of the whole
process counts; the writer, which is another process, is left out.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Final, NamedTuple

from harness import Figure, Size, alternate, figure

PREFIX: Final = "engine_"
_PEER: Final = "a span of the SDK for each event"


class _Engine(NamedTuple):
    """An engine that can be measured.

    Attributes:
        title: What it is called.
        distribution: What it is installed as; None for what is part of the benchmarks.
        releases: How the versions begin that the adapter is for; the empty word for any.
        rounds: How often it runs, at the usual size and at full size.
    """

    title: str
    distribution: str | None
    releases: str = ""
    rounds: tuple[int, int] = (3, 7)

    @property
    def is_here(self) -> bool:
        """Whether it is installed."""
        if self.distribution is None:
            return True
        try:
            return metadata.version(self.distribution).startswith(self.releases)
        except metadata.PackageNotFoundError:
            return False


_ENGINES: Final = {
    "nautilus": _Engine("NautilusTrader 1.x", "nautilus_trader", "1."),
    "nautilus2": _Engine("NautilusTrader 2.x", "nautilus_trader", "2."),
    "backtrader": _Engine("backtrader", "backtrader"),
    "zipline": _Engine("zipline-reloaded", "zipline-reloaded"),
    "backtesting": _Engine("backtesting.py", "backtesting"),
    "basana": _Engine("basana", "basana"),
    "bus": _Engine("a home-made bus", None),
}
NAMES: Final = tuple(PREFIX + name for name in _ENGINES)
"""A benchmark for each engine: the modules are called ``zipline_runs`` and so on."""


def absent(name: str) -> str | None:
    """Tell what a benchmark of an engine lacks; None if nothing."""
    engine = _ENGINES.get(name.removeprefix(PREFIX))
    if engine is None or engine.is_here:
        return None
    return f"{engine.title} is not installed"


def measure(size: Size, name: str) -> dict[str, Figure]:
    """Run the backtests of one engine in turn: untraced, traced, with spans of the SDK.

    Args:
        size: How much.
        name: The engine, by a name of `NAMES`.
    """
    name = name.removeprefix(PREFIX)
    engine = _ENGINES[name]
    runs = importlib.import_module(f"{name}_runs")
    events: list[int] = []
    spans: list[int] = []
    costs = alternate(runs.variants(size, events, spans), rounds=size.pick(1, *engine.rounds))
    alone, ours, theirs = (costs[variant].cpu for variant in ("untraced", "traced", "sdk"))
    each, each_of_theirs = (ours - alone) / events[-1], (theirs - alone) / spans[-1]
    figures = {
        "run, traced ÷ untraced": figure(
            ours / alone, "×", peer=(_PEER, theirs / alone), goal="published"
        ),
        "added to an event": figure(
            each / 1e3, "µs", peer=(_PEER, each_of_theirs / 1e3), goal="less than a span of the SDK"
        ),
        "the engine itself": figure(alone / events[-1] / 1e3, "µs/event"),
        "run, untraced": figure(alone / 1e6, "ms"),
        "events": figure(float(events[-1]), "", peer=("spans of the SDK", float(spans[-1]))),
    }
    if name == "nautilus":
        # The speed of an engine that takes as long for an event as tracing it does.
        figures["break-even engine speed"] = figure(
            1e9 / each, "events/s", peer=(_PEER, 1e9 / each_of_theirs), more_is_better=True
        )
    if more := getattr(runs, "figures", None):
        figures |= more(size)
    return figures
