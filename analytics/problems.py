"""Turns whatever went wrong into one message, the next command and an exit code."""

from __future__ import annotations

from fillpath.instrumentation.errors import EXIT_FAILURE, FillpathError


def explained(error: Exception, debug_variable: str) -> tuple[str, str | None, int]:
    """Explain an error to a user.

    Args:
        error: What was raised.
        debug_variable: The environment variable that shows where.

    Returns:
        The message, the next command if there is one, and the exit code.
    """
    if isinstance(error, FillpathError):
        return error.message, error.next_command, error.exit_code
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}.", "fillpath doctor", EXIT_FAILURE
    if type(error).__module__.endswith("duckdb"):
        return f"The lake cannot be read. {error}", "fillpath doctor", EXIT_FAILURE
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return (
        f"Something unexpected went wrong: {what}",
        f"the same command with {debug_variable}=1 before it shows where",
        EXIT_FAILURE,
    )
