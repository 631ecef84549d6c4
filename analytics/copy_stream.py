"""Turns rows into what COPY reads in binary, a column at a time.

Texts, integers and floats are laid out by pgpq, from Arrow. It knows numbers of one scale a column
only; here every number keeps the digits it came with, so their bytes are made by numpy and handed
to pgpq ready. The form is that of PostgreSQL's ``numeric_send``: four 16-bit numbers (how many
digits, the weight of the first, sign, digits shown behind the point), then digits to the base
10,000.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.instrumentation.errors import MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE: Final = 16_384
"""Rows that are laid out together: so many that columns pay, and a few MB at most."""

_TEXT, _INT8, _INT4, _FLOAT8, _NUMERIC, _JSONB, _DATE = 25, 20, 23, 701, 1700, 3802, 1082
_BOOL, _TIMESTAMPTZ = 16, 1184
_ARROW_TYPES: Final = {
    _TEXT: pa.string(),
    _INT8: pa.int64(),
    _INT4: pa.int32(),
    _FLOAT8: pa.float64(),
    _DATE: pa.date32(),
    _TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    _BOOL: pa.bool_(),
    _NUMERIC: pa.binary(),
    _JSONB: pa.binary(),
}
"""By the type of the column in Postgres; what is binary comes as Postgres stores it."""
_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
"""What a stream begins with and ends with: no flags and no extension; no row."""
_MOST_DIGITS: Final = 18
"""Decimal digits that surely fit into a 64-bit integer."""
_GROUPS: Final = 5
_NEGATIVE: Final = 0x4000
_SPECIAL: Final = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}


def copy_blocks(
    rows: Iterable[Sequence[object]] | pa.Table,
    types: Sequence[int],
    before: Sequence[object] = (),
    moments: Sequence[int] = (),
) -> Iterator[tuple[int, bytes]]:
    """Lay rows out for ``COPY … (FORMAT BINARY)``; gives numbers of rows, and their bytes.

    The first block is the head of a stream and the last one its end, both without rows. In between
    the blocks may be dealt out to several streams, each with that head and that end. While a block
    is being sent, the next one is made.

    Args:
        rows: Values in the order of the columns; or a table, whose columns are in that order.
        types: Type of each column, by Postgres's number, those of `before` first, those of
            `moments` last.
        before: Values that every row begins with.
        moments: Places in `rows` of nanoseconds since 1970 that every row has once more at its
            end, as timestamps: cut to microseconds, towards 1970.

    Raises:
        TypeError: A value is of the wrong type for its column, such as a `float` for ``numeric``.
        MissingExtra: pgpq is not installed.
    """
    try:
        from pgpq import ArrowToPostgresBinaryEncoder
    except ImportError as error:
        raise MissingExtra("postgres", "to load results into Postgres") from error
    unknown = sorted({kind for kind in types if kind not in _ARROW_TYPES})
    if unknown:
        raise TypeError(f"no rows are loaded into columns of type {unknown}")
    schema = pa.schema([(f"c{n}", _ARROW_TYPES[kind]) for n, kind in enumerate(types)])
    own = types[len(before) : len(types) - len(moments)]

    def laid_out(part: Sequence[Sequence[object]] | pa.Table) -> tuple[int, bytes]:
        count = len(part)
        arrays = [_column([value], kind) for value, kind in zip(before, types, strict=False)]
        arrays = [pa.repeat(array[0], count) for array in arrays]
        if isinstance(part, pa.Table):
            columns: Iterable[Any] = part.columns
        else:
            columns = zip(*part, strict=True)
        arrays += [_column(column, kind) for column, kind in zip(columns, own, strict=True)]
        arrays += [_moment(arrays[len(before) + place]) for place in moments]
        # One for each block: it keeps some of the rows back until its end.
        encoder = ArrowToPostgresBinaryEncoder(schema)
        encoder.write_header()
        made = encoder.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        kept = encoder.finish()[: -len(_END)]
        return count, made + kept if kept else made

    yield 0, _HEAD
    with ThreadPoolExecutor(1) as ahead:
        waiting: Future[tuple[int, bytes]] | None = None
        for part in _parts(rows):
            made = ahead.submit(laid_out, part)
            if waiting is not None:
                yield waiting.result()
            waiting = made
        if waiting is not None:
            yield waiting.result()
    yield 0, _END


def storable(value: object) -> object:
    """Replace what Postgres stores in no text: NUL becomes ``␀``, half a surrogate pair ``?``."""
    if isinstance(value, str):
        if value.isascii():
            return value.replace("\0", "␀")
        return value.encode(errors="replace").decode().replace("\0", "␀")
    if isinstance(value, Mapping):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value


def _parts(
    rows: Iterable[Sequence[object]] | pa.Table,
) -> Iterator[Sequence[Sequence[object]] | pa.Table]:
    if isinstance(rows, pa.Table):
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield rows.slice(start, ROWS_AT_ONCE)
        return
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_AT_ONCE)):
        yield part


def _column(values: Sequence[Any] | pa.ChunkedArray, kind: int) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
        if kind == _NUMERIC and pa.types.is_decimal128(values.type):
            return _decimals(values)
        if kind not in {_NUMERIC, _JSONB}:
            return values.cast(_ARROW_TYPES[kind])
        values = values.to_pylist()
    if kind == _NUMERIC:
        return _numbers(values)
    if kind == _JSONB:
        return pa.array([_json(value) for value in values], pa.binary())
    try:
        return _texts(values) if kind == _TEXT else pa.array(values, _ARROW_TYPES[kind])
    except (pa.ArrowException, OverflowError) as error:
        raise TypeError(f"a value does not fit its column: {error}") from error


def _moment(nanoseconds: pa.Array) -> pa.Array:
    return pc.divide(nanoseconds, 1_000).cast(_ARROW_TYPES[_TIMESTAMPTZ])


def _json(value: object) -> bytes | None:
    return None if value is None else b"\1" + json.dumps(storable(value)).encode()


def _texts(values: Sequence[Any]) -> pa.Array:
    try:
        made = pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([storable(value) for value in values], pa.string())
    content = made.buffers()[2]
    if content is not None and b"\0" in content.to_pybytes():
        return pa.array([storable(value) for value in values], pa.string())
    return made


def _numbers(values: Sequence[Any]) -> pa.Array:
    kinds = set(map(type, values)) - {Decimal, int, type(None)}
    if kinds:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"an amount is a Decimal or an int, not a {names}")
    texts = pa.array([None if value is None else str(value) for value in values], pa.string())
    odd = pc.match_substring(texts, "E").fill_null(False)
    if odd.true_count:
        plain = (None if value is None else f"{value:f}" for value in map(_decimal, values))
        texts = pa.array(plain, pa.string())
    digits = pc.replace_substring(pc.replace_substring(texts, "-", ""), ".", "")
    known = texts.is_valid().to_numpy(zero_copy_only=False)
    width = pc.utf8_length(texts).fill_null(0).to_numpy()
    point = pc.find_substring(texts, ".").fill_null(-1).to_numpy()
    shown = np.where(point < 0, 0, width - point - 1).astype(np.int64)
    pad = -shown % 4
    fits = pc.utf8_length(digits).fill_null(0).to_numpy() + pad <= _MOST_DIGITS
    fits &= ~pc.match_substring_regex(texts, "[a-zA-Z]").fill_null(False).to_numpy(
        zero_copy_only=False
    )
    safe = pc.if_else(pa.array(known & fits), digits, "0")
    whole = safe.cast(pa.int64()).to_numpy()
    minus = pc.starts_with(texts, "-").fill_null(False).to_numpy(zero_copy_only=False)
    made = _laid_out(whole * 10**pad, shown, minus & (whole != 0), known)
    beyond = np.flatnonzero(known & ~fits)
    return _replaced(made, {int(n): texts[int(n)].as_py() for n in beyond})


def _decimal(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _decimals(values: pa.Array) -> pa.Array:
    """Lay out numbers of one scale, from Arrow's 128-bit integers."""
    count, scale = len(values), values.type.scale
    halves = np.frombuffer(values.buffers()[1], np.int64)
    halves = halves.reshape(-1, 2)[values.offset : values.offset + count]
    low, high = halves[:, 0], halves[:, 1]
    known = values.is_valid().to_numpy(zero_copy_only=False)
    pad = -scale % 4
    fits = (high == low >> 63) & (np.abs(low) < 10 ** (_MOST_DIGITS - pad)) & (low != -(2**63))
    whole = np.where(known & fits, low, 0)
    shown = np.full(count, scale, np.int64)
    made = _laid_out(np.abs(whole) * 10**pad, shown, whole < 0, known)
    beyond = np.flatnonzero(known & ~fits)
    return _replaced(made, {int(n): f"{values[int(n)].as_py():f}" for n in beyond})


