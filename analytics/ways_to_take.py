"""Which of the fills that wait a statement of an account may show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fillpath.analytics.position_book import Execution

MOST_IN_A_QUEUE: Final = 16
"""So many fills are tried one by one."""
_MAX_PASSED_OVER: Final = 64
"""An account that shows none of so many fills will not show them all at once."""


def ways_to_take(
    passed: list[Execution], fresh: list[Execution], *, has_changed: bool
) -> Iterator[tuple[list[Execution], list[Execution], list[Execution], bool]]:
    """List which fills a statement may show, the likeliest first.

    Args:
        passed: Fills that an earlier statement has passed over.
        fresh: Fills since then.
        has_changed: Whether the account has changed at all.

    Yields:
        Fills that are passed over, fills that the statement shows, fills that are still to be
        stated, and whether an exchange rate may be taken from the change itself.
    """
    if fresh:
        yield passed, fresh, [], False
    for count in range(1, min(len(fresh), MOST_IN_A_QUEUE)):
        yield passed, fresh[:count], fresh[count:], False
    if len(fresh) > 1:
        yield [*passed, *fresh[:-1]], fresh[-1:], [], False
    if has_changed and 0 < len(passed) <= _MAX_PASSED_OVER:
        yield [], [*passed, *fresh], [], False
    if fresh:
        yield passed, fresh, [], True
