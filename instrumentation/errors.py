"""Errors that say what went wrong, where, and what to do next.

Every error a user can meet derives from `FillpathError`. The command line prints its message
and its next command, and leaves with its exit code; it never shows a traceback for one.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_CHECK_FAILED = 3
EXIT_UNREACHABLE = 4
EXIT_NOT_FOUND = 5
EXIT_DIFFERENT = 6


class FillpathError(Exception):
    """A failure with an explanation.

    Args:
        message: What went wrong and where, in one sentence or two.
        next_command: The command (or the setting) that would mend it, if there is one.
    """

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, *, next_command: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_command = next_command

    def __str__(self) -> str:
        if self.next_command is None:
            return self.message
        return f"{self.message} Try: {self.next_command}"


class UsageError(FillpathError):
    """The caller asked for something that makes no sense (a bad option, a query with an error)."""

    exit_code = EXIT_USAGE


class CheckFailed(FillpathError):
    """A check ran and did not hold."""

    exit_code = EXIT_CHECK_FAILED


class BackendUnreachable(FillpathError):
    """A server that is needed (Postgres, an OTLP endpoint) did not answer."""

    exit_code = EXIT_UNREACHABLE


class NotFound(FillpathError):
    """No such run, event, order or fill."""

    exit_code = EXIT_NOT_FOUND


class MissingExtra(FillpathError):
    """An optional dependency is not installed.

    Args:
        extra: The name of the extra in fillpath's metadata, such as ``"report"``.
        needed_for: What it is needed for, as the end of a sentence.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(
            f"The extra '{extra}' is not installed; it is needed {needed_for}.",
            next_command=f"pip install 'fillpath[{extra}]'",
        )
        self.extra = extra


class SpoolError(FillpathError):
    """A spool is missing, foreign, of another version, or damaged."""


class LakeError(FillpathError):
    """A lake is missing, foreign, of another version, or damaged."""
