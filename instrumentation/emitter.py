"""The fast door: events with numbers, recorded at the cost of an append.

An emitter is made once for a kind of event and what its events have in common. It then takes the
event's time, cause and numbers, and gives a handle that names the event as the cause of others.

Why no lock is needed: `next` of a counter, `append`, a slice and `del` of a slice are each one step
that no other thread can see half of, and only the end of the list is appended to. A cause is given
by the caller, so nothing else is shared. An event is appended before its handle is known to anyone,
so a parent stands before its children in the list, and thereby in the spool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, Final, Protocol

from fillpath.instrumentation.compiled_rows import COMPILED
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_columns import MAX_SCALE, Row, converter, know_numpy
from fillpath.instrumentation.open_event import Cause, Handle, RemoteEvent
from fillpath.instrumentation.payload import clean_text
from fillpath.instrumentation.span_parts import CAUSE_TRACE
from fillpath.instrumentation.spool import FLAGS_SHIFT, NO_TIME, SLOTS, Field, FieldKind, Flag
from fillpath.instrumentation.trace_limit import TraceLimit

MAX_NAMES: Final = 16
"""Texts that an emitter's events may have."""
FLUSH_EVENTS: Final = 512
"""Events after which the list is appended to the spool. A power of two."""
_CLOCK_IS_MONOTONIC: Final = (
    time.get_clock_info("perf_counter").implementation == "clock_gettime(CLOCK_MONOTONIC)"
)
"""Whether compiled code may ask the system for the time that `time.perf_counter_ns` gives."""


def as_field(given: str | Field) -> Field:
    """What an emitter's number is; a mere key is that of a double.

    Raises:
        UsageError: When it is neither, or its kind or scale is none.
    """
    field = Field(given) if isinstance(given, str) else given
    if (
        not isinstance(field, Field)
        or not isinstance(field.key, str)
        or not isinstance(field.kind, str)
        or field.kind not in set(FieldKind)
        or type(field.scale) is not int
        or not 0 <= field.scale <= MAX_SCALE
    ):
        raise UsageError(
            f"{given!r} is no field of an emitter.",
            next_command=(
                f"Field(key, kind, scale) with a kind of {', '.join(FieldKind)}, "
                f"and a scale of 0 to {MAX_SCALE}"
            ),
        )
    return field._replace(key=clean_text(field.key), kind=FieldKind(field.kind))


def as_names(given: Iterable[str], fields: Sequence[Field]) -> tuple[str, ...]:
    """Keys of the texts that an emitter's events have, each once.

    Raises:
        UsageError: When they are no such keys, or too many.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    keys = [*names, *(field.key for field in fields)]
    if len(names) > MAX_NAMES or not all(isinstance(name, str) for name in names):
        problem = f"are not at most {MAX_NAMES} keys"
    elif len(set(keys)) < len(keys):
        problem = "name something twice, or a field"
    else:
        return tuple(str.__str__(name) for name in names)
    raise UsageError(
        f"The names of an emitter {problem}: {', '.join(map(repr, names))}.",
        next_command="open and close the event, which takes any attributes",
    )


class Emitter(Protocol):
    """Records one event of a certain kind; see `EventTracer.emitter`."""

    def __call__(
        self,
        event_time: int = NO_TIME,
        cause: Cause | None = None,
        *values: Any,
        start: int | None = None,
    ) -> Handle | None:
        """Record an event that has just ended.

        Args:
            event_time: Simulated time, nanoseconds since the epoch.
            cause: The event that caused it; it begins a chain if there is none.
            values: A number for each of the emitter's fields, then a text for each of its names;
                one that is left out, or None, is absent.
            start: When the event began, by `EventTracer.now`; this moment when left out.

        Returns:
            A handle to name the event as a cause; None when nothing is recorded.
        """


# One function for each number of fields and names, as `namedtuple` does it: a surplus value is an
# error of the caller then, and no time goes into packing and unpacking *values. That the root is an
# integer is not asked: no column takes another one, so it and its descendants are without a cause.
_TEMPLATE: Final = """
def make(
    append, flush, take, clock, resolve, remote, place, sided, unknown, far, is_full, divide{keys}
):
    def emit(event_time=unknown, cause=None{parameters}, *, start=None):
        if type(cause) is tuple:
            sequence = take()
            try:
                parent, root = cause
                if (
                    root <= 0
                    or root > parent
                    or parent >= sequence
                    or sequence - root >= far
                    or type(parent) is not int
                ):
                    if not 0 < root <= parent < sequence or type(parent) is not int:
                        parent, root = 0, sequence
                    elif is_full(root):
                        raise Divided
            except Divided:
                return divide(sequence, parent, root, start, event_time{row})
            except Exception:
                parent, root = 0, sequence
        elif cause is None:
            parent = 0
            sequence = root = take()
        else:
            parent, root, elsewhere = resolve(cause)
            sequence = take()
            if elsewhere is not None:
                root, side = remote(sequence, elsewhere, {texts})
                end = clock()
                begin = end if start is None else start
                append((sequence, 0, root, begin, end, event_time, sided{numbers}, side))
                if not sequence & {last}:
                    flush()
                return sequence, root
            if parent >= sequence:
                parent = root = 0
            root = root or sequence
            if sequence - root >= far and is_full(root):
                return divide(sequence, parent, root, start, event_time{row})
        end = clock()
        append(
            (sequence, parent, root, end if start is None else start, end, event_time, place{row})
        )
        if not sequence & {last}:
            flush()
        return sequence, root
    return emit
