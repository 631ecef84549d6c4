"""Reads the attributes that a host gives: copied, and whatever is wrong with them stays here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fillpath.instrumentation.payload import snapshot
from fillpath.instrumentation.semconv import Event


def copied(
    attributes: Mapping[str, Any] | None, complain: Callable[[BaseException], None]
) -> dict[str, Any]:
    """Copy a host's mapping, which may raise anything; that is said, and noted in the place of it.

    Args:
        attributes: What the host gave.
        complain: Is told what was raised.
    """
    if attributes is None:
        return {}
    try:
        return snapshot(attributes)
    except Exception as error:  # noqa: BLE001 - the host's mapping may raise anything
        complain(error)
        return {Event.REPLACED: ["*"]}


def attributes_of(source: Any, complain: Callable[[BaseException], None]) -> dict[str, Any]:
    """Give the attributes that an event was opened with.

    Args:
        source: A mapping that was copied when the event was opened, a function that gives one, or
            nothing.
        complain: Is told what the function raised.
    """
    if type(source) is dict:
        return source
    if callable(source):
        try:
            source = source()
        except Exception as error:  # noqa: BLE001 - the host's code may raise anything
            complain(error)
            return {Event.REPLACED: ["*"]}
        return copied(source, complain)
    return dict(source) if source else {}
