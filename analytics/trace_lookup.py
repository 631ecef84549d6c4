"""Finds what an id stands for: a chain, a span, an order, a fill or a position.

Ids are matched whole first; what matches no whole id may be the beginning of exactly one, or its
beginning and its end with an ellipsis between, as long ids are shown. Both are
looked for column by column in the view `raw_spans`, so that DuckDB can skip what cannot hold them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.run_lookup import LATEST, find_run, listed, run_ids
from fillpath.analytics.span_places import BINARY_DIGITS, hex_range, is_hex
from fillpath.instrumentation.errors import NotFound, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ID_COLUMNS: Final = {
    "trace_id": "trace",
    "correlation_id": "chain",
    "span_id": "span",
    "fill_id": "fill",
    "client_order_id": "order",
    "order_id": "venue-order",
    "position_id": "position",
}
"""Columns that hold an id, and the word for what it names; the first that matches counts.

Engines count orders and fills separately, in the same form: one id may name one of each.
"""

_ELLIPSIS: Final = re.compile("…|\\.{3}")
_MOST_ROWS_FOR_NEAREST: Final = 2_000_000
"""In a larger lake, the nearest id is not looked for: that reads every id there is."""
_ANYTHING: Final = "chain, span, order, fill or position"


@dataclass(frozen=True, slots=True)
class Target:
    """What an id turned out to mean.

    Args:
        kind: Word for what it names, one of the values of `ID_COLUMNS`.
        column: The column that holds it.
        value: The whole id.
        run_id: The run it is in.
        portfolio: The portfolio it is in; None if it is in none or, for a chain, in several.
        elsewhere: Sentences about other portfolios in which the id also occurs, or other meanings.
        other_runs: Other runs in which it occurs, the newest first.
    """

    kind: str
    column: str
    value: str
    run_id: str
    portfolio: str | None
    elsewhere: tuple[str, ...] = ()
    other_runs: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know who meant something else."""
        if not self.other_runs:
            return self.elsewhere
        of_runs = (
            f"{self.kind} {self.value} is in {len(self.other_runs) + 1} runs; this is the newest. "
            f"--run chooses another: {_some(self.other_runs)}."
        )
        return (of_runs, *self.elsewhere)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where to look: these columns, this run and this portfolio, None meaning any."""

    columns: Sequence[str]
    run_id: str | None
    portfolio: str | None

    def conditions(self) -> tuple[list[str], list[str]]:
        """Conditions on a row, and the values bound to them."""
        wanted = {"run_id": self.run_id, "portfolio": self.portfolio}
        set_ones = {name: value for name, value in wanted.items() if value is not None}
        return [f"{name} = ?" for name in set_ones], list(set_ones.values())


@dataclass(frozen=True, slots=True)
class _Hit:
    column: str
    value: str
    run_id: str
    portfolio: str | None
    last: int


def find_target(
    connection: DuckDBPyConnection,
    given: str,
    *,
    run: str | None = None,
    portfolio: str | None = None,
    kind: str | None = None,
    again: Callable[[str], Sequence[str]] | None = None,
) -> Target:
    """Find what `given` means.

    Args:
        connection: A connection with the views `spans`, `raw_spans` and `runs`.
        given: An id, the beginning of exactly one (or `beginning…end`), or ``latest``: the last
            fill of the last run.
        run: Look in this run only; an id, a unique prefix or ``latest``.
        portfolio: Look in this portfolio only.
        kind: Look for this kind only, one of the values of `ID_COLUMNS`.
        again: Gives the words of the command that asks, without the program's name, for another
            id; left out, it is `trace show`.

    Raises:
        NotFound: Nothing has such an id; names the nearest.
        UsageError: Several ids begin so; names them.
    """
    if again is None:
        again = _show
    run_id = None if run is None else find_run(connection, run)
    if given == LATEST:
        return _last_fill(connection, run_id or find_run(connection, LATEST), portfolio)
    given = given.strip()
    if not given:
        raise UsageError("The id is empty.", next_command=_written(again(LATEST)))
    scope = _Scope(
        [column for column, word in ID_COLUMNS.items() if kind in {None, word}], run_id, portfolio
    )
    hits = _hits(connection, _spellings(given), scope, whole=True)
    if not hits and len(given) > 1:
        hits = _hits(connection, _spellings(given), scope, whole=False)
        values = dict.fromkeys(hit.value for hit in hits)
        if len(values) > 1:
            raise UsageError(
                f"{len(values)} ids begin with '{given}':\n{_candidates(hits)}",
                next_command="more of the id",
            )
    if not hits:
        raise _not_found(connection, given, scope, again)
    return _newest(connection, hits)


def _spellings(given: str) -> list[str]:
    # Our ids are lower-case hex; a UUID that a host gave has dashes that a trace id has not.
    lowered = given.lower()
    packed = lowered.replace("-", "")
    spellings = [given]
    if is_hex(_ELLIPSIS.sub("", packed)) and packed not in spellings:
        spellings.append(packed)
    return spellings


def _hits(
    connection: DuckDBPyConnection, spellings: list[str], scope: _Scope, *, whole: bool
) -> list[_Hit]:
    """Find every id that is one of the spellings, or that begins (and ends) as one does."""
    limits, limit_values = scope.conditions()
    queries: list[str] = []
    values: list[str] = []
    for column in scope.columns:
        for expression, condition, given in _conditions(column, spellings, whole=whole):
            where = " AND ".join([condition, *limits])
            queries.append(
                f"SELECT '{column}', {expression}, run_id, portfolio, max(sequence) "  # noqa: S608
                f"FROM raw_spans WHERE {where} GROUP BY ALL"
            )
            values += [*given, *limit_values]
    if not queries:
        return []
    rows = connection.execute(" UNION ALL ".join(queries), values).fetchall()
    order = list(ID_COLUMNS)
    rows.sort(key=lambda row: (order.index(row[0]), row[1], row[2], -row[4]))
    return [_Hit(*row) for row in dict.fromkeys(rows)]


def _conditions(
    column: str, spellings: list[str], *, whole: bool
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield what shows the id, a condition on it, and the values of the condition.

    Column names are ours. A condition names one column, so that statistics can be used.
    """
    if column in BINARY_DIGITS:
        yield from _binary_conditions(column, spellings, whole=whole)
        return
    for spelling in spellings:
        if whole:
            yield column, f"{column} = ?", [spelling]
            continue
        parts = _ELLIPSIS.split(spelling, maxsplit=1)
        ends = f" AND ends_with({column}, ?)" * (len(parts) - 1)
        yield column, f"starts_with({column}, ?){ends}", parts
    if column == "correlation_id":
        # A chain that the host did not name goes by its trace id.
        for shown, condition, values in _binary_conditions("trace_id", spellings, whole=whole):
            yield shown, f"correlation_id IS NULL AND {condition}", values


