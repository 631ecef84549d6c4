"""A set of sequence numbers, one bit each, that numpy can ask."""

from __future__ import annotations

import numpy as np

from fillpath.exporters.record_columns import Booleans, Integers


class Bits:
    """A set of positive integers that lie close together, one bit each."""

    def __init__(self, packed: bytes = b"") -> None:
        self._bits = bytearray(packed)

    def __len__(self) -> int:
        return int(np.bitwise_count(np.frombuffer(self._bits, np.uint8)).sum())

    def packed(self) -> bytes:
        """Give the bits, the lowest first, for another set to be made of."""
        return bytes(self._bits)

    def add_set(self, other: Bits) -> None:
        """Put all numbers of another set into this one."""
        if other._bits:
            self._reach(len(other._bits) - 1)
            part = np.frombuffer(self._bits, np.uint8)[: len(other._bits)]
            part |= np.frombuffer(other._bits, np.uint8)

    def _reach(self, place: int) -> None:
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1 - len(self._bits), len(self._bits), 64)))

    def add(self, number: int) -> None:
        """Put a number into the set."""
        place = number >> 3
        self._reach(place)
        self._bits[place] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)

    def add_all(self, numbers: Integers) -> None:
        """Put many numbers into the set; they lie close together."""
        if not len(numbers):
            return
        low, high = int(numbers.min()) >> 3, int(numbers.max()) >> 3
        present = np.zeros((high - low + 1) * 8, np.bool_)
        present[numbers - (low << 3)] = True
        self._reach(high)
        part = np.frombuffer(self._bits, np.uint8)[low : high + 1]
        part |= np.packbits(present, bitorder="little")

    def holds(self, numbers: Integers) -> Booleans:
        """Tell of each of many numbers whether it is in the set."""
        if not self._bits:
            return np.zeros(len(numbers), np.bool_)
        bits = np.frombuffer(self._bits, np.uint8)
        places = numbers >> 3
        inside = places < len(bits)
        found = bits[np.where(inside, places, 0)] >> (numbers & 7).astype(np.uint8) & 1
        return inside & found.astype(np.bool_)
