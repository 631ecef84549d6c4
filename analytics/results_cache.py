"""Answers about a run that took a while, kept in the database until the run is loaded again.

An answer counts only as long as the run's loads are the very ones it was made from. That is asked
in the statement that reads it, so that nobody is served an old one, whichever process loaded.
"""

from __future__ import annotations

import datetime as dt
import json
import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol

from fillpath.analytics.versions import fillpath_version

_DECIMAL: Final = "$decimal"
_DAY: Final = "$date"
_TIME: Final = "$time"


class Reader(Protocol):
    """Runs one of the statements in ``sql/results/``, as `ResultsManager.read` does."""

    def __call__(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Give its rows by column."""


def cached(
    read: Reader, run_id: str, name: str, parameters: Mapping[str, object], make: Callable[[], Any]
) -> Any:
    """Give the answer that is kept, or make it and keep it.

    Args:
        read: Runs statements.
        run_id: The run that the answer is about, and no other.
        name: What is asked.
        parameters: With what; whatever JSON can hold.
        make: Makes the answer: what JSON can hold, and decimals, dates and times.

    Returns:
        The answer; a kept one has lists for tuples.
    """
    asked = json.dumps([name, fillpath_version(), parameters], sort_keys=True)
    kept = read("cached_answer", run_id=run_id, asked=asked)
    if kept:
        return _unpacked(bytes(kept[0]["answer"]))
    # Before the answer is made: should a load come in between, nobody will take it for newer.
    (loads,) = read("loads_of_run", run_id=run_id)
    answer = make()
    if loads["source_version"] is not None:
        read(
            "keep_answer",
            run_id=run_id,
            asked=asked,
            source_version=loads["source_version"],
            answer=_packed(answer),
        )
    return answer


def _packed(answer: object) -> bytes:
    return zlib.compress(json.dumps(answer, default=_tagged).encode(), 1)


def _unpacked(kept: bytes) -> Any:
    return json.loads(zlib.decompress(kept), object_hook=_untagged)


def _tagged(value: object) -> dict[str, str]:
    if isinstance(value, Decimal):
        return {_DECIMAL: str(value)}
    if isinstance(value, dt.datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, dt.date):
        return {_DAY: value.isoformat()}
    raise TypeError(f"an answer with a {type(value).__name__} in it cannot be kept")


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        ((key, text),) = value.items()
        if key == _DECIMAL:
            return Decimal(text)
        if key == _TIME:
            return dt.datetime.fromisoformat(text)
        if key == _DAY:
            return dt.date.fromisoformat(text)
    return value
