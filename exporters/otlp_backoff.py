"""How long to wait before an OTLP request is sent again."""

from __future__ import annotations

import math
import random

_JITTER = 0.5
# A server that asks for patience is asked again a little later than it says, not all at once.
_THROTTLED_JITTER = 0.1


class Backoff:
    """Delays that double from attempt to attempt, each by chance between half and all of it.

    Args:
        first: Seconds before the second attempt, at most.
        longest: Seconds that a delay never exceeds by itself.
        longest_asked: Seconds that a server may ask for.
        chance: Where chance comes from; by default a generator of its own, since the host's must
            not be touched.
    """

    def __init__(
        self,
        *,
        first: float = 1.0,
        longest: float = 30.0,
        longest_asked: float = 600.0,
        chance: random.Random | None = None,
    ) -> None:
        self._first = first
        self._longest = longest
        self._longest_asked = longest_asked
        self._chance = chance or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._step = first

    def next(self, retry_after: float | None = None) -> float:
        """Seconds to wait now; the next delay will be twice as long.

        Args:
            retry_after: Seconds that the server asks to wait (`Retry-After`, `RetryInfo`). The
                delay is never shorter than that, up to `longest_asked`.
        """
        delay = self._step * (1 - _JITTER * self._chance.random())
        self._step = min(self._step * 2, self._longest)
        if retry_after is not None and math.isfinite(retry_after) and retry_after > 0:
            asked = min(retry_after, self._longest_asked)
            delay = max(delay, asked * (1 + _THROTTLED_JITTER * self._chance.random()))
        return delay

    def reset(self) -> None:
        """Start anew: a request was accepted."""
        self._step = self._first
