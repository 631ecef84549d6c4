"""Packs event records by column, and mends those whose numbers are none.

The fast door takes whatever the host hands over, unseen: to look at every value would cost more
than all the rest. Whether a column holds nothing but floats is told at once when it is packed; only
a column that does not is looked through.
"""

from __future__ import annotations

import marshal
import math
import operator
import struct
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import compress
from typing import Any, Final

from fillpath.instrumentation.compiled_rows import COMPILED
from fillpath.instrumentation.payload import merged, snapshot, unpack
from fillpath.instrumentation.semconv import Event
from fillpath.instrumentation.side_texts import are_plain, pack_texts
from fillpath.instrumentation.spool import (
    COLUMNS,
    FLAGS_SHIFT,
    MAX_EXACT,
    MAX_MANTISSA,
    NO_TIME,
    SLOTS,
    Field,
    FieldKind,
    Flag,
    SideRecord,
)
from fillpath.instrumentation.spool_writer import pack_side_record

Row = tuple[Any, ...]
"""The integers of `spool.COLUMNS`, `spool.SLOTS` numbers, and what the event has beside them: a
packed side record, or texts by key; None if it has nothing."""
SIDE_PLACE: Final = len(COLUMNS) + SLOTS
"""Where a row has what stands beside its numbers."""
MAX_DIGITS: Final = 15
"""Digits of a decimal that a number column holds: those of numbers below `spool.MAX_MANTISSA`."""
MAX_SCALE: Final = 18
"""Digits behind the point of a decimal that a number column holds."""
_SIGNED: Final = (False, False, False, True, True, True, False)
_MAX_WORD: Final = 1 << 64
_MAX_PRICES: Final = 8192
_FORMATS: Final = (
    ("@", "N", "n", "d")  # machine words are packed three times as fast as long longs
    if sys.byteorder == "little" and struct.calcsize("n") == 8
    else ("<", "Q", "q", "d")
)
_FLOATS: Final[set[type]] = {float}
_MARSHAL_VERSION: Final = 2
"""The newest in which a float is always the letter g and its 8 bytes."""


class StrangeRows(Exception):
    """Some rows hold values that their columns cannot hold.

    Args:
        rows: They.
    """

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(f"{len(rows)} rows")
        self.rows = rows


def pack_rows(rows: list[Row], slots: int) -> tuple[bytes, list[bytes]]:
    """Pack rows as the payload of an EVENTS block, and their side records.

    Args:
        rows: The rows, at least one. Those of the compiled emitter only look like tuples.
        slots: How many of their numbers are packed.

    Raises:
        StrangeRows: When some have to be mended first. No code of the host was run.
    """
    if COMPILED is not None:
        done: tuple[bytes, list[bytes]] | None = COMPILED.pack_rows(rows, slots)
        if done is not None:
            return done
        rows = list(map(tuple, rows))
    size = len(rows)
    columns = list(zip(*rows, strict=True))
    unsigned, signed, doubles = _packers(size)
    packed: list[bytes | bytearray] = []
    strange: set[int] = set()
    for column, is_signed in zip(columns, _SIGNED, strict=False):
        try:
            packed.append(signed(*column) if is_signed else unsigned(*column))
        except Exception:  # struct.error, or whatever an object's __index__ raises
            found = {i for i, value in enumerate(column) if not _is_word(value, is_signed)}
            if not found:
                raise  # a signal handler of the host's did; without its column a block is damaged
            strange |= found
    all_floats = b"g" * size
    for column in columns[len(COLUMNS) : len(COLUMNS) + slots]:
        floats: bytes | bytearray | None = _packed_floats(column, all_floats)
        if floats is None:
            if not _are_small_integers(column):
                know_numpy()
                strange.update(i for i, value in enumerate(column) if not _is_exact(value))
                if strange:
                    continue
            floats = doubles(*column)
        packed.append(floats)
    sides: list[bytes] = []
    if columns[SIDE_PLACE].count(None) < size:
        sides = _packed_sides(columns[0], columns[SIDE_PLACE], strange)
    if strange:
        raise StrangeRows([rows[i] for i in sorted(strange)])
    return b"".join(packed), sides


@lru_cache(16)  # most blocks have the size of a full list
def _packers(size: int) -> tuple[Callable[..., bytes], Callable[..., bytes], Callable[..., bytes]]:
    return tuple(struct.Struct(f"{_FORMATS[0]}{size}{kind}").pack for kind in _FORMATS[1:])  # type: ignore[return-value]


