"""What two runs were started with and recorded by, and which of their events can be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.event_fields import FieldDifference
from fillpath.instrumentation.semconv import EventType

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COLUMNS: Final = ("mode", "status", "service_name", "engine", "engine_version", "error")
_OF_THE_RECORDING: Final = frozenset(
    {"clock_offset", "delivery", "way", "writer", "lake", "otlp", "engine", "engine_version"}
)
_SAMPLING: Final = "sampling"


@dataclass(frozen=True, slots=True)
class ComparedKinds:
    """Which kinds of event are compared.

    Attributes:
        kinds: As `Comparison` takes them.
        notes: Sentences about what is not compared, and why.
    """

    kinds: Mapping[str, bool] | None
    notes: tuple[str, ...]


def differing_cards(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[FieldDifference]:
    """List what two rows of the view `runs` differ in: parameters, versions, policies.

    Clocks, names of machines and the way of recording are not among it.
    """
    ours, theirs = dict(_facts(a)), dict(_facts(b))
    names = dict.fromkeys((*ours, *theirs))
    return [
        FieldDifference(name, ours.get(name), theirs.get(name))
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _facts(run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for column in _COLUMNS:
        yield column, run.get(column)
    for column in ("parameters", "metadata"):
        facts = run.get(column) or {}
        noise = _OF_THE_RECORDING if column == "metadata" else ()
        yield from _flat(column, {key: facts[key] for key in facts if key not in noise})


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(f"{name}.{key}", one)
    elif value != {}:
        yield name, value


def compared_kinds(
    a: Mapping[str, Any], b: Mapping[str, Any], wanted: Collection[str] = ()
) -> ComparedKinds:
    """Decide which kinds of event can be compared, by what both runs have kept.

    A kind of which a run was sampled is compared by its critical events, which do not depend on
    chance, if both runs were sampled by the same policy; otherwise it is left out.

    Args:
        a: A row of the view `runs`.
        b: Another one.
        wanted: Only these kinds; none means all.
    """
    notes = [*_remarks("A", a), *_remarks("B", b)]
    sampled_a, sampled_b = _sampled(a), _sampled(b)
    if not wanted and not sampled_a and not sampled_b:
        return ComparedKinds(None, tuple(notes))
    kinds: dict[str, bool] = {}
    left_out: list[str] = []
    same_policy = _policy(a) == _policy(b)
    for kind in sorted({*_kinds(a), *_kinds(b), *wanted}):
        if wanted and kind not in wanted:
            continue
        if kind not in sampled_a | sampled_b:
            kinds[kind] = True
        elif kind in sampled_a & sampled_b and same_policy and kind in _critical(a):
            kinds[kind] = False
        else:
            left_out.append(kind)
    if not sampled_a and not sampled_b and not wanted:
        kinds[EventType.DELIVERY] = True
    if left_out:
        notes.append(
            f"Of {', '.join(left_out)} not all were kept, so they are not compared; what was is: "
            f"{', '.join(kinds) or 'nothing'}."
        )
    if partly := [kind for kind, wholly in kinds.items() if not wholly]:
        notes.append(f"Of {', '.join(partly)} the critical ones are compared: the rest is sampled.")
    return ComparedKinds(kinds, tuple(notes))


def _rows(run: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return run.get("completeness") or ()


def _kinds(run: Mapping[str, Any]) -> set[str]:
    return {str(row["event_type"]) for row in _rows(run)}


def _sampled(run: Mapping[str, Any]) -> set[str]:
    return {str(row["event_type"]) for row in _rows(run) if row.get("sampled_out")}


def _policy(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return (run.get("metadata") or {}).get(_SAMPLING) or {}


def _critical(run: Mapping[str, Any]) -> Collection[str]:
    return _policy(run).get("critical_kinds") or ()


def _remarks(name: str, run: Mapping[str, Any]) -> Iterator[str]:
    if run.get("status") != "Ended":
        state = "is still running" if run.get("status") == "Running" else "crashed"
        yield f"{name} {state}: it may end before the other does."
    if lost := run.get("dropped"):
        yield f"{name} lost {lost} events while it was recorded; they are missing here, too."


def portfolios_of(connection: DuckDBPyConnection, run_id: str) -> set[str]:
    """Names of the portfolios of a run."""
    names = "SELECT DISTINCT portfolio FROM raw_spans WHERE run_id = ? AND portfolio IS NOT NULL"
    return {name for (name,) in connection.execute(names, [run_id]).fetchall()}
