"""Carries attribute values without loss: MessagePack, with extensions for what it lacks.

Decimal and integers beyond 64 bits keep their digits. A value of an unknown kind is replaced by
its printed form, and the key is named in `trading.event.replaced_fields`; its neighbours stay.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import msgpack

from fillpath.instrumentation.semconv import Event

_DECIMAL: Final = 1
_BIG_INTEGER: Final = 2
_MAX_DEPTH: Final = 8
_MAX_TEXT: Final = 16_384
_MAX_INTEGER: Final = 1 << 63


class _Replaced(Exception):
    """A value cannot be carried as it is; holds what to carry instead."""

    def __init__(self, value: Any) -> None:
        self.value = value


def pack(value: Any) -> bytes:
    """Pack a value that `snapshot` has prepared, or one built of plain parts."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, default=_extension)
    return packed


def unpack(data: bytes) -> Any:
    """Undo `pack`; sequences come back as lists."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, ext_hook=_from_extension)


def _extension(value: Any) -> msgpack.ExtType:
    if isinstance(value, Decimal):
        return msgpack.ExtType(_DECIMAL, str(value).encode())
    if isinstance(value, int):
        return msgpack.ExtType(_BIG_INTEGER, hex(value).encode())
    raise TypeError(f"cannot carry a {type(value).__name__}")


def _from_extension(code: int, data: bytes) -> Any:
    if code == _DECIMAL:
        return Decimal(data.decode())
    if code == _BIG_INTEGER:
        return int(data, 16)
    return data


def snapshot(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy attributes into plain parts, so that later changes by the host are not seen.

    Keys with the value None are left out: they say nothing.
    """
    plain: dict[str, Any] = {}
    replaced: list[str] = []
    for key, value in attributes.items():
        if value is None:
            continue
        name = _text(key) if isinstance(key, str) else _printed(key)
        try:
            plain[name] = _plain(value, 0)
        except _Replaced as replacement:
            plain[name] = replacement.value
            replaced.append(name)
        except Exception:  # a host's __str__ or __iter__ may raise anything
            plain[name] = f"<{type(value).__name__}>"
            replaced.append(name)
    if replaced:
        plain[Event.REPLACED] = replaced
    return plain


def _plain(value: Any, depth: int) -> Any:  # noqa: PLR0911 - one branch for each kind of value
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int or kind is float or kind is Decimal or kind is bytes:
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if depth >= _MAX_DEPTH:
        raise _Replaced(_printed(value))
    if isinstance(value, Mapping):
        return {
            _text(k) if isinstance(k, str) else _printed(k): _plain(v, depth + 1)
            for k, v in value.items()
        }
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, depth + 1) for item in value), key=repr)
    if isinstance(value, Sequence):
        return [_plain(item, depth + 1) for item in value]
    item = getattr(value, "item", None)  # numpy and pandas scalars
    if callable(item):
        scalar = item()
        if type(scalar) is not kind:
            return _plain(scalar, depth + 1)
    raise _Replaced(_printed(value))


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Replaced(value.encode("utf-8", "backslashreplace").decode()) from None
    if len(value) > _MAX_TEXT:
        raise _Replaced(value[:_MAX_TEXT])
    return value


def _printed(value: Any) -> str:
    kind = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return f"<{kind.__qualname__}>"  # the default form holds an address, new in every run
    text = str(value)
    return text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode()
