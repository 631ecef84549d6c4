"""What every test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the user's settings out and give a test that names no data folder one of its own."""
    for name in os.environ:
        if name.startswith(("FILLPATH_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "data"))
    yield