def _binary_conditions(
    column: str, spellings: list[str], *, whole: bool
) -> Iterator[tuple[str, str, list[str]]]:
    shown, digits = f"lower(hex({column}))", BINARY_DIGITS[column]
    for spelling in dict.fromkeys(spelling.lower() for spelling in spellings):
        begin, *end = _ELLIPSIS.split(spelling, maxsplit=1)
        known = begin + "".join(end)
        if not is_hex(known) or len(known) > digits:
            continue
        if len(begin) == digits:
            yield shown, f"{column} = unhex(?)", [begin]
        elif not whole:
            ends = f" AND ends_with({shown}, ?)" * len(end)
            lowest, highest = hex_range(begin, digits)
            yield (
                shown,
                f"{column} BETWEEN unhex(?) AND unhex(?){ends}",
                [lowest, highest, *end],
            )


def _newest(connection: DuckDBPyConnection, hits: list[_Hit]) -> Target:
    """Choose the newest run that has the id, there the first kind, and its last portfolio."""
    age = {run_id: age for age, run_id in enumerate(run_ids(connection))}
    runs = sorted({hit.run_id for hit in hits}, key=lambda one: (age.get(one, len(age)), one))
    in_run = [hit for hit in hits if hit.run_id == runs[0]]
    # In the order of ID_COLUMNS; a chain whose name is its trace id is no second thing.
    columns = list(dict.fromkeys(hit.column for hit in in_run))
    chosen = max((hit for hit in in_run if hit.column == columns[0]), key=lambda hit: hit.last)
    target = Target(
        ID_COLUMNS[chosen.column], chosen.column, chosen.value, chosen.run_id, chosen.portfolio
    )
    portfolios = [
        hit.portfolio or "none"
        for hit in in_run
        if hit.column == columns[0] and hit.portfolio != chosen.portfolio
    ]
    if portfolios and chosen.column in {"trace_id", "correlation_id"}:
        target, portfolios = replace(target, portfolio=None), []
    name = f"{target.kind} {target.value}"
    notes = []
    if portfolios:
        notes.append(
            f"{name} is in {len(portfolios) + 1} portfolios; this is {chosen.portfolio}. "
            f"--portfolio chooses another: {_some(portfolios)}."
        )
    if kinds := [ID_COLUMNS[column] for column in columns[1:] if column != "correlation_id"]:
        notes.append(
            f"{target.value} also names something else; this is the {target.kind}. "
            f"--kind chooses another: {_some(kinds)}."
        )
    return replace(target, elsewhere=tuple(notes), other_runs=tuple(runs[1:]))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _candidates(hits: list[_Hit]) -> str:
    by_value: dict[str, _Hit] = {}
    for hit in hits:
        by_value.setdefault(hit.value, hit)
    width = max(len(ID_COLUMNS[hit.column]) for hit in by_value.values())
    return listed(
        [
            f"{ID_COLUMNS[hit.column]:{width}}  {hit.value}  ({hit.run_id}, {hit.portfolio})"
            for hit in by_value.values()
        ]
    )


