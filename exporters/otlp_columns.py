"""Columns of Arrow as the bytes that OTLP wants of them, a whole batch at a time."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.instrumentation.spool import MAX_EXACT, MAX_MANTISSA

Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_WIDEST_KEY: Final = 1 << 62
_VARINT_ROOM: Final = 16
_DECIMAL_ROOM: Final = 24
MAX_SCALE: Final = 18
_POWERS: Final = 10 ** np.arange(19, dtype=np.int64)
_VARINT_STEPS: Final = 1 << np.arange(7, 63, 7, dtype=np.int64)
_FOUR_DIGITS: Final = np.frombuffer(
    b"".join(b"%04d" % number for number in range(10_000)), dtype=np.uint32
)


class Source(Protocol):
    """Gives the bytes of one column.

    Attributes:
        there: Which rows have a value; None when all have.
    """

    there: Flags | None

    def tell_apart(self, shapes: Shapes) -> None:
        """Tell rows apart by how many bytes they have, and whether they have any."""

    def lengths_at(self, rows: Integers) -> list[int]:
        """How many bytes some rows have that have a value."""

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows that all have this many."""

    def contents(self, rows: Integers) -> list[bytes]:
        """Bytes of some rows that have a value."""


class Matrix:
    """Bytes of which every row has the same room, and uses the first or the last of it.

    Args:
        values: One item a row.
        lengths: Bytes that each row uses; None means all of them.
        there: Which rows have a value.
        at_end: Whether they are the last ones.
    """

    def __init__(
        self,
        values: npt.NDArray[Any],
        lengths: Integers | None = None,
        there: Flags | None = None,
        *,
        at_end: bool = False,
    ) -> None:
        self._room = values.itemsize
        self._values = values.view(np.dtype((np.void, self._room)))
        self._at_end = at_end
        self._lengths = lengths
        self.there = there

    def tell_apart(self, shapes: Shapes) -> None:
        """Tell rows apart by how many bytes they have, and whether they have any."""
        shapes.add_lengths(self._lengths, self.there)

    def lengths_at(self, rows: Integers) -> list[int]:
        """How many bytes some rows have that have a value."""
        if self._lengths is None:
            return [self._room] * len(rows)
        lengths: list[int] = self._lengths.take(rows).tolist()
        return lengths

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows that all have this many."""
        taken = self._values.take(rows)
        if width == self._room:
            return taken
        first = self._room - width if self._at_end else 0
        item = np.dtype((np.void, width))
        return np.ndarray((len(rows),), item, taken, first, (self._room,))

    def contents(self, rows: Integers) -> list[bytes]:
        """Bytes of some rows that have a value."""
        taken: list[bytes] = self._values.take(rows).tolist()
        if self._lengths is None:
            return taken
        lengths = self._lengths.take(rows).tolist()
        if self._at_end:
            return [each[-length:] for each, length in zip(taken, lengths, strict=True)]
        return [each[:length] for each, length in zip(taken, lengths, strict=True)]


class Words:
    """Texts of a dictionary: each row has the number of one."""

    def __init__(
        self, codes: npt.NDArray[Any], words: list[bytes], there: Flags | None = None
    ) -> None:
        self._codes = codes
        self._words = words
        self._tables: dict[int, npt.NDArray[Any]] = {}
        self._sizes = np.array([len(word) for word in words], np.int64)
        self.there = there

    def tell_apart(self, shapes: Shapes) -> None:
        """Tell rows apart by how many bytes they have, and whether they have any."""
        sizes, classes = np.unique(self._sizes, return_inverse=True)
        if self.there is None:
            if len(sizes) > 1:
                shapes.add(classes.take(self._codes), len(sizes))
        else:
            rows = np.flatnonzero(self.there)
            shapes.add(classes.take(self._codes.take(rows)) + 1, len(sizes) + 1, rows)

    def lengths_at(self, rows: Integers) -> list[int]:
        """How many bytes some rows have that have a value."""
        lengths: list[int] = self._sizes.take(self._codes.take(rows)).tolist()
        return lengths

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows that all have this many."""
        table = self._tables.get(width)
        if table is None:
            padded = b"".join(word[:width].ljust(width) for word in self._words)
            table = self._tables[width] = np.frombuffer(padded, np.dtype((np.void, width)))
        return table.take(self._codes.take(rows))

    def contents(self, rows: Integers) -> list[bytes]:
        """Bytes of some rows that have a value."""
        words = self._words
        return [words[code] for code in self._codes.take(rows).tolist()]


