"""Reads OTLP's JSON from a stream, one `ResourceSpans` after another, in bounded memory.

One document, documents in lines as the Collector's file exporter writes them, or documents one
after another in any layout: to this reader all are the same.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from fillpath.exporters.otlp_input import InputResource, OtlpDamage
from fillpath.exporters.otlp_json_values import resource_spans

_CHUNK: Final = 1 << 18
_MOST_AHEAD: Final = 8 << 20
"""Characters to have at hand before a value is read, at most: the last one's length tells."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DOCUMENT: Final = re.compile(r'\{\s*"resource_?[A-Z_a-z]+"\s*:')
"""Where a document may begin again behind damage. In a text the quotes would be escaped."""
_LONGEST_BEGINNING: Final = 256
_SPANS: Final = frozenset({"resourceSpans", "resource_spans"})
_OTHERS: Final = frozenset({"resourceMetrics", "resourceLogs", "resourceProfiles"})
_NEAR_THE_END: Final = 16
"""A word, number or escape that the end of the text has cut is at most so long."""
_CUT: Final = "the file ends in the middle of a document"
_DECODER: Final = json.JSONDecoder()


class OtlpJsonReader:
    """Reads the spans of a stream of OTLP in JSON.

    Args:
        read: Gives up to so many bytes; none at the end.

    Attributes:
        others: Parts of other signals that were passed over: metrics, logs, profiles.
        damages: What was not JSON, or not OTLP; the reader goes on at the next document.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.others = 0
        self.damages: list[OtlpDamage] = []
        self._read = read
        # A byte that is no UTF-8 is damage to one text, not to the file.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._text = ""
        self._at = 0
        self._value_at = 0
        self._usual = 0
        self._line = 1
        self._ended = False

    def __iter__(self) -> Iterator[InputResource]:
        """Read on until the end of the stream."""
        while True:
            try:
                while self._peek():
                    self._next("{")
                    yield from self._object()
            except OtlpDamage as damage:
                self.damages.append(damage)
                if self._find_document():
                    continue
            return

    # -- Text -------------------------------------------------------------------------------------

    def _fill(self, size: int = _CHUNK) -> bool:
        """Read more, and forget what is behind; tells whether there was more."""
        if self._ended:
            return False
        data = self._read(size)
        self._ended = not data
        more = self._decode(data, self._ended)
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(more) or not self._ended

    def _peek(self) -> str:
        """Give the next character that is no space; nothing at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _next(self, wanted: str) -> str:
        """Pass over the next character, which has to be one of these."""
        found = self._peek()
        if not found:
            raise self._damage(_CUT, self._at)
        if found not in wanted:
            shown = found if found.isprintable() else repr(found)
            raise self._damage(f"{shown} stands where {' or '.join(wanted)} belongs", self._at)
        self._at += 1
        return found

    def _damage(self, what: str, at: int) -> OtlpDamage:
        return OtlpDamage(what, f"line {self._line + self._text.count(chr(10), 0, at)}")

    def _value(self) -> Any:
        """Read one value of JSON."""
        if not self._peek():
            raise self._damage(_CUT, self._at)
        size = _CHUNK
        while len(self._text) - self._at < self._usual and self._fill(self._usual):
            pass
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _NEAR_THE_END
                if not (cut or error.msg.startswith("Unterminated string")):
                    raise self._damage(error.msg, error.pos) from None
                if not self._fill(size):
                    where = min(error.pos, len(self._text))
                    raise self._damage(_CUT, where) from None
                size *= 2  # or a large value would be read from its beginning again and again
                continue
            except RecursionError:
                raise self._damage("values are nested too deeply", self._at) from None
            if end == len(self._text) and isinstance(value, int | float) and self._fill():
                continue  # the number may go on
            self._value_at, self._at = self._at, end
            return value

    # -- Documents --------------------------------------------------------------------------------

    def _object(self) -> Iterator[InputResource]:
        """Read an object behind its brace: a document, or what holds one."""
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            key = self._value()
            self._next(":")
            if key in _SPANS and self._peek() == "[":
                yield from self._elements()
            elif key == "result" and self._peek() == "{":  # as Jaeger's API answers
                self._at += 1
                yield from self._object()
            else:
                value = self._value()
                if key in _SPANS and value is not None:
                    raise self._damage(f"{key} is no list", self._value_at)
                self.others += len(value) if key in _OTHERS and isinstance(value, list) else 0
            if not self._goes_on("}"):
                return

    def _elements(self) -> Iterator[InputResource]:
        self._next("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            value = self._value()
            self._usual = min(2 * (self._at - self._value_at), _MOST_AHEAD)
            try:
                read = resource_spans(value)
            except ValueError as error:
                raise self._damage(str(error), self._value_at) from error
            yield read
            if not self._goes_on("]"):
                return

    def _goes_on(self, end: str) -> bool:
        """Pass over a comma, or the end; tells whether it was a comma."""
        return self._next(f",{end}") == ","

    def _find_document(self) -> bool:
        """Go on to the next document behind damage; tells whether there is one."""
        while True:
            found = _DOCUMENT.search(self._text, self._at)
            if found is not None:
                self._at = found.start()
                return True
            self._at = max(self._at, len(self._text) - _LONGEST_BEGINNING)
            if not self._fill():
                return False
