"""The error of the results database."""

from __future__ import annotations

from fillpath.instrumentation.errors import FillpathError


class ResultsError(FillpathError):
    """The results database is there but cannot be used: its folder, its schema, its content."""
