"""Attribute keys are well-formed, spelt once, and documented on a page that is up to date."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fillpath.instrumentation import semconv

ROOT = Path(__file__).parents[1]
GENERATOR = ROOT / "docs" / "generate_semantic_conventions.py"
PAGE = ROOT / "docs" / "semantic-conventions.md"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_semantic_conventions", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classes() -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(semconv).items()
        if inspect.isclass(value) and value.__module__ == semconv.__name__
    }


def keys() -> list[str]:
    return [
        value
        for name, owner in classes().items()
        if name != "EventType"
        for constant, value in vars(owner).items()
        if constant.isupper()
    ]


@pytest.mark.smoke
def test_the_page_is_current(generator: ModuleType) -> None:
    command = f"{Path(sys.executable).name} docs/generate_semantic_conventions.py"
    assert PAGE.read_text(encoding="utf-8") == generator.page(), f"run {command}"


def test_running_the_generator_writes_the_page(tmp_path: Path) -> None:
    copy = tmp_path / GENERATOR.name
    copy.write_bytes(GENERATOR.read_bytes())
    subprocess.run([sys.executable, str(copy)], check=True)
    written = tmp_path / PAGE.name
    assert written.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_key_and_every_kind() -> None:
    page = PAGE.read_text(encoding="utf-8")
    kinds = [value for name, value in vars(semconv.EventType).items() if name.isupper()]
    for word in (*keys(), *kinds):
        assert f"| `{word}` |" in page


def test_no_key_is_spelt_twice() -> None:
    assert len(keys()) == len(set(keys()))


@pytest.mark.parametrize("key", keys())
def test_a_key_is_lower_case_words_in_a_namespace(key: str) -> None:
    assert re.fullmatch(r"(trading|service|host|messaging|fillpath)(\.[a-z][a-z0-9_]*)+", key)


@pytest.mark.parametrize("key", keys())
def test_no_key_is_a_namespace_of_another(key: str) -> None:
    """A backend that nests keys cannot hold both `a.b` and `a.b.c`."""
    assert not [other for other in keys() if other.startswith(f"{key}.")]


RELIED_ON = """
    service.name service.namespace service.instance.id host.name trading.run.id
    trading.run.mode trading.portfolio.namespace trading.event.type trading.event.id
    trading.event.sequence trading.event.time_unix_nano trading.event.causation_id
    trading.strategy.id trading.instrument.symbol trading.venue.mic trading.order.id
    trading.order.client_id trading.order.side trading.order.type trading.order.status
    trading.order.quantity trading.order.price trading.order.reject.reason trading.fill.id
    trading.fill.price trading.fill.quantity trading.fill.commission trading.fill.currency
    trading.risk.rule trading.risk.limit trading.risk.value trading.handler.name
    trading.sampling.reason trading.sampling.probability messaging.message.conversation_id
"""


def test_what_users_rely_on() -> None:
    assert set(RELIED_ON.split()) <= set(keys())


def test_kinds_are_their_own_names_and_critical_ones_exist() -> None:
    kinds = {name: value for name, value in vars(semconv.EventType).items() if name.isupper()}
    assert all(name == value for name, value in kinds.items())
    assert set(kinds.values()) > semconv.CRITICAL_EVENT_TYPES
    assert {"SIGNAL", "ORDER", "FILL", "RISK_BREACH", "ERROR"} <= semconv.CRITICAL_EVENT_TYPES
    assert not {"BAR", "TICK", "BOOK", "FEATURES"} & semconv.CRITICAL_EVENT_TYPES


def test_span_names() -> None:
    assert semconv.span_name(semconv.PUBLISH, semconv.EventType.ORDER) == "publish ORDER"
    assert semconv.span_name(semconv.PROCESS, "MY_KIND") == "process MY_KIND"


def test_a_constant_without_a_description_is_refused(generator: ModuleType) -> None:
    source = "class A:\n    '''A.'''\n    B: Final = 'b'\n    C: Final = 'c'\n    '''C.'''\n"
    (node,) = generator.ast.parse(source).body
    with pytest.raises(LookupError, match=r"A\.B has no docstring"):
        generator._constants(node, None)
