"""As much of Thrift's compact protocol as the headers and the footer of a Parquet file take.

What is written is put together of bytes; what another writer has written is not understood, only
cut at the borders of its fields.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

I16: Final = 4
I32: Final = 5
I64: Final = 6
BINARY: Final = 8
LIST: Final = 9
STRUCT: Final = 12
STOP: Final = b"\0"
"""Ends a struct."""
_FALSE: Final = 2
_BYTE: Final = 3
_DOUBLE: Final = 7
_WIDTHS: Final = {_BYTE: 1, _DOUBLE: 8}
_LONG: Final = 15


@lru_cache(4096)
def varint(number: int) -> bytes:
    """Give a number that is not negative, seven bits a byte, the lowest first."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def integer(number: int) -> bytes:
    """Give the value of an integer field of 16 to 64 bits."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def binary(value: bytes) -> bytes:
    """Give the value of a field of bytes or of text."""
    return varint(len(value)) + value


def listed(kind: int, values: list[bytes]) -> bytes:
    """Give the value of a list whose elements are of one kind."""
    size = len(values)
    head = bytes([min(size, _LONG) << 4 | kind]) + (varint(size) if size >= _LONG else b"")
    return head + b"".join(values)


def struct(*fields: tuple[int, int, bytes], after: int = 0, ends: bool = True) -> bytes:
    """Give a struct, or the next part of one.

    Args:
        fields: Number, kind and value of each field, in ascending order.
        after: Number of the field that stands before them.
        ends: Whether nothing follows.
    """
    parts: list[bytes] = []
    for number, kind, value in fields:
        parts += (bytes([number - after << 4 | kind]), value)
        after = number
    return b"".join([*parts, STOP]) if ends else b"".join(parts)


class Scan:
    """Walks through bytes that another writer has written.

    Args:
        data: The bytes.
        at: Where a struct begins in them.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def fields(self) -> Iterator[tuple[int, int]]:
        """Give number and kind of each field of the struct that begins here.

        Whoever asks has to walk over the value of a field before asking for the next one.
        """
        number = 0
        while (head := self.data[self.at]) != 0:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 0x0F
        self.at += 1

    def varint(self) -> int:
        """Walk over a number that is not negative, and give it."""
        number = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def integer(self) -> int:
        """Walk over the value of an integer field, and give it."""
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def elements(self) -> tuple[int, int]:
        """Walk over the head of a list; gives how many elements follow, and their kind."""
        head = self.data[self.at]
        self.at += 1
        return (head >> 4 if head >> 4 != _LONG else self.varint()), head & 0x0F

    def walk_over(self, kind: int) -> None:
        """Walk over the value of a field; Parquet's footers have neither sets nor maps."""
        if kind in {I16, I32, I64}:
            while self.data[self.at] > 0x7F:
                self.at += 1
            self.at += 1
        elif kind == BINARY:
            length = self.varint()
            self.at += length
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.walk_over(inner)
        elif kind == LIST:
            size, inner = self.elements()
            if inner <= _FALSE:  # truth values have no bytes as fields, and one as elements
                inner = _BYTE
            for _ in range(size):
                self.walk_over(inner)
        elif kind > _FALSE:
            self.at += _WIDTHS[kind]
