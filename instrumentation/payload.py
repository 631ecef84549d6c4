"""Carries attribute values without loss: MessagePack, with extensions for what it lacks.

Decimal and integers beyond 64 bits keep their digits. A value of an unknown kind is replaced by
its printed form where it stands, and the key it belongs to is named in
`trading.event.replaced_fields`; everything beside it stays as it is.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Final

import msgpack

from fillpath.instrumentation.semconv import Event

MAX_TEXT: Final = 16_384
"""Characters of a text, and bytes of a byte string, that are kept."""
MAX_NAME: Final = 1_024
"""Characters of a name (of a key, a strategy, an id) that are kept."""
_DECIMAL: Final = 1
_BIG_INTEGER: Final = 2
_MAX_DEPTH: Final = 8
_MAX_BITS: Final = 8_192
_BUDGET: Final = 16_384
"""Items, and 32 characters each, that the structures of one event may hold together."""
_CHARACTERS_PER_ITEM: Final = 32
_SHORT: Final = _CHARACTERS_PER_ITEM
"""Characters of a text that takes none of the budget."""
_UNCHANGED: Final = frozenset({float, Decimal, bool})
"""Types whose values are carried as they are."""
_MAX_CLEAN_KEYS: Final = 4_096
_clean_keys: Final[set[str]] = set()
"""Keys that were found to be carried as they are."""
_PRINTED_EXACTLY: Final = (dt.timedelta, uuid.UUID, PurePath)
_DEFAULT_STR: Final[Any] = object.__str__
_DEFAULT_REPR: Final[Any] = object.__repr__
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def pack(value: Any) -> bytes:
    """Pack a value that `snapshot` has prepared, or one built of plain parts."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, default=_extension)
    return packed


def pack_any(value: Any) -> bytes:
    """Pack a value; what cannot be packed stands there in its printed form. Never raises."""
    try:
        return pack(value)
    except Exception:  # noqa: BLE001 - MessagePack raises several, and a host's type anything
        return pack(_packable(value))


def _packable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_packable(key): _packable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packable(item) for item in value]
    try:
        pack(value)
    except Exception:  # noqa: BLE001 - as above
        return printed(value)
    return value


def unpack(data: bytes | memoryview) -> Any:
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


def clean_text(value: str, limit: int = MAX_NAME) -> str:
    """Cut a text to a length, and write out halves of surrogate pairs: UTF-8 cannot hold them."""
    text = str.__str__(value)[:limit]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printed(value: Any, limit: int = MAX_TEXT) -> str:
    """Print any object, without its address: that is another one in every run. Never raises."""
    kind = type(value)
    if kind.__str__ is _DEFAULT_STR and kind.__repr__ is _DEFAULT_REPR:
        return f"<{kind.__qualname__}>"
    try:
        return _ADDRESS.sub("", clean_text(str(value), limit))
    except Exception:  # noqa: BLE001 - a host's __str__ may raise anything
        return f"<{kind.__qualname__}>"


def name_of(value: Any) -> str | None:
    """A name as the spool can hold it; an adapter may hand over what a host calls one."""
    if value is None:
        return None
    if type(value) is str and len(value) <= MAX_NAME and value.isascii():
        return value
    return clean_text(value) if isinstance(value, str) else printed(value, MAX_NAME)