class Texts:
    """Bytes of different lengths, one after another."""

    def __init__(
        self, data: npt.NDArray[np.uint8], ends: Integers, there: Flags | None = None
    ) -> None:
        self._data = data
        self._starts = ends[:-1]
        self._lengths = np.diff(ends)
        self._views: dict[int, npt.NDArray[Any]] = {}
        self.there = there

    def tell_apart(self, shapes: Shapes) -> None:
        """Tell rows apart by how many bytes they have, and whether they have any."""
        shapes.add_lengths(self._lengths, self.there)

    def lengths_at(self, rows: Integers) -> list[int]:
        """How many bytes some rows have that have a value."""
        lengths: list[int] = self._lengths.take(rows).tolist()
        return lengths

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows that all have this many."""
        view = self._views.get(width)
        if view is None:
            # One item at every byte: numpy copies an item as a whole, whatever its width.
            item = np.dtype((np.void, width))
            view = np.ndarray((len(self._data) - width + 1,), item, self._data, 0, (1,))
            self._views[width] = view
        return view[self._starts.take(rows)]  # `take` would copy the view first

    def contents(self, rows: Integers) -> list[bytes]:
        """Bytes of some rows that have a value."""
        data = self._data.data
        starts = self._starts.take(rows)
        ends = starts + self._lengths.take(rows)
        return [bytes(data[i:j]) for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]


class Part:
    """A source that has only some rows of the batch.

    Args:
        source: The source.
        place: Which of its rows each row of the batch is.
        there: Which rows of the batch have a value.
    """

    def __init__(self, source: Source, place: Integers, there: Flags | None) -> None:
        self._source = source
        self._place = place
        self.there = there

    def tell_apart(self, shapes: Shapes) -> None:
        """Tell rows of the source apart, not of the batch."""
        self._source.tell_apart(shapes)

    def lengths_at(self, rows: Integers) -> list[int]:
        """How many bytes some rows have that have a value."""
        return self._source.lengths_at(self._place.take(rows))

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows that all have this many."""
        return self._source.take(self._place.take(rows), width)

    def contents(self, rows: Integers) -> list[bytes]:
        """Bytes of some rows that have a value."""
        return self._source.contents(self._place.take(rows))


def bytes_of(array: pa.Array) -> Source | None:
    """Read a column of texts or bytes, dictionary-coded or not; None if no row has a value."""
    rows = len(array)
    if array.null_count == rows:
        return None
    there = valid_of(array)
    if pa.types.is_dictionary(array.type):
        words = [b"" if word is None else _utf8(word) for word in array.dictionary.to_pylist()]
        return Words(numbers_of(array.indices)[0], words, there)
    _, offsets, data = array.buffers()
    kind = np.int64 if _is_large(array.type) else np.int32
    ends = np.frombuffer(offsets, kind)[array.offset : array.offset + rows + 1]
    content = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    width = int(ends[1] - ends[0])
    if width and len(content) and (np.diff(ends) == width).all():
        item = np.dtype((np.void, width))
        return Matrix(np.frombuffer(content, item, rows, int(ends[0])), None, there)
    return Texts(content, ends.astype(np.int64), there)


