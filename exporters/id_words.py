"""Ids of a fixed length as numpy sees them: the bytes of a column of Arrow's, without copying."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def id_bytes(array: pa.Array, width: int) -> npt.NDArray[np.uint8] | None:
    """Give the bytes of ids, a row for each; None when one of them has another length.

    Args:
        array: A column of bytes. Behind an id that is missing stands anything, of the same length;
            where nothing stands, the answer is None.
        width: How long each of them is.
    """
    number = len(array)
    if array.type != pa.binary() or not number:
        return None
    _, offsets, data = array.buffers()
    if data is None:
        return None
    places = np.frombuffer(offsets, np.int32, number + 1, 4 * array.offset)
    begin = int(places[0])
    if int(places[-1]) - begin != number * width:
        return None
    if not (places[1:] - places[:-1] == width).all():
        return None
    return np.frombuffer(data, np.uint8, number * width, begin).reshape(number, width)


def all_begin_with(array: pa.Array, begin: bytes, width: int) -> bool | None:
    """Tell whether all ids begin with these bytes; None when one is missing or has another length.

    Args:
        array: A column of bytes.
        begin: The bytes.
        width: How long the ids are; a multiple of 8.
    """
    found = None if array.null_count else id_bytes(array, width)
    if found is None:
        return None
    words: npt.NDArray[Any] = found.view("<u8")
    for number in range(0, len(begin), 8):
        part = begin[number : number + 8]
        column, wanted = words[:, number // 8], int.from_bytes(part, "little")
        if len(part) < 8:
            column = column & np.uint64((1 << 8 * len(part)) - 1)
        if not (column == np.uint64(wanted)).all():
            return False
    return True
