"""Lets runs go from the results; the lake keeps them, and they can be loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fillpath.analytics.own_partitions import drop_lone_parts, drop_parts_of
from fillpath.analytics.result_partitions import UNDATED, drop_month
from fillpath.analytics.results_error import ResultsError, first_line
from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    import datetime as dt

    from psycopg import Connection
    from psycopg.rows import TupleRow

LOCK_SECONDS: Final = 60
"""How long to wait for loads that are under way."""

_ENDED: Final = "coalesce(ended_at, started_at)"
_OLDER: Final = f"status IS DISTINCT FROM 'Running' AND {_ENDED} < %(before)s"
_BEYOND: Final = (
    "status IS DISTINCT FROM 'Running' AND run_id NOT IN (SELECT run_id FROM runs "
    "ORDER BY started_at DESC NULLS LAST, run_id DESC LIMIT %(keep)s)"
)


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What is let go.

    Attributes:
        runs: The runs, the oldest first.
        months: Months of which nothing is left, so that their partitions are dropped.
    """

    runs: Sequence[str]
    months: Sequence[dt.date]


def plan_retention(
    connection: Connection[TupleRow], *, before: int | None = None, keep: int | None = None
) -> RetentionPlan:
    """Say which runs would go; one that still runs never does.

    Args:
        connection: To the database.
        before: Those that ended before this time (without an end: that were started before it),
            nanoseconds since 1970.
        keep: All but so many of the newest.

    Raises:
        UsageError: Neither or both are given.
    """
    if (before is None) == (keep is None):
        raise UsageError(
            "Say how old runs may become, or how many are kept.",
            next_command="fillpath db retain --older-than 180d",
        )
    going = _OLDER if keep is None else _BEYOND
    rows = connection.execute(
        f"SELECT run_id, run_month FROM runs WHERE {going} "  # noqa: S608 - texts of our own
        "ORDER BY started_at NULLS FIRST, run_id",
        {"before": before, "keep": keep},
    ).fetchall()
    runs = [str(run_id) for run_id, _ in rows]
    whole = connection.execute(
        "SELECT run_month FROM runs GROUP BY run_month HAVING bool_and(run_id = ANY(%s)) "
        "ORDER BY run_month",
        [runs],
    ).fetchall()
    return RetentionPlan(runs, [month for (month,) in whole if month != UNDATED])


def retain(
    connection: Connection[TupleRow], *, before: int | None = None, keep: int | None = None
) -> RetentionPlan:
    """Let runs go as `plan_retention` says, all or none; gives what went.

    Args:
        connection: A connection outside of a transaction.
        before: As there.
        keep: As there.

    Raises:
        UsageError: As there.
        ResultsError: Loads did not end in time, or the database refused; nothing has changed.
    """
    import psycopg

    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            # Loads that are under way end first, new ones wait: none writes to a month that goes.
            connection.execute("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
            plan = plan_retention(connection, before=before, keep=keep)
            drop_parts_of(connection, plan.runs)
            for month in plan.months:
                drop_month(connection, month)
            connection.execute("DELETE FROM runs WHERE run_id = ANY(%s)", [list(plan.runs)])
    except psycopg.errors.LockNotAvailable as error:
        raise ResultsError(
            f"The results have been in use for {LOCK_SECONDS} seconds; nothing was let go.",
            next_command="the same command again in a while",
        ) from error
    except psycopg.Error as error:
        raise ResultsError(
            f"The runs cannot be let go; nothing has changed: {first_line(error)}."
        ) from error
    drop_lone_parts(connection)
    return plan