def _utf8(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def valid_of(array: pa.Array) -> Flags | None:
    """Which rows have a value; None when all have."""
    if not array.null_count:
        return None
    bitmap = array.buffers()[0]
    if bitmap is None:  # the type without values
        return np.zeros(len(array), np.bool_)
    first = array.offset & 7
    whole = np.frombuffer(bitmap, np.uint8)[array.offset >> 3 :]
    bits = np.unpackbits(whole, count=first + len(array), bitorder="little")
    return bits[first:].view(np.bool_)


def numbers_of(array: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Numbers of a column, anything where there is none, and which rows have one."""
    kind = array.type.to_pandas_dtype()
    values = np.frombuffer(
        array.buffers()[1], kind, len(array), array.offset * array.type.bit_width // 8
    )
    there = valid_of(array)
    if there is not None and array.type in (pa.int8(), pa.int16(), pa.int32(), pa.int64()):
        values = np.where(there, values, 0)
    return values, there


def codes_of(array: pa.Array) -> tuple[Codes, int]:
    """Number the different values of a column, and count them; absence is a value of its own."""
    rows = len(array)
    if array.null_count == rows:
        return np.zeros(rows, np.int64), 1
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    size = len(coded.dictionary)
    if size == 1 and not coded.null_count:
        return np.zeros(rows, np.int64), 1
    codes, there = numbers_of(coded.indices)
    if there is not None:
        return np.where(there, codes, size).astype(np.int64), size + 1
    return codes.astype(np.int64), size


class Shapes:
    """Puts rows together that agree in everything that was added."""

    def __init__(self, rows: int) -> None:
        self._key = np.zeros(rows, np.int64)
        self._size = 1

    def add(self, codes: npt.NDArray[Any], size: int, rows: Integers | None = None) -> None:
        """Tell rows apart by numbers below a size; rows that are left out have a zero."""
        if size <= 1:
            return
        if self._size * size > _WIDEST_KEY:
            self._key, self._size = _dense(self._key)
        if rows is None:
            self._key += codes * np.int64(self._size)
        else:
            self._key[rows] += codes * np.int64(self._size)
        self._size *= size

    def add_lengths(self, lengths: Integers | None, there: Flags | None) -> None:
        """Tell rows apart by how many bytes they have, and whether they have any."""
        if lengths is None or not len(lengths):
            if there is not None:
                self.add(there.view(np.uint8), 2)
        elif there is None:
            least, most = int(lengths.min()), int(lengths.max())
            if least != most:
                self.add(lengths - least, most - least + 1)
        else:
            rows = np.flatnonzero(there)
            some = lengths.take(rows)
            if len(some):
                least, most = int(some.min()), int(some.max())
                self.add(some - (least - 1), most - least + 2, rows)

    def codes(self) -> tuple[Codes, int]:
        """Number the shapes, and count them."""
        if self._size == 1:
            return self._key, 1
        return _dense(self._key)

    def key(self, most: int) -> tuple[Codes, int]:
        """Number the shapes by numbers below a size, which need not all be in use."""
        return (self._key, self._size) if self._size <= most else self.codes()


def _dense(key: Codes) -> tuple[Codes, int]:
    coded = pa.array(key).dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(coded.dictionary)


def sorted_by(codes: Codes, size: int) -> Integers:
    """Rows in the order of small numbers; rows of one number keep theirs."""
    if size == 1:
        return np.arange(len(codes))
    narrow = codes.astype(np.uint16) if size <= 1 << 16 else codes
    return narrow.argsort(kind="stable")  # by radix, where 16 bits are enough


def varints(values: Integers, there: Flags | None = None) -> Matrix:
    """Integers as Protocol Buffers write them: seven bits a byte, the lowest first."""
    number = values.astype(np.uint64)
    rows = len(values)
    least, most = int(values.min()), int(values.max())
    if least < 0:
        lengths = np.where(values < 0, 10, 1 + np.searchsorted(_VARINT_STEPS, values, side="right"))
    elif (shortest := _varint_length(least)) == _varint_length(most):
        lengths = np.full(rows, shortest, np.int64)
    else:
        lengths = 1 + np.searchsorted(_VARINT_STEPS, values, side="right")
    out = np.empty((rows, _VARINT_ROOM // 8), np.uint64)
    low = number & np.uint64((1 << 56) - 1)
    # 56 bits side by side become eight times seven, each in a byte of its own.
    low = (low & np.uint64(0x0FFFFFFF)) | ((low & np.uint64(0xFFFFFFF0000000)) << np.uint64(4))
    low = (low & np.uint64(0x3FFF00003FFF)) | (
        (low & np.uint64(0x0FFFC0000FFFC000)) << np.uint64(2)
    )
    low = (low & np.uint64(0x007F007F007F007F)) | (
        (low & np.uint64(0x3F803F803F803F80)) << np.uint64(1)
    )
    low |= np.uint64(0x8080808080808080)
    out[:, 0] = low
    if most >> 56 or least < 0:
        high = number >> np.uint64(56)
        out[:, 1] = (high & np.uint64(0x7F)) | np.uint64(0x80) | ((high >> np.uint64(7)) << 8)
    data = out.view(np.uint8).reshape(-1)
    data[np.arange(rows) * _VARINT_ROOM + (lengths - 1)] &= 0x7F
    return Matrix(out.view(np.dtype((np.void, _VARINT_ROOM))).reshape(-1), lengths, there)


def _varint_length(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)


def decimals(
    values: npt.NDArray[np.float64], scale: int, there: Flags | None = None
) -> tuple[Matrix, Flags]:
    """Digits of decimals that have this many after the point.

    Returns:
        The texts, and the rows where the double does not tell the digits.
    """
    if scale > MAX_SCALE:
        nothing = np.zeros(len(values), np.dtype((np.void, 1)))
        return Matrix(nothing, None, there), np.ones(len(values), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * 10.0**scale)
        bad = ~(np.abs(scaled) < MAX_MANTISSA)
        mantissas = np.where(bad, 0.0, scaled).astype(np.int64)
    negative = mantissas < 0
    rest = np.abs(mantissas)
    digits = np.searchsorted(_POWERS[1:16], rest, side="right") + 1
    np.maximum(digits, scale + 1, out=digits)
    lengths = digits + (1 if scale else 0) + negative
    most = int(digits.max()) if len(digits) else 1
    rows = len(values)
    quads = (most + 4) // 4  # with room for a sign
    plain = np.empty((rows, quads), np.uint32)
    for place in range(quads - 1, -1, -1):
        if place:
            above = rest // 10_000
            plain[:, place] = _FOUR_DIGITS[rest - above * 10_000]
            rest = above
        else:
            plain[:, 0] = _FOUR_DIGITS[rest]
    written = plain.view(np.uint8).reshape(rows, 4 * quads)
    if scale:
        out = np.empty((rows, _DECIMAL_ROOM), np.uint8)
        whole = 4 * quads - scale
        _move(written, 0, out, _DECIMAL_ROOM - scale - 1 - whole, whole)
        out[:, _DECIMAL_ROOM - scale - 1] = ord(".")
        _move(written, whole, out, _DECIMAL_ROOM - scale, scale)
    else:
        out = written
    room = out.shape[1]
    if negative.any():
        below = np.flatnonzero(negative)
        out[below, room - lengths[below]] = ord("-")
    item = np.dtype((np.void, room))
    return Matrix(out.view(item).reshape(-1), lengths, there, at_end=True), bad


def _move(
    source: npt.NDArray[np.uint8],
    begin: int,
    target: npt.NDArray[np.uint8],
    to: int,
    width: int,
) -> None:
    """Copy some places of all rows, each row's at once."""
    item = np.dtype((np.void, width))
    rows = len(source)
    here = np.ndarray((rows,), item, source, begin, (source.shape[1],))
    there = np.ndarray((rows,), item, target, to, (target.shape[1],))
    there[:] = here


def whole_numbers(
    values: npt.NDArray[np.float64], there: Flags | None = None
) -> tuple[Matrix, Flags]:
    """Integers that are held as doubles; and the rows where they are none, or may be inexact."""
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= MAX_EXACT)
    return varints(np.where(bad, 0.0, values).astype(np.int64), there), bad


def contains(array: pa.Array, text: str) -> bool:
    """Tell whether any value of a column of texts has this in it."""
    if array.null_count == len(array):
        return False
    words = array.dictionary if pa.types.is_dictionary(array.type) else array
    return bool(pc.any(pc.match_substring(words, text)).as_py())
