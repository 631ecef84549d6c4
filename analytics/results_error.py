"""The error of the results database."""

from __future__ import annotations

from fillpath.instrumentation.errors import FillpathError


class ResultsError(FillpathError):
    """The results database is there but cannot be used: its folder, its schema, its content."""


def first_line(error: Exception) -> str:
    """Give the first line of what a server or library said, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
