"""Regimes by the words of their definition: the host's, else those of prices, one by one."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

WINDOW = 20


def slow_names(prices: Sequence[float] | npt.NDArray[np.float64]) -> list[str | None]:
    """Classify prices one by one, by the words of the definition."""
    names: list[str | None] = []
    volatilities: list[float] = []
    for place in range(len(prices)):
        if place < WINDOW:
            names.append(None)
            continue
        window = [math.log(b / a) for a, b in pairwise(prices[: place + 1])]
        last = window[-WINDOW:]
        volatility = math.sqrt(math.fsum(r**2 for r in last) / WINDOW)
        efficiency = math.fsum(last) / math.fsum(map(abs, last))
        trend = "up" if efficiency > 0.3 else "down" if efficiency < -0.3 else "sideways"
        if len(volatilities) < 20:
            names.append(None)
        else:
            calm = volatility <= float(np.median(volatilities))
            names.append(f"{'calm' if calm else 'turbulent'}, {trend}")
        volatilities.append(volatility)
    return names


@dataclass
class Stay:
    """A regime from one event to another."""

    symbol: str
    name: str
    source: str
    sequence: int
    begin: int
    end: int | None
    events: int


class RegimesByHand:
    """The regimes of a run of daily bars, in which the host speaks of instruments only."""

    def __init__(self, published: Iterable[dict[str, Any]]) -> None:
        self.bars: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.words: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for event in published:
            if event["event_type"] == "BAR":
                self.bars[event["symbol"]].append(event)
            elif event["event_type"] == "REGIME_CHANGE":
                name = json.loads(event["attributes"])["trading.regime_change.state"]
                word = (event["sequence"], event["event_time"], name)
                self.words[event["symbol"]].append(word)
        self.names = {
            symbol: slow_names([float(bar["price"]) for bar in bars])
            for symbol, bars in self.bars.items()
        }

    def at(self, symbol: str, sequence: int) -> str | None:
        """The regime in force at an event."""
        for at, _, name in reversed(self.words[symbol]):
            if at <= sequence:
                return name
        pairs = zip(self.bars[symbol], self.names[symbol], strict=True)
        names = [name for bar, name in pairs if bar["sequence"] <= sequence]
        return names[-1] if names else None

    def stays(self) -> list[Stay]:
        """Every stay in a regime."""
        found: list[Stay] = []
        for symbol, bars in self.bars.items():
            words = self.words[symbol]
            silent = words[0][0] if words else math.inf
            of_symbol: list[Stay] = []
            for bar, name in zip(bars, self.names[symbol], strict=True):
                if name is None or bar["sequence"] >= silent:
                    continue
                if not of_symbol or of_symbol[-1].name != name:
                    place = (bar["sequence"], bar["event_time"], None, 0)
                    of_symbol.append(Stay(symbol, name, "classifier", *place))
                of_symbol[-1].events += 1
            ends = [*(at for at, *_ in words[1:]), math.inf][: len(words)]
            for (at, begin, name), until in zip(words, ends, strict=True):
                count = sum(at <= bar["sequence"] < until for bar in bars)
                of_symbol.append(Stay(symbol, name, "host", at, begin, None, count))
            for stay, following in pairwise(of_symbol):
                stay.end = following.begin
            found += of_symbol
        return found