"""


class _Divided(Exception):
    """The event begins a new trace; leaves the way that nearly all events take as it is."""


@cache
def _maker(fields: int, names: int) -> Callable[..., Emitter]:
    numbers = [f"n{number}" for number in range(fields)]
    texts = [f"t{number}" for number in range(names)]
    keys = [f"k{number}" for number in range(names)]
    pairs = ", ".join(f"{key}: {text}" for key, text in zip(keys, texts, strict=True))
    row = [*numbers, *["0.0"] * (SLOTS - fields)]
    source = _TEMPLATE.format(
        keys="".join(f", {key}" for key in keys),
        parameters="".join(f", {name}=None" for name in (*numbers, *texts)),
        numbers="".join(f", {value}" for value in row),
        row="".join(f", {value}" for value in (*row, f"{{{pairs}}}" if names else "None")),
        texts=f"{{{pairs}}}",
        last=FLUSH_EVENTS - 1,
    )
    made: dict[str, Any] = {"Divided": _Divided}
    exec(compile(source, __file__, "exec"), made)  # noqa: S102 - of the text above and nothing else
    make: Callable[..., Emitter] = made["make"]
    return make


def make_emitter(
    *,
    append: Callable[[Row], None],
    flush: Callable[[], None],
    take: Callable[[], int],
    resolve: Callable[[Any], tuple[int, int, RemoteEvent | None]],
    remote: Callable[[int, RemoteEvent, dict[str, Any]], tuple[int, bytes]],
    site: int,
    fields: Sequence[Field],
    names: Sequence[str] = (),
    limit: TraceLimit,
    trace_of: Callable[[int], str],
) -> Emitter:
    """Make an emitter.

    Args:
        append: Takes a row.
        flush: Is called after every 512th event.
        take: Gives the next sequence.
        resolve: Gives sequence and root of a cause that is no handle, zeros if it is no cause; and
            what stands for one of another process.
        remote: Gives root and side record of an event that such a one has caused.
        site: Number of the site of the emitter's events.
        fields: What their numbers are, at most `spool.SLOTS`.
        names: Keys of the texts that each event has of its own.
        limit: Says which events begin a new trace although they have a cause.
        trace_of: Gives the trace id of a chain in hex, by its root.
    """
    know_numpy()
    clock = time.perf_counter_ns
    trace_of = lru_cache(64)(trace_of)
    sided = site | int(Flag.SIDE) << FLAGS_SHIFT

    def divide(
        sequence: int, parent: int, root: int, start: int | None, event_time: int, *beside: Any
    ) -> Handle:
        """Record an event that begins a new trace."""
        end = clock()
        *numbers, texts = beside
        side = {**(texts or {}), CAUSE_TRACE: trace_of(root)}
        begun = end if start is None else start
        append((sequence, parent, sequence, begun, end, event_time, sided, *numbers, side))
        if not sequence & FLUSH_EVENTS - 1:
            flush()
        return sequence, sequence

    place = sided if names else site
    make = _maker(len(fields), len(names))
    emit = make(
        append,
        flush,
        take,
        clock,
        resolve,
        remote,
        place,
        sided,
        NO_TIME,
        limit.far,
        limit.is_full,
        divide,
        *names,
    )
    if COMPILED is not None:
        emit = _compiled(emit, append, flush, take, place, len(fields), tuple(names), limit.far)
    if all(field.kind == FieldKind.DOUBLE for field in fields):
        return emit
    converters = [converter(field) for field in fields]

    def emit_converted(
        event_time: int = NO_TIME,
        cause: Cause | None = None,
        *values: Any,
        start: int | None = None,
    ) -> Handle | None:
        converted = [convert(number) for convert, number in zip(converters, values, strict=False)]
        # Texts are passed on, and a surplus value, to be the error that it is without conversion.
        return emit(event_time, cause, *converted, *values[len(converters) :], start=start)

    return emit_converted


def _compiled(
    twin: Emitter,
    append: Callable[[Row], None],
    flush: Callable[[], None],
    take: Callable[[], int],
    place: int,
    fields: int,
    names: tuple[str, ...],
    far: int,
) -> Emitter:
    """Give the compiled twin of an emitter's function, which leaves to it what is not plain.

    It goes to the list and the counter themselves. If these are somebody else's, or a name is not
    carried as it is, there is no such twin.
    """
    events, sequences = getattr(append, "__self__", None), getattr(take, "__self__", None)
    if (
        COMPILED is None
        or type(events) is not list
        or type(sequences) is not COMPILED.Sequences
        or any(clean_text(name) != name for name in names)
    ):
        return twin
    clock = None if _CLOCK_IS_MONOTONIC else time.perf_counter_ns
    made: Emitter = COMPILED.emitter(
        events, flush, sequences, clock, twin, place, fields, names, far
    )
    return made


def emit_nothing(*_: Any, **__: Any) -> None:
    """Stand in for an emitter while nothing is recorded."""
