"""What of a program is recorded: everything, nothing, a share of its runs, some portfolios."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.id_share import place_of

_ALL: Final = frozenset({"", "true", "yes", "on"})
_NONE: Final = frozenset({"false", "no", "off"})
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")
_MOST_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is recorded: of a share of the runs the events of some portfolios.

    Args:
        share: Share of the runs, from 0 to 1. A hash of its id decides about a run: the same run is
            in or out everywhere, and a run that is in at a share is in at every higher one.
        portfolios: Patterns of namespaces; none means all. A pattern stands for the namespace that
            it names and all below it; `*` stands for any characters within a segment.
    """

    share: float = 1.0
    portfolios: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``FILLPATH_ENABLED``: parts separated by commas.

        A part is `true` or `false`, a share such as `0.25` or `25%`, or a pattern such as
        `fund/desk` or `fund/*/book`.

        Raises:
            UsageError: When it makes no sense.
        """
        if text.strip().lower() in _ALL:
            return cls()
        if text.strip().lower() in _NONE:
            return cls(0.0)
        share: float | None = None
        portfolios: list[str] = []
        for part in (each.strip() for each in text.split(",")):
            number = _share(part)
            if number is None:
                portfolios.append(_pattern(part, text))
            elif share is not None or not 0.0 <= number <= 1.0:
                raise _nonsense(text)
            else:
                share = number
        return cls(1.0 if share is None else share, tuple(dict.fromkeys(portfolios)))

    def takes_run(self, run_id: str) -> bool:
        """Tell whether a run is recorded."""
        return place_of(identity.run_key(run_id)) < self.share

    def takes_portfolio(self, namespace: str) -> bool:
        """Tell whether the events of a portfolio are recorded, in a run that is."""
        if not self.portfolios:
            return True
        segments = namespace.split("/")
        return any(_fits(pattern.split("/"), segments) for pattern in self.portfolios)

    def __str__(self) -> str:
        parts = [] if self.share == 1.0 and self.portfolios else [f"{self.share:g}"]
        return ",".join([*parts, *self.portfolios])


def _share(part: str) -> float | None:
    """Read a share; None when it is no number."""
    number, is_percent = part.removesuffix("%").strip().lower(), part.endswith("%")
    if not _NUMBER.fullmatch(number):
        return None
    value = float(number)
    return value / 100 if is_percent and math.isfinite(value) else value


def _pattern(part: str, text: str) -> str:
    pattern = part.removesuffix("/")
    words = part.lower()
    if not all(pattern.split("/")) or words in _ALL or words in _NONE or words.endswith("%"):
        raise _nonsense(text)
    return pattern


def _fits(pattern: list[str], segments: list[str]) -> bool:
    if len(pattern) > len(segments):
        return False
    return all(
        part == segment or ("*" in part and _glob(part).fullmatch(segment) is not None)
        for part, segment in zip(pattern, segments, strict=False)
    )


@lru_cache(_MOST_REMEMBERED)
def _glob(part: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)


def _nonsense(text: str) -> UsageError:
    return UsageError(
        f"FILLPATH_ENABLED is {text!r}; it must be true, false, a share of the runs, "
        "or patterns of portfolios.",
        next_command="FILLPATH_ENABLED=25%,fund/desk",
    )
