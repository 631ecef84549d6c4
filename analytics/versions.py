"""Which versions are installed, and whether they are ones that fillpath was tested with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fillpath.analytics.cli_options import Invocation

DISTRIBUTION: Final = "fillpath"
ENGINES: Final = ("nautilus_trader",)
"""Distributions of the engines that fillpath attaches to by itself."""


def fillpath_version() -> str:
    """Version of fillpath."""
    return version(DISTRIBUTION)


def installed_version(distribution: str) -> str | None:
    """Version of a distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def show_versions(given: Invocation) -> None:
    """Print the versions that a report of a problem should name."""
    from fillpath.analytics.output import print_json, print_line

    found = {
        DISTRIBUTION: fillpath_version(),
        "python": platform.python_version(),
        **{name: installed_version(name) for name in (*ENGINES, "duckdb", "deltalake", "pyarrow")},
    }
    if given.json:
        print_json(found)
        return
    for name, number in found.items():
        print_line(f"{name} {number or 'not installed'}")


def requirements() -> list[str]:
    """Requirements of fillpath as its metadata states them, extras included."""
    return requires(DISTRIBUTION) or []