def snapshot(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy attributes into plain parts, so that later changes by the host are not seen.

    Keys with the value None are left out: they say nothing. Never raises.
    """
    if type(attributes) is dict:
        plain = attributes.copy()
        for key, value in plain.items():
            kind = type(value)
            if (
                (kind in _UNCHANGED or (kind is str and len(value) <= _SHORT and value.isascii()))
                and type(key) is str
                and key in _clean_keys
            ):
                continue
            break
        else:
            return plain
        attributes = plain
    plain = {}
    replaced: list[str] = []
    copier: _Copier | None = None
    for key, value in attributes.items():
        kind = type(value)
        if (
            (kind in _UNCHANGED or (kind is str and len(value) <= _SHORT and value.isascii()))
            and type(key) is str
            and len(key) <= MAX_NAME
            and key.isascii()
            and key not in plain
        ):
            plain[key] = value
            if len(_clean_keys) < _MAX_CLEAN_KEYS:
                _clean_keys.add(key)
            continue
        if value is None:
            continue
        copier = copier or _Copier()
        copier.replaced = False
        is_name = type(key) is str and key.isascii() and len(key) <= MAX_NAME and key not in plain
        name = key if is_name else copier.name(key, plain)
        plain[name] = copier.copy(value, 0)
        if copier.replaced:
            replaced.append(name)
    if replaced:
        before = plain.get(Event.REPLACED)
        plain[Event.REPLACED] = [*(before if isinstance(before, list) else ()), *replaced]
    return plain


def merged(early: dict[str, Any], late: dict[str, Any]) -> dict[str, Any]:
    """Attributes that `snapshot` has prepared at two moments, as one; the later ones win."""
    replaced = [*early.get(Event.REPLACED, ()), *late.get(Event.REPLACED, ())]
    return {**early, **late, **({Event.REPLACED: replaced} if replaced else {})}


class _Copier:
    """Copies the values of one event; notes whether something could not be carried as it is."""

    def __init__(self) -> None:
        self.replaced = False
        self._budget = _BUDGET

    def name(self, key: Any, taken: Mapping[str, Any]) -> str:
        """A key as text, different from those that are taken."""
        if isinstance(key, str):
            name = self._text(key, MAX_NAME)
        elif isinstance(key, Enum):
            name = self._text(key.name, MAX_NAME)
        else:
            self.replaced |= not isinstance(key, bool | int | float | Decimal)
            name = printed(key, MAX_NAME)
        if name in taken:
            self.replaced = True
            name = next(n for i in range(2, len(taken) + 3) if (n := f"{name}#{i}") not in taken)
        return name

    def copy(self, value: Any, depth: int) -> Any:
        """A value as plain parts."""
        kind = type(value)
        if value is None or kind is float or kind is bool or kind is Decimal:
            return value
        if kind is str:
            return self._text(value, MAX_TEXT)
        if kind is int and value.bit_length() <= _MAX_BITS:
            return value
        try:
            return self._copy_other(value, depth)
        except Exception:  # noqa: BLE001 - a host's __iter__, __len__ or property may raise anything
            return self._replace(f"<{kind.__qualname__}>")

    def _copy_other(self, value: Any, depth: int) -> Any:
        scalar, found = self._scalar(value)
        if found:
            return scalar
        if getattr(value, "dtype", None) is not None and hasattr(value, "tolist"):
            return self._array(value, depth)
        parts = _parts_of(value)
        if parts is None:
            return self._replace(printed(value))
        if depth >= _MAX_DEPTH:
            # Printing it would follow the same structure without end or limit.
            return self._replace(f"<{type(value).__qualname__}>")
        return (
            self._mapping(parts, depth) if isinstance(parts, Mapping) else self._list(parts, depth)
        )

    def _scalar(self, value: Any) -> tuple[Any, bool]:
        """The value itself without its subclass, and whether it is one that has no parts."""
        if isinstance(value, Enum):
            return self._text(str(value.name), MAX_TEXT), True
        if isinstance(value, str):
            return self._text(value, MAX_TEXT), True
        if isinstance(value, int):
            plain = int.__index__(value)
            if plain.bit_length() > _MAX_BITS:
                return self._replace(hex(plain)[:MAX_TEXT]), True
            return plain, True
        if isinstance(value, float):
            return float.__float__(value), True
        if isinstance(value, Decimal):
            return Decimal(value), True
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(value), True
        if isinstance(value, dt.datetime | dt.date | dt.time):
            return value.isoformat(), True
        if isinstance(value, _PRINTED_EXACTLY):
            return self._text(str(value), MAX_TEXT), True
        return None, False

    def _array(self, value: Any, depth: int) -> Any:
        """Numbers of numpy and pandas, alone or many."""
        size = getattr(value, "size", 1)
        if size > self._budget or depth >= _MAX_DEPTH:
            return self._replace(f"<{type(value).__qualname__} of {size}>")
        if getattr(value.dtype, "kind", "") in ("m", "M"):  # nanoseconds have no Python type
            value = value.astype("str")
        plain = value.tolist()
        if type(plain) is type(value):
            return self._replace(printed(value))
        return self.copy(plain, depth + 1)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in self._affordable(value.items()):
            name = self.name(key, plain)
            plain[name] = self.copy(item, depth + 1)
        return plain

    def _list(self, value: Iterable[Any], depth: int) -> list[Any]:
        plain = [self.copy(item, depth + 1) for item in self._affordable(value)]
        if isinstance(value, AbstractSet):  # its order is another one in every process
            plain.sort(key=repr)
        return plain

    def _affordable(self, items: Iterable[Any]) -> Iterable[Any]:
        """As many of the items as there is room for, taken at once: they may change meanwhile."""
        taken = list(islice(items, max(self._budget, 0) + 1))
        for item in taken:
            if self._budget <= 0:
                self.replaced = True
                return
            self._budget -= 1
            yield item

    def _text(self, value: str, limit: int) -> str:
        text = clean_text(value, limit)
        if text != str.__str__(value):
            self.replaced = True
        if len(text) > _CHARACTERS_PER_ITEM:
            self._budget -= len(text) // _CHARACTERS_PER_ITEM
        return text

    def _bytes(self, value: bytes | bytearray | memoryview) -> bytes:
        whole = memoryview(value).nbytes
        if whole <= MAX_TEXT:
            self._budget -= whole // _CHARACTERS_PER_ITEM
            return bytes(value)
        self._budget -= MAX_TEXT // _CHARACTERS_PER_ITEM
        return bytes(self._replace(memoryview(value).cast("B")[:MAX_TEXT]))

    def _replace(self, replacement: Any) -> Any:
        self.replaced = True
        return replacement


def _parts_of(value: Any) -> Mapping[Any, Any] | Iterable[Any] | None:
    """What a structure consists of; None when it is none."""
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, Sequence | AbstractSet):
        return value
    return None