def _laid_out(
    aligned: NDArray[np.int64],
    shown: NDArray[np.int64],
    minus: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> pa.Array:
    """Lay numbers out whose last digit to the base 10,000 is the last digit of `aligned`."""
    count = len(aligned)
    groups = np.empty((count, _GROUPS), np.int64)
    left = aligned
    for place in range(_GROUPS - 1, -1, -1):
        left, groups[:, place] = np.divmod(left, 10_000)
    there = groups != 0
    some = there.any(axis=1)
    first = np.where(some, there.argmax(axis=1), 0)
    last = np.where(some, _GROUPS - 1 - there[:, ::-1].argmax(axis=1), -1)
    table = np.empty((count, 4 + _GROUPS), ">u2")
    table[:, 0] = last - first + 1
    weight = _GROUPS - 1 - first - (shown + 3) // 4
    table[:, 1] = np.where(some, weight, 0).astype(np.int16).view(np.uint16)
    table[:, 2] = np.where(minus, _NEGATIVE, 0)
    table[:, 3] = shown
    table[:, 4:] = groups
    places = np.arange(_GROUPS)
    wanted = np.ones((count, 4 + _GROUPS), np.bool_)
    wanted[:, 4:] = (places >= first[:, None]) & (places <= last[:, None])
    wanted &= known[:, None]
    ends = np.zeros(count + 1, np.int32)
    np.cumsum(wanted.sum(axis=1) * 2, out=ends[1:])
    content = pa.py_buffer(table[wanted].tobytes())
    missing = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(), count, [missing, pa.py_buffer(ends), content])


def _replaced(made: pa.Array, others: Mapping[int, str]) -> pa.Array:
    """Put numbers in that have more digits than the columns above can hold."""
    if not others:
        return made
    values = made.to_pylist()
    for place, text in others.items():
        values[place] = _one_number(text)
    return pa.array(values, pa.binary())


def _one_number(text: str) -> bytes:
    if text in _SPECIAL:
        return np.array([0, 0, _SPECIAL[text], 0], ">u2").tobytes()
    whole, _, fraction = text.lstrip("-").partition(".")
    shown = len(fraction)
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    fraction = fraction.ljust(-(-shown // 4) * 4, "0")
    digits = whole + fraction
    groups = [int(digits[n : n + 4]) for n in range(0, len(digits), 4)]
    weight = len(whole) // 4 - 1
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    sign = _NEGATIVE if groups and text.startswith("-") else 0
    head = [len(groups), (weight if groups else 0) & 0xFFFF, sign, shown]
    return np.array(head + groups, ">u2").tobytes()