def _packed_floats(column: tuple[Any, ...], all_floats: bytes) -> bytearray | None:
    """Pack a column of floats; None if some value is not of the type float itself.

    Marshalled, a float takes 9 bytes that begin with g. If the first value begins with g it is a
    float, so the second begins 9 bytes later; and so on. Nothing else can look like that. The 8
    other bytes are what the column is made of.
    """
    try:
        marshalled = marshal.dumps(column, _MARSHAL_VERSION)
    except ValueError:  # something that cannot be marshalled
        return None
    if len(marshalled) != 5 + 9 * len(column) or marshalled[5::9] != all_floats:
        return None
    floats = bytearray(marshalled)
    del floats[:5]
    del floats[::9]
    return floats


def _packed_sides(
    sequences: tuple[int, ...], sides: tuple[Any, ...], strange: set[int]
) -> list[bytes]:
    """Side records of a block's rows; what has to be mended first is added to the strange ones."""
    # Few events have one. What has is looked for without a step of Python's for each that has none.
    # (None is false, and a side record is not: it names something.)
    named = [
        (sequence, side)
        for sequence, side in zip(compress(sequences, sides), filter(None, sides), strict=True)
        if type(side) is dict
    ]
    if not named:
        return [side for side in sides if side]
    texts = pack_texts(named)
    if texts is None:
        found = {i for i, s in enumerate(sides) if type(s) is dict and not are_plain(s)}
        strange |= found
        if found:
            return []
        texts = [
            pack_side_record(SideRecord(sequence, snapshot(side), [], {}))
            for sequence, side in named
        ]
    if len(named) == len(sides) - sides.count(None):
        return texts
    following = iter(texts)
    return [next(following) if type(s) is dict else s for s in sides if s]


def _are_small_integers(column: tuple[Any, ...]) -> bool:
    return (
        set(map(type, column)) == {int} and min(column) >= -MAX_EXACT and max(column) <= MAX_EXACT
    )


def _is_word(value: Any, is_signed: bool) -> bool:
    if type(value) is not int:
        return False
    return NO_TIME <= value < -NO_TIME if is_signed else 0 <= value < _MAX_WORD


def _is_exact(value: Any) -> bool:
    kind = type(value)
    return kind in _FLOATS or (kind is int and -MAX_EXACT <= value <= MAX_EXACT)


def know_numpy() -> None:
    """Take numpy's float64 for the float that it is, if the host has loaded numpy.

    Values of a pandas frame are such. To read one runs no code of the host.
    """
    kind = getattr(sys.modules.get("numpy"), "float64", None)
    if type(kind) is type and kind not in _FLOATS and issubclass(kind, float):
        _FLOATS.add(kind)
        if COMPILED is not None:
            COMPILED.take_as_float(kind)


def is_inert(row: Row) -> bool:
    """Whether `mended` runs no code of the host; that might wait for a lock of the host's."""
    beside = row[SIDE_PLACE]
    return all(_is_inert(value) for value in row[:SIDE_PLACE]) and (
        type(beside) is not dict or all(_is_inert(value) for value in beside.values())
    )


def _is_inert(value: Any) -> bool:
    kind = type(value)
    return kind in _INERT or (kind.__module__ == "numpy" and kind.__name__ != "ndarray")


def mended(row: Row, fields: Sequence[Field], *, by_name: bool = False) -> Row:
    """Move what a row's columns cannot hold to a side record; never raises.

    A time that is none becomes an unknown one; the simulated time is named as replaced. A cause
    that is none leaves the event without one.

    Args:
        row: A row of the fast door.
        fields: What its numbers are.
        by_name: Replace what is not inert by the name of its type, and run no code of the host.
    """
    sequence, parent, root, start, end, event_time, place = row[: len(COLUMNS)]
    if not (_is_word(parent, False) and _is_word(root, False)):
        parent, root = 0, sequence
    given_time = event_time
    start, event_time = (
        NO_TIME if by_name and not _is_inert(time) else time_of(time)
        for time in (start, event_time)
    )
    numbers: list[float] = []
    attributes: dict[str, Any] = {}
    replaced: list[str] = []
    flags = 0
    for slot, value in enumerate(row[len(COLUMNS) : SIDE_PLACE]):
        if _is_exact(value):
            numbers.append(float(value))
            continue
        numbers.append(0.0)
        flags |= Flag.ABSENT << slot
        copied = _copied(fields[slot].key, value, by_name=by_name)
        replaced += copied.get(Event.REPLACED, ())
        attributes.update(copied)
    side = row[SIDE_PLACE]
    if type(side) is dict:
        for key, value in side.items():
            copied = _copied(key, value, by_name=by_name)
            replaced += copied.get(Event.REPLACED, ())
            attributes.update(copied)
    if event_time == NO_TIME and given_time is not None and not _is_word(given_time, True):
        replaced.append(Event.TIME)
    if replaced:
        attributes[Event.REPLACED] = replaced
    if attributes or type(side) is dict:
        flags |= Flag.SIDE
        side = _with_attributes(side, sequence, attributes)
    return (
        sequence,
        parent,
        root,
        end if start == NO_TIME else start,
        end,
        event_time,
        place | flags << FLAGS_SHIFT,
        *numbers,
        side,
    )


