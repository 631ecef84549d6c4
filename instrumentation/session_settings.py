"""What a recording session is set to: arguments and variables, read and checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from fillpath.instrumentation import settings
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.recorder import DEFAULT_LIMIT
from fillpath.instrumentation.trace_limit import DEFAULT_TRACE_LIMIT

_USUAL_DELIVERY: Final = {"backtest": "lossless", "live": "live"}
_SYNC_SECONDS: Final = {"none": None, "10ms": 0.01, "200ms": 0.2}


def _one_of(allowed: tuple[str, ...], given: str, name: str) -> str:
    if given not in allowed:
        raise UsageError(f"{name} is {given!r}; it must be one of {', '.join(allowed)}.")
    return given


def mode(given: str | None) -> str:
    """Give the mode of a run: what the host says, else ``FILLPATH_MODE``, else ``backtest``.

    Raises:
        UsageError: It is none, as with the others below.
    """
    chosen = given or os.environ.get(settings.ENV_MODE) or "backtest"
    return _one_of(("backtest", "live"), chosen, settings.ENV_MODE)


def writer(given: str | None) -> str:
    """Say who brings a spool into the lake."""
    chosen = given or os.environ.get(settings.ENV_WRITER) or "process"
    return _one_of(("process", "inline", "none"), chosen, settings.ENV_WRITER)


def lake_sampling(given: str | None) -> str:
    """Say what of a run is kept in the lake."""
    chosen = given or os.environ.get(settings.ENV_LAKE_SAMPLING) or "all"
    return _one_of(("all", "policy"), chosen, settings.ENV_LAKE_SAMPLING)


def delivery(given: str | None, mode: str) -> str:
    """Say what happens when a spool is too far ahead; by itself, as the mode is."""
    chosen = given or os.environ.get(settings.ENV_DELIVERY) or _USUAL_DELIVERY[mode]
    return _one_of(("lossless", "live"), chosen, settings.ENV_DELIVERY)


def way(given: str | None, *, has_provider: bool) -> str:
    """Say how events leave the process; a provider of the SDK's is named to be used."""
    chosen = given or os.environ.get(settings.ENV_WAY) or ("otel" if has_provider else "spool")
    return _one_of(("spool", "otel"), chosen, settings.ENV_WAY)


def otlp(given: str | None) -> str:
    """Say what of a run is sent by OTLP."""
    chosen = given or settings.otlp_choice()
    return _one_of(("off", "sampled", "all"), chosen, settings.ENV_OTLP_SELECTION)


def spool_limit() -> int:
    """Read how many bytes a spool may be ahead of its writer.

    Raises:
        UsageError: ``FILLPATH_SPOOL_LIMIT`` is no such number.
    """
    given = os.environ.get(settings.ENV_SPOOL_LIMIT)
    if given is None or not given.strip():
        return DEFAULT_LIMIT
    try:
        number = int(given)
    except ValueError:
        number = -1
    if number < 0:
        raise UsageError(f"{settings.ENV_SPOOL_LIMIT} is {given!r}; it must be a number of bytes.")
    return number


def trace_limit() -> int:
    """Read how many events a trace may have; 0 is any number.

    Raises:
        UsageError: ``FILLPATH_TRACE_LIMIT`` is no such number.
    """
    given = os.environ.get(settings.ENV_TRACE_LIMIT)
    word = "" if given is None else given.strip().lower()
    if not word:
        return DEFAULT_TRACE_LIMIT
    if word == "none":
        return 0
    if not word.isascii() or not word.isdigit() or int(word) < settings.SMALLEST_TRACE_LIMIT:
        raise UsageError(
            f"{settings.ENV_TRACE_LIMIT} is {given!r}; it must be a number of events, "
            f"{settings.SMALLEST_TRACE_LIMIT} or more, or none."
        )
    return int(word)


def sync_seconds() -> float | None:
    """Read how often a spool is made safe from a loss of power; None is never.

    Raises:
        UsageError: ``FILLPATH_SPOOL_SYNC`` is none of the words.
    """
    given = os.environ.get(settings.ENV_SPOOL_SYNC) or "none"
    return _SYNC_SECONDS[_one_of(tuple(_SYNC_SECONDS), given, settings.ENV_SPOOL_SYNC)]


def program_name() -> str:
    """Name the program by its script; ``python`` where there is none."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None) or (sys.argv[0] if sys.argv else "")
    return Path(file).stem or "python"
