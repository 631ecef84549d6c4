"""Where an id falls in [0, 1): what decides about a share of events, instead of a random generator.

The same id falls on the same place in every process. Ids need not be random: ours count up, and
those of other systems may be counters or share one half.
"""

from __future__ import annotations

from typing import Final

SALT: Final = 0x66696C6C70617468
"""Keeps the answer apart from those of others that mix the same ids the same way."""
STEP: Final = 0x9E3779B97F4A7C15
FACTORS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS: Final = (30, 27, 31)
"""The mixing function of the generator SplitMix64; exporters do the same to whole arrays."""
KEPT_BITS: Final = 53
"""A double holds so many exactly."""
_MASK: Final = (1 << 64) - 1


def mixed(value: int) -> int:
    """Scatter 64 bits over 64 bits."""
    value = (value + STEP) & _MASK
    value = ((value ^ (value >> SHIFTS[0])) * FACTORS[0]) & _MASK
    value = ((value ^ (value >> SHIFTS[1])) * FACTORS[1]) & _MASK
    return value ^ (value >> SHIFTS[2])


def place_of(event_id: int) -> float:
    """Place of an id in [0, 1); of a long one all bits count."""
    value = mixed(SALT ^ (event_id & _MASK))
    event_id >>= 64
    while event_id:
        value = mixed(value ^ (event_id & _MASK))
        event_id >>= 64
    return float(value >> (64 - KEPT_BITS)) * 2.0**-KEPT_BITS
