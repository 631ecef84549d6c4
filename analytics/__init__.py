"""Reads the lake: attribution, results, reports and the command line.

The names below are imported when they are first used: a command starts faster without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fillpath.analytics.report_notebook import RunReport, report_of
    from fillpath.analytics.results_manager import ResultsManager

__all__ = ["ResultsManager", "RunReport", "report_of"]

_HOMES = {
    "ResultsManager": "results_manager",
    "RunReport": "report_notebook",
    "report_of": "report_notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