def _last_fill(connection: DuckDBPyConnection, run_id: str, portfolio: str | None) -> Target:
    values: list[Any] = [run_id]
    extra = ""
    if portfolio is not None:
        extra = "AND portfolio = ?"
        values.append(portfolio)
    row = connection.execute(
        "SELECT coalesce(fill_id, span_id), fill_id IS NOT NULL, portfolio FROM spans "  # noqa: S608
        f"WHERE run_id = ? AND event_type = 'FILL' AND name = 'publish FILL' {extra} "
        "ORDER BY sequence DESC LIMIT 1",
        values,
    ).fetchone()
    if row is None:
        where = f"run '{run_id}'" + ("" if portfolio is None else f", portfolio '{portfolio}'")
        raise NotFound(f"There is no fill in {where}.", next_command="fillpath runs list")
    value, has_id, owner = row
    column = "fill_id" if has_id else "span_id"
    return Target(ID_COLUMNS[column], column, value, run_id, owner)


def command_for(*words: str, **options: str | bool | None) -> Callable[[str], list[str]]:
    """Make `again` of `find_target`: these words, then the id, then the options that are set."""

    def again(wanted: str) -> list[str]:
        given = [*words, wanted]
        for name, value in options.items():
            if value is not None and value is not False:
                given += [f"--{name}"] if value is True else [f"--{name}", value]
        return given

    return again


_show: Final = command_for("trace", "show")


def _written(words: Sequence[str]) -> str:
    return shlex.join(["fillpath", *words])


def _not_found(
    connection: DuckDBPyConnection,
    given: str,
    scope: _Scope,
    again: Callable[[str], Sequence[str]],
) -> NotFound:
    row = _nearest(connection, given, scope)
    what = ID_COLUMNS[scope.columns[0]] if len(scope.columns) == 1 else _ANYTHING
    place = f" in run '{scope.run_id}'" if scope.run_id else ""
    place += f" in portfolio '{scope.portfolio}'" if scope.portfolio else ""
    message = f"No {what}{place} has the id '{given}'."
    if row is None:
        return NotFound(message, next_command=_written(again(LATEST)))
    return NotFound(
        f"{message} The nearest is '{row[0]}'.",
        next_command=_written(again(row[0])),
    )


def _nearest(connection: DuckDBPyConnection, given: str, scope: _Scope) -> tuple[str] | None:
    """Find the id that looks most like this one; None also where that would take long."""
    limits, values = scope.conditions()
    condition = f"WHERE {' AND '.join(limits)}" if limits else ""
    count = connection.execute(
        f"SELECT count(*) FROM raw_spans {condition}",  # noqa: S608 - names are ours
        values,
    ).fetchone()
    if count is None or count[0] > _MOST_ROWS_FOR_NEAREST:
        return None
    columns = ", ".join(scope.columns)
    row: tuple[str] | None = connection.execute(
        "SELECT id FROM ("  # noqa: S608 - names are ours
        f"SELECT DISTINCT unnest([{columns}]) AS id FROM spans {condition}"
        ") WHERE id IS NOT NULL ORDER BY jaro_winkler_similarity(id, ?) DESC, id LIMIT 1",
        [*values, given],
    ).fetchone()
    return row
