"""Lets a reader of OpenTelemetry metrics read numbers that somebody keeps anyway.

The metrics API is not imported here before it is needed: most processes publish none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation.semconv import SCOPE_NAME

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, Observation

Numbers = Iterable[tuple[int, Mapping[str, str]]]
"""Numbers, each with its attributes."""
SECONDS_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Bounds of a histogram of seconds. OpenTelemetry's own are those of milliseconds."""


def meter_if_wanted() -> Meter | None:
    """Give the meter of this process; None while nothing in it has to do with metrics."""
    if "opentelemetry.metrics" not in sys.modules:
        return None
    from opentelemetry import metrics

    return metrics.get_meter(SCOPE_NAME)


def callback(observed: Callable[[], Numbers]) -> Callable[[Any], list[Observation]]:
    """Make what a reader calls of a function that gives numbers; where that fails, there are none.

    It is called in the reader's thread.
    """
    from opentelemetry.metrics import Observation

    def observe(_: Any) -> list[Observation]:
        try:
            return [Observation(number, attributes) for number, attributes in observed()]
        except Exception:  # noqa: BLE001 - such as a lake that cannot be read just now
            return []

    return observe
