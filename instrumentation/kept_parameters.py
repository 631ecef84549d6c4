"""Which settings of a strategy are kept with its run, to compare and to sweep over."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from numbers import Number
from typing import Any, Final

_PLAIN: Final = (Number, str, dt.date, dt.time, dt.timedelta)
_LONGEST_TEXT: Final = 200
_SECRET: Final = re.compile(
    r"secret|token|passw|credential|(?:^|_|api|access|private)keys?$", re.IGNORECASE
)


def kept(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Choose the settings to keep: plain values under public names.

    Numbers (of numpy, too), texts and times are plain. A long text is data, and what may be a
    secret by its name stays where it is.

    Args:
        settings: Names and values; of two with one name the later counts.
    """
    return {
        name: value
        for name, value in settings
        if not name.startswith("_")
        and isinstance(value, _PLAIN)
        and not (isinstance(value, str) and len(value) > _LONGEST_TEXT)
        and not may_be_secret(name)
    }


def may_be_secret(name: str) -> bool:
    """Tell whether a setting is a password or a key by its name."""
    return _SECRET.search(name) is not None
