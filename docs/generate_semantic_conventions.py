#!/usr/bin/env python3
"""Writes semantic-conventions.md from `fillpath.instrumentation.semconv`; run it after a change."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, Final, NamedTuple

from fillpath.instrumentation import semconv

PAGE: Final = Path(__file__).with_name("semantic-conventions.md")
_ON_THE_RESOURCE: Final = "Resource"
_KINDS: Final = "EventType"
_OF_FILLPATH: Final = "Metric"
_NOT_OF_SPANS: Final = (_ON_THE_RESOURCE, _KINDS, _OF_FILLPATH)
_INTRODUCTION: Final = """\
# Semantic conventions

<!-- Written by docs/generate_semantic_conventions.py from instrumentation/semconv.py. -->

Every attribute key, event type and span name, spelt once. Keys follow OpenTelemetry's naming;
values follow FIX and ISO terms: `BUY` and `SELL`, ISO 4217 currencies, ISO 10383 venues.

## Spans

| name | kind | stands for |
|---|---|---|
| `publish` and an event type, such as `publish ORDER` | PRODUCER | an event |
| `process` and an event type, such as `process BAR` | CONSUMER | a handler's run with that event; \
recorded if it caused something or failed |

- The parent is the cause. Further causes are links; so is the entry that an exit closes.
- Span start and end are wall clock. The market's own time is `{time}`.
- A trace is a chain: all events with one root cause. Its name is `{correlation_id}`: the host's \
own, or the trace id.
- The status is Error when a handler raised, with `exception.type` and `exception.message`. A \
rejection is no error: its status stays Unset and it has `{reject_reason}`. OK is never set.
- Numbers keep their digits: where a backend has no decimals, they are texts.
- The instrumentation scope is `{scope}`; its schema URL is `{schema}`.
"""


class _Constant(NamedTuple):
    name: str
    value: str
    meaning: str


class _Section(NamedTuple):
    name: str
    meaning: str
    constants: list[_Constant]


def sections() -> list[_Section]:
    """The classes of the module, each with its constants and what stands below them."""
    tree = ast.parse(inspect.getsource(semconv))
    return [
        _Section(
            node.name,
            ast.get_docstring(node) or "",
            list(_constants(node, getattr(semconv, node.name))),
        )
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    ]


def _constants(node: ast.ClassDef, owner: Any) -> list[_Constant]:
    found = []
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            meaning = _text_of(following)
            if meaning is None:
                raise LookupError(f"{node.name}.{statement.target.id} has no docstring below it")
            name = statement.target.id
            found.append(_Constant(name, getattr(owner, name), meaning))
    return found


def _text_of(statement: ast.stmt | None) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return " ".join(str(statement.value.value).split())
    return None


def page() -> str:
    """The whole page."""
    parts = [
        _INTRODUCTION.format(
            time=semconv.Event.TIME,
            correlation_id=semconv.Event.CORRELATION_ID,
            reject_reason=semconv.Order.REJECT_REASON,
            scope=semconv.SCOPE_NAME,
            schema=semconv.SCHEMA_URL,
        )
    ]
    of_spans = [each for each in sections() if each.name not in _NOT_OF_SPANS]
    by_name = {each.name: each for each in sections()}
    parts += ["## Resource attributes\n", _table(by_name[_ON_THE_RESOURCE], "key")]
    parts.append("## Span attributes\n")
    for section in of_spans:
        parts += [f"### {section.name}\n", f"{section.meaning}\n", _table(section, "key")]
    parts += [
        "An attribute that this list lacks is `trading.`, the event type in lower case, and the \
host's own name of the field: `trading.features.rsi`.\n",
        "## Event types\n",
        f"{by_name[_KINDS].meaning}\n",
        _table(by_name[_KINDS], "type", "critical"),
        "The sampling policy never drops a critical event, unless it is told otherwise.\n",
        "## Metrics\n",
        f"{by_name[_OF_FILLPATH].meaning} See [self-observability.md](self-observability.md).\n",
        _table(by_name[_OF_FILLPATH], "name"),
    ]
    return "\n".join(parts)


def _table(section: _Section, *columns: str) -> str:
    lines = [f"| {' | '.join(columns)} | meaning |", f"|{'---|' * (len(columns) + 1)}"]
    for _, value, meaning in section.constants:
        cells = [f"`{value}`"]
        if "critical" in columns:
            cells.append("yes" if value in semconv.CRITICAL_EVENT_TYPES else "")
        lines.append(f"| {' | '.join(cells)} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
