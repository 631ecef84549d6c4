"""Reads the parts of OTLP's JSON: what it says by its own mapping, and what others make of it.

OTLP's JSON is not that of Protocol Buffers: ids are hex there, not base64, so a general reader of
Protocol Buffers' JSON takes them for something else. Both are told apart by their lengths here.
Enumerations may be numbers or names, 64-bit integers texts or numbers, a missing field or null is
the default, and an unknown field is left alone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fillpath.exporters.otlp_input import (
    SPAN_KINDS,
    STATUS_CODES,
    InputLink,
    InputResource,
    InputScope,
    InputSpan,
    checked_ids,
)

_BASE64_LENGTHS: Final = {16: 24, 8: 12}
_WRONG: Final = (ValueError, TypeError, AttributeError, KeyError, OverflowError)
_BOOLEANS: Final = {"true": True, "false": False}
_KIND_NUMBERS: Final = {name: number for number, name in enumerate(SPAN_KINDS)}
_STATUS_NUMBERS: Final = {name: number for number, name in enumerate(STATUS_CODES)}


def resource_spans(given: Any) -> InputResource:
    """Read a `ResourceSpans`.

    Raises:
        ValueError: It is not one.
    """
    try:
        if "scope_spans" in given:
            given = _camel(given)
        resource = given.get("resource") or {}
        read = InputResource(
            attributes_of(resource.get("attributes")), _text(given.get("schemaUrl")), []
        )
        for scope_spans in _list_of(given, "scopeSpans"):
            read.scopes.append(_scope_spans(scope_spans, read.malformed))
    except _WRONG as error:
        raise ValueError(f"no ResourceSpans of OTLP ({_said(error)})") from error
    return read


def _list_of(given: Mapping[str, Any], name: str) -> list[Any]:
    found = given.get(name)
    if not isinstance(found, list | None):
        raise ValueError(f"{name} is no list")  # noqa: TRY004 - it is the file that is wrong
    return found or []


def _scope_spans(given: Mapping[str, Any], malformed: list[str]) -> InputScope:
    scope = given.get("scope") or {}
    spans = []
    for span in _list_of(given, "spans"):
        try:
            spans.append(_span(span))
        except _WRONG as error:
            malformed.append(_said(error))
    name = scope.get("name")
    return InputScope(
        None if name is None else _text(name),
        _text(scope.get("version")),
        attributes_of(scope.get("attributes")),
        _text(given.get("schemaUrl")),
        spans,
    )


def _span(given: Mapping[str, Any]) -> InputSpan:
    get = given.get
    parent = get("parentSpanId")
    ids = checked_ids(
        _id(get("traceId"), 16), _id(get("spanId"), 8), _id(parent, 8) if parent else b""
    )
    span = InputSpan(
        *ids,
        _text(get("name")),
        SPAN_KINDS[_number_of(get("kind"), "SPAN_KIND_", _KIND_NUMBERS)],
        _integer(get("startTimeUnixNano")),
        _integer(get("endTimeUnixNano")),
        attributes_of(get("attributes")),
        _text(get("traceState")),
    )
    if events := get("events"):
        span.events = [_event(event) for event in events]
    if links := get("links"):
        span.links = [_link(link) for link in links]
    if status := get("status"):
        number = _number_of(status.get("code"), "STATUS_CODE_", _STATUS_NUMBERS)
        span.status_code = STATUS_CODES[number]
        span.status_message = _text(status.get("message"))
    for part in ("attributes", "events", "links"):
        if count := get(f"dropped{part.capitalize()}Count"):
            span.dropped[part] = _integer(count)
    return span


def _event(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _text(given.get("name")),
        "time_unix_nano": _integer(given.get("timeUnixNano")),
        "attributes": attributes_of(given.get("attributes")),
    }


def _link(given: Mapping[str, Any]) -> InputLink:
    trace_id, span_id, _ = checked_ids(_id(given.get("traceId"), 16), _id(given["spanId"], 8), b"")
    attributes = attributes_of(given.get("attributes"))
    return InputLink(trace_id, span_id, attributes, _text(given.get("traceState")))


def attributes_of(given: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Read attributes; of several by one key the last one holds."""
    attributes: dict[str, Any] = {}
    for pair in given or ():
        key, value = pair.get("key"), pair.get("value")
        text = value.get("stringValue") if value else None  # what most of them are
        attributes[key if type(key) is str else _text(key)] = (
            text if type(text) is str else _value(value)
        )
    return attributes


def _value(given: Mapping[str, Any] | None) -> Any:
    for kind, content in (given or {}).items():
        read = _VALUES.get(kind)
        if read is not None and content is not None:
            return read(content)
    return None


def _id(given: Any, length: int) -> bytes:
    given = _text(given)
    if len(given) == _BASE64_LENGTHS[length]:
        return base64.b64decode(given, validate=True)
    return bytes.fromhex(given)


def _text(given: Any) -> str:
    if isinstance(given, str):
        return given
    if given is None:
        return ""
    raise ValueError(f"{given!r} stands where a text belongs")


def _integer(given: Any) -> int:
    if given is None:
        return 0
    number = int(given)
    if isinstance(given, bool) or (isinstance(given, float) and number != given):
        raise ValueError(f"{given!r} is no integer")
    return number


def _double(given: Any) -> float:
    return float(given)  # NaN, Infinity and -Infinity are texts


def _boolean(given: Any) -> bool:
    return given if isinstance(given, bool) else _BOOLEANS[given]


def _bytes(given: str) -> bytes:
    plain = given.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _array(given: Mapping[str, Any]) -> list[Any]:
    return [_value(item) for item in given.get("values") or ()]


def _mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    return attributes_of(given.get("values"))


_VALUES: Final[dict[str, Callable[[Any], Any]]] = {
    "stringValue": _text,
    "intValue": _integer,
    "doubleValue": _double,
    "boolValue": _boolean,
    "bytesValue": _bytes,
    "arrayValue": _array,
    "kvlistValue": _mapping,
}


def _number_of(given: Any, prefix: str, numbers: Mapping[str, int]) -> int:
    """Number of an enumeration's value; one that is newer than this reader counts as the first."""
    if given is None:
        return 0
    if isinstance(given, str) and not given.isdecimal():
        return numbers.get(given.removeprefix(prefix), 0)
    number = _integer(given)
    return number if 0 <= number < len(numbers) else 0


def _camel(given: Any) -> Any:
    """Name the fields as JSON does, for a writer that left them as Protocol Buffers have them."""
    if isinstance(given, dict):
        return {_camel_key(key): _camel(value) for key, value in given.items()}
    return [_camel(item) for item in given] if isinstance(given, list) else given


def _camel_key(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
