"""Makes the side records of a block's events that carry texts of their own, such as order ids.

The fast door keeps the texts as they are until the block is written, since a text does not change.
All of a block are then packed in one go, without a look at each: what is no text, or is none that
the spool can hold as it is, is told from the kinds of all values at once and from what was packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgpack

from fillpath.instrumentation.payload import MAX_TEXT

_ONLY_TEXTS: Final = frozenset({str})
_OR_ABSENT: Final = frozenset({str, type(None)})
_NOTHING: Final[list[Any]] = []
_NO_EXTRA: Final[dict[str, Any]] = {}
_LENGTHS: Final = tuple(length.to_bytes(4, "little") for length in range(1024))


def pack_texts(named: Sequence[tuple[int, dict[str, Any]]]) -> list[bytes] | None:
    """Pack side records of events with nothing but texts beside their numbers.

    Args:
        named: Sequence and texts by key of each event; a text that is None is absent.

    Returns:
        A side record for each, or None if some hold other values, or texts or keys that cannot be
        carried as they are: see `are_plain`. No code of the host was run.
    """
    kinds = set(map(type, chain.from_iterable([texts.values() for _, texts in named])))
    if kinds <= _ONLY_TEXTS:
        records: Iterable[list[Any]] = [
            [sequence, texts, _NOTHING, _NO_EXTRA] for sequence, texts in named
        ]
    elif kinds <= _OR_ABSENT:
        records = [[sequence, _present(texts), _NOTHING, _NO_EXTRA] for sequence, texts in named]
    else:
        return None
    try:
        packed = list(map(msgpack.Packer().pack, records))
    except Exception:  # noqa: BLE001 - half of a surrogate pair, in a text or a key
        return None
    longest = max(map(len, packed))
    if longest < len(_LENGTHS):
        return [_LENGTHS[len(each)] + each for each in packed]
    if longest > MAX_TEXT and not all(are_plain(texts) for _, texts in named):
        return None
    return [len(each).to_bytes(4, "little") + each for each in packed]


def are_texts(attributes: dict[str, Any]) -> bool:
    """Whether all attributes are texts, or there are none."""
    for value in attributes.values():  # noqa: SIM110 - `all` takes twice as long
        if type(value) is not str:
            return False
    return True


def are_plain(texts: dict[str, Any]) -> bool:
    """Whether the spool can hold all texts as they are."""
    return all(
        text is None or (type(text) is str and len(text) <= MAX_TEXT and _is_unicode(text))
        for text in texts.values()
    )


def _present(texts: dict[str, Any]) -> dict[str, Any]:
    """Those of the texts that are there; they are nothing but texts and None."""
    if None not in texts.values():
        return texts
    return {key: text for key, text in texts.items() if text is not None}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
