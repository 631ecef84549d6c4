"""Makes one Arrow table of spans from columns of numpy and from rows, in order of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.record_columns import Booleans, Integers
from fillpath.exporters.row_templates import Names
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.side_texts import Added

_TEXT: Final = pa.string()
_FEW: Final = 4096
"""Distinct texts up to which a column is written by a dictionary in any case."""
_NAMES: Final = pa.dictionary(pa.int32(), pa.string())
_NUMPY: Final[dict[pa.DataType, Any]] = {pa.float64(): np.float64, pa.int8(): np.int8}
_PLACES: Final = {name: place for place, name in enumerate(SPAN_SCHEMA.names)}

Codes = npt.NDArray[np.int32]


class SpanTable:
    """Puts columns of many spans and rows of some into one table.

    Args:
        sequence: Of the spans that come as columns.
        rows: Spans that come as a table of `SPAN_SCHEMA`.
        kind: Of each span that comes as a column, its kind: they go by number.
    """

    def __init__(self, sequence: Integers, rows: pa.Table, kind: Integers) -> None:
        self._kind = kind
        columns = zip(SPAN_SCHEMA.names, rows.columns if rows.num_rows else (), strict=False)
        self._rows = {name: column.combine_chunks() for name, column in columns}
        self._here = len(sequence)
        self._others = rows.num_rows
        self._arrays: dict[str, pa.Array] = {}
        whole = sequence
        if self._rows:
            whole = np.concatenate([sequence, self._rows["sequence"].to_numpy()])
        self._order: Integers | None = None
        if len(whole) > 1 and not (whole[1:] > whole[:-1]).all():
            self._order = np.argsort(whole, kind="stable")
        self._length = len(whole)
        self._shared: dict[int, pa.Array] = {}
        """Columns that change together share their codes."""
        self._bitmaps: dict[int, tuple[Booleans, pa.Buffer | None, int]] = {}
        self._arrays["sequence"] = self._built(pa.int64(), self._arranged(whole), None)

    def _arranged(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if self._order is None else values[self._order]

    def _joined(self, values: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._arranged(np.concatenate([values, others]) if len(others) else values)

    def _built(
        self, kind: pa.DataType, values: npt.NDArray[Any], known: Booleans | None
    ) -> pa.Array:
        validity, missing = _bitmap(known)
        buffer = pa.py_buffer(np.ascontiguousarray(values))
        return pa.Array.from_buffers(kind, self._length, [validity, buffer], missing)

    def numbers(
        self, name: str, values: npt.NDArray[Any] | None, known: Booleans | None = None
    ) -> None:
        """Fill a column of numbers; None: those that come as columns have none."""
        kind = SPAN_SCHEMA.field(name).type
        given = self._given(name)
        if values is None and given is None:
            self._arrays[name] = _nulls(kind, self._length)
            return
        if values is None:
            kind_here = _NUMPY.get(kind, np.int64)
            values, known = np.zeros(self._here, kind_here), np.zeros(self._here, np.bool_)
        others = np.zeros(self._others, values.dtype)
        if given is not None:
            stored = given.cast(pa.int64()) if pa.types.is_timestamp(kind) else given
            stored = stored.fill_null(0) if stored.null_count else stored
            others = stored.to_numpy(zero_copy_only=False).astype(values.dtype, copy=False)
        joined = np.ascontiguousarray(self._joined(values, others))
        validity, missing = self._validity(known, given)
        self._arrays[name] = pa.Array.from_buffers(
            kind, self._length, [validity, pa.py_buffer(joined)], missing
        )

    def _validity(
        self, known: Booleans | None, given: pa.Array | None
    ) -> tuple[pa.Buffer | None, int]:
        """Bitmap of the spans that have a value; columns that know the same have the same one."""
        if known is None or given is not None:
            return _bitmap(self._all_known(known, given))
        made = self._bitmaps.get(id(known))
        if made is None:
            made = self._bitmaps[id(known)] = (known, *_bitmap(self._all_known(known, given)))
        return made[1:]

    def ids(self, name: str, values: npt.NDArray[Any], known: Booleans | None = None) -> None:
        """Fill a column of ids: numbers of 64 bits, one or two a row, which become bytes."""
        width = values.itemsize * (values.shape[1] if values.ndim > 1 else 1)
        others = np.zeros((self._others, *values.shape[1:]), values.dtype)
        given = self._given(name)
        if given is not None:
            filled = given.fill_null(bytes(width)) if given.null_count else given
            data = b"".join(filled.to_pylist())
            others = np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, *values.shape[1:])
        validity, missing = self._validity(known, given)
        joined = self._joined(values, others).byteswap()
        offsets = _offsets(width, self._length)
        self._arrays[name] = pa.Array.from_buffers(
            pa.binary(),
            self._length,
            [validity, offsets, pa.py_buffer(joined)],
            missing,
        )

    def _given(self, name: str) -> pa.Array | None:
        """What the rows have in this column; None: nothing."""
        array = self._rows.get(name)
        return None if array is None or array.null_count == len(array) else array

    def _all_known(self, known: Booleans | None, given: pa.Array | None) -> Booleans | None:
        """Which spans have a value, in order; None: all."""
        present = None
        if self._others and given is None:
            present = np.zeros(self._others, np.bool_)
        elif given is not None and given.null_count:
            present = given.is_valid().to_numpy(zero_copy_only=False)
        if known is None and present is None:
            return None
        mine = np.ones(self._here, np.bool_) if known is None else known
        others = np.ones(self._others, np.bool_) if present is None else present
        return self._joined(mine, others)

    def texts_of_kinds(self, name: str, names: Names, added: Added) -> None:
        """Fill a column of texts that spans of one kind share.

        Args:
            name: The column.
            names: The texts of each kind.
            added: Places of spans that have another text, and these texts.
        """
        given = self._given(name)
        if given is not None or (added[0] and names.texts):
            self.texts(name, [*names.texts, None], names.codes[self._kind], added)
        elif added[0]:
            found = pa.array(added[1], _TEXT).dictionary_encode()
            codes = np.full(self._here, -1, np.int32)
            codes[added[0]] = found.indices.to_numpy(zero_copy_only=False)
            self._arrays[name] = self._named(self._indices(codes), found.dictionary)
        elif not names.texts:
            self._arrays[name] = _nulls(_NAMES, self._length)
        else:
            indices = self._shared.get(id(names.codes))
            if indices is None:
                indices = self._shared[id(names.codes)] = self._indices(names.codes[self._kind])
            self._arrays[name] = self._named(indices, pa.array(names.texts, _TEXT))

    def texts(
        self,
        name: str,
        texts: Sequence[str | None],
        which: npt.NDArray[Any],
        added: Added | None = None,
    ) -> None:
        """Fill a column of texts: for each span that comes as a column, which of these it has."""
        given = self._given(name)
        numbers: dict[str | None, int] = {None: -1}
        places = [numbers.setdefault(text, len(numbers) - 1) for text in texts]
        if given is None and len(numbers) == 1 and not (added and added[0]):
            self._arrays[name] = _nulls(_NAMES, self._length)
            return
        codes = np.array(places, np.int32)[which]
        if added is not None and added[0]:
            codes[added[0]] = _numbered(pa.array(added[1], _TEXT), numbers)
        others = None if given is None else _numbered(given, numbers)
        indices = self._indices(codes, others)
        self._arrays[name] = self._named(indices, pa.array(list(numbers)[1:], _TEXT))

    def _indices(self, codes: Codes, others: Codes | None = None) -> pa.Array:
        """Put codes in order, of spans that come as columns and of the others; -1 is none."""
        if others is None:
            others = np.full(self._others, -1, np.int32)
        codes = self._joined(codes, others)
        known = codes >= 0
        if known.all():
            return self._built(pa.int32(), codes, None)
        return self._built(pa.int32(), np.where(known, codes, 0), known)

    def _named(self, indices: pa.Array, texts: pa.Array) -> pa.Array:
        if not len(texts):
            return _nulls(_NAMES, self._length)
        named = pa.DictionaryArray.from_arrays(indices, texts, safe=False)
        # A dictionary of nearly as many texts as rows would be written whole in each row group.
        if len(texts) > _FEW and len(texts) > self._length // 8:
            return named.dictionary_decode()
        return named

    def links(self, added: Added) -> None:
        """Fill the column of links; most spans have none."""
        kind = SPAN_SCHEMA.field("links").type
        given = self._given("links")
        if given is None and not added[0]:
            self._arrays["links"] = _nulls(kind, self._length)
            return
        mine: list[Any] = [None] * self._here
        for place, links in zip(*added, strict=True):
            mine[place] = [{"trace_id": trace, "span_id": span} for trace, span in links]
        others = pa.nulls(self._others, kind) if given is None else given
        links = pa.concat_arrays([pa.array(mine, kind), others])
        self._arrays["links"] = links if self._order is None else links.take(pa.array(self._order))

    def table(self) -> pa.Table:
        """Give the table; names are in dictionaries."""
        arrays = [self._arrays[name] for name in SPAN_SCHEMA.names]
        fields = [
            field.with_type(array.type) for field, array in zip(SPAN_SCHEMA, arrays, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields, SPAN_SCHEMA.metadata))


def _numbered(texts: pa.Array, numbers: dict[str | None, int]) -> Codes:
    """Number texts, new ones behind those that have a number; -1 for none."""
    found = texts.dictionary_encode()
    mapped = [numbers.setdefault(text, len(numbers) - 1) for text in found.dictionary.to_pylist()]
    indices = found.indices.fill_null(len(mapped)) if found.null_count else found.indices
    numbered: Codes = np.array([*mapped, -1], np.int32)[indices.to_numpy(zero_copy_only=False)]
    return numbered


@lru_cache(maxsize=16)
def _nulls(kind: pa.DataType, length: int) -> pa.Array:
    return pa.nulls(length, kind)


@lru_cache(maxsize=4)
def _offsets(width: int, length: int) -> pa.Buffer:
    return pa.py_buffer(np.arange(0, (length + 1) * width, width, dtype=np.int32))


def _bitmap(known: Booleans | None) -> tuple[pa.Buffer | None, int]:
    if known is None:
        return None, 0
    missing = len(known) - int(np.count_nonzero(known))
    if not missing:
        return None, 0
    return pa.py_buffer(np.packbits(known, bitorder="little")), missing