def _with_attributes(side: Any, sequence: int, attributes: dict[str, Any]) -> bytes:
    """Side record of an event with these attributes, and what is packed in that it has already."""
    extra: dict[str, Any] = {}
    if type(side) is bytes:  # of an event that another process caused
        _, known, _, extra = unpack(memoryview(side)[4:])
        attributes = merged(known, attributes)
    return pack_side_record(SideRecord(sequence, attributes, [], extra))


def _copied(key: str, value: Any, *, by_name: bool) -> dict[str, Any]:
    """An attribute in plain parts, with the note that it was replaced, if it was."""
    if type(value) is Unfit:
        return value.copied
    if by_name and not _is_inert(value):
        return {key: f"<{type(value).__qualname__}>", Event.REPLACED: [key]}
    return snapshot({key: value})


def time_of(value: Any) -> int:
    """A time as the spool can hold it; `NO_TIME` for what is none."""
    if type(value) is int and NO_TIME <= value < -NO_TIME:
        return value
    try:
        nanoseconds = operator.index(value)
    except Exception:  # noqa: BLE001 - a host's __index__ may raise anything
        return NO_TIME
    return nanoseconds if NO_TIME <= nanoseconds < -NO_TIME else NO_TIME


class Unfit:
    """A value that its field cannot hold. It looks like no number, so it ends in a side record."""

    __slots__ = ("copied",)

    def __init__(self, key: str, value: Any) -> None:
        self.copied = snapshot({key: value})  # the host may change it before its row is packed


def decimal_parts(text: str) -> tuple[float, int] | None:
    """Mantissa and scale of a decimal that a number column can hold with its digits; else None.

    Args:
        text: The decimal, printed: that leaves the flags of the host's decimal context alone.
    """
    written, _, exponent = text.upper().partition("E")
    whole, _, fraction = written.partition(".")
    digits = whole + fraction
    bare = digits.removeprefix("-")
    if not bare.isdecimal() or len(bare) > MAX_DIGITS:  # an infinity, no number, 10**15 and more
        return None
    scale = len(fraction) - int(exponent or 0)
    if not 0 <= scale <= MAX_SCALE:
        return None
    mantissa = float(digits)
    return (mantissa, scale) if mantissa or bare == digits else None  # there is no minus zero


class _DecimalParts(dict[str, tuple[float, int] | None]):
    """Remembers `decimal_parts` of texts, since prices come again."""

    def __missing__(self, text: str) -> tuple[float, int] | None:
        if len(self) >= _MAX_PRICES:
            self.clear()
        self[text] = parts = decimal_parts(text)
        return parts


KNOWN_PARTS: Final = _DecimalParts()
"""`decimal_parts` of the texts that are asked for most."""


def converter(field: Field) -> Callable[[Any], Any]:
    """Function that turns a host's value into what the field's column holds, or into `Unfit`."""
    fit = _as_decimal(field.scale) if field.kind == FieldKind.DECIMAL else _FITTING[field.kind]

    def convert(value: Any) -> Any:
        fitting = fit(value)
        return Unfit(field.key, value) if fitting is None and value is not None else fitting

    return convert


def _as_decimal(scale: int) -> Callable[[Any], float | None]:
    factor = 10**scale

    def as_decimal(value: Any) -> float | None:
        kind = type(value)
        if kind is float:
            scaled = value * factor
            if not -MAX_MANTISSA < scaled < MAX_MANTISSA:
                return None
            mantissa = float(round(scaled))
            # Only if the digits give this very float again do they say what it was.
            is_exact = mantissa / factor == value and (mantissa or math.copysign(1, value) > 0)
            return mantissa if is_exact else None
        if kind is int:
            scaled = value * factor
        elif kind is Decimal and (parts := KNOWN_PARTS[str(value)]) and parts[1] <= scale:
            scaled = int(parts[0]) * 10 ** (scale - parts[1])
        else:
            return None
        return float(scaled) if -MAX_MANTISSA < scaled < MAX_MANTISSA else None

    return as_decimal


def _as_integer(value: Any) -> float | None:
    return float(value) if type(value) is int and -MAX_EXACT <= value <= MAX_EXACT else None


def _as_boolean(value: Any) -> float | None:
    return float(value) if type(value) is bool else None


def _as_double(value: Any) -> Any:
    return float(value) if _is_exact(value) else None


_FITTING: Final[dict[str, Callable[[Any], float | None]]] = {
    FieldKind.DOUBLE: _as_double,
    FieldKind.INTEGER: _as_integer,
    FieldKind.BOOLEAN: _as_boolean,
}

_INERT: Final = frozenset({float, int, bool, str, bytes, complex, Decimal, type(None), Unfit})
"""Types whose values, copied or printed, run no code of the host."""
