"""What a command says: data to stdout, talk to stderr, and nothing that a terminal would obey.

Names come from other people's strategies. Whatever is printed passes `inert`, which shows control
characters, direction overrides and the like as escapes, and goes to rich as `Text`, never as
markup.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

LONGEST_NAME: Final = 56
"""Cells that a foreign name may take on a line; a longer one loses its middle."""
PIPE_WIDTH: Final = 10_000
"""Width for a reader that is no terminal: lines are left whole for grep."""

HEADING: Final = "bold underline"
"""Style of what stands above a part of the output."""

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[ -~]*")


def inert(text: object, longest: int | None = None) -> str:
    """Make foreign text harmless for a terminal, on one line.

    Args:
        text: Anything; its `str` is taken.
        longest: Characters that the result may have; the middle of a longer one is left out.
    """
    plain = str(text)
    if not _PLAIN.fullmatch(plain):
        plain = "".join(
            _escaped(character)
            if unicodedata.category(character) in _HIDDEN_CATEGORIES
            else character
            for character in plain
        )
    if longest is not None and len(plain) > longest:
        head = (longest - 1) * 2 // 3
        plain = f"{plain[:head]}…{plain[len(plain) - (longest - 1 - head) :]}"
    return plain


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def data_console() -> Console:
    """The console of stdout, for data that a person reads."""
    return _console(stderr=False)


def talk_console() -> Console:
    """The console of stderr, for everything that is not data."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # A name that the stream's encoding lacks is shown by its number, it does not end the command.
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    is_terminal = stream.isatty()
    width = None if is_terminal or os.environ.get("COLUMNS", "").isdecimal() else PIPE_WIDTH
    return Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, width=width, soft_wrap=False
    )


def print_json(document: object) -> None:
    """Write one JSON document to stdout: ASCII only, decimals as strings with all their digits."""
    text = json.dumps(jsonable(document), indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_line(text: object) -> None:
    """Write one line of data to stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def jsonable(value: Any) -> Any:
    """Turn what a query gives into what JSON can hold, without losing a digit.

    Integers stay integers; a float that JSON lacks (NaN, infinity) becomes its name.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: jsonable(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Iterable):
        return [jsonable(item) for item in value]
    return str(value)


def plain_decimal(value: Decimal) -> str:
    """Write a decimal with every digit that counts: no exponent, no zeros at its end."""
    if not value.is_finite():
        return str(value)
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def cell(value: Any) -> str:
    """Write one value of a query's result as text: NULL as nothing, nested values as JSON."""
    ready = jsonable(value)
    if ready is None:
        return ""
    if isinstance(ready, str):
        return ready
    return json.dumps(ready, ensure_ascii=False)


def is_number(value: Any) -> bool:
    """Tell whether a value belongs to the right in a table."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def styled(*parts: tuple[object, str] | str) -> Text:
    """Put together a line of (text, style) pairs and plain texts; all of it inert."""
    from rich.text import Text

    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(inert(text), style)
    return line


def table(columns: Sequence[str], *, title: str | None = None, right: Iterable[str] = ()) -> Table:
    """Start a table in the house's style; `right` names the columns of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    aligned = set(right)
    made = Table(
        box=box.SIMPLE_HEAD,
        title=Text(inert(title), HEADING) if title else None,
        title_justify="left",
        title_style="",
        header_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        made.add_column(
            Text(inert(name)),
            justify="right" if name in aligned else "left",
            no_wrap=name in aligned,
            overflow="fold",
        )
    return made


def say(*parts: tuple[object, str] | str) -> None:
    """Say a line on stderr."""
    talk_console().print(styled(*parts), soft_wrap=True)


def complain(message: str, next_command: str | None) -> None:
    """Say on stderr what went wrong and what to do about it."""
    console = talk_console()
    lines = [inert(line) for line in message.splitlines()] or [""]
    console.print(styled(("fillpath: ", "bold red"), lines[0]), soft_wrap=True)
    for line in lines[1:]:
        console.print(styled("  ", line), soft_wrap=True)
    if next_command:
        console.print(styled(("  Try: ", "bold"), next_command), soft_wrap=True)


__all__ = [
    "HEADING",
    "LONGEST_NAME",
    "PIPE_WIDTH",
    "cell",
    "complain",
    "data_console",
    "inert",
    "is_number",
    "jsonable",
    "plain_decimal",
    "print_json",
    "print_line",
    "say",
    "styled",
    "table",
    "talk_console",
]
