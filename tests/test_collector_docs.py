"""What docs/collector.md tells its readers to write is taken by the real Collector."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from real_backends import ROOT, program
from shipped_collector import CONFIG

PAGE = (ROOT / "docs/collector.md").read_text(encoding="utf-8")
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def validated(*configs: Path) -> subprocess.CompletedProcess[str]:
    options = [word for config in configs for word in ("--config", config)]
    return subprocess.run(
        [program("otelcol"), "validate", *options], capture_output=True, text=True, check=False
    )


def section(title: str) -> list[str]:
    """YAML of one section of the page."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return YAML.findall(text)


def test_each_piece_for_a_collector_that_is_there_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs, *pieces = section("You have a Collector already")
    assert len(pieces) == 5
    base = tmp_path / "theirs.yaml"
    base.write_text(theirs)
    for number, piece in enumerate(pieces):
        further = tmp_path / f"{number}.yaml"
        further.write_text(piece)
        done = validated(base, further)
        assert (done.returncode, done.stderr) == (0, ""), piece


def test_another_backend_beside_jaeger_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKEND_AUTHORIZATION", "Bearer abc")
    (piece,) = section("Another backend")
    further = tmp_path / "further.yaml"
    further.write_text(piece)
    done = validated(CONFIG, further)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_piece_of_the_page_was_tried() -> None:
    tried = section("You have a Collector already") + section("Another backend")
    assert YAML.findall(PAGE) == tried


def test_the_page_and_the_configuration_agree() -> None:
    config = CONFIG.read_text()
    (patterns,) = re.findall(
        r"    ignored_key_patterns:\n(.*?)    blocked_key_patterns", config, re.DOTALL
    )
    for line in section("You have a Collector already")[-1].splitlines():
        if line.strip().startswith("- ^"):
            assert line in patterns
    assert 'SHA256(span.trace_id.string), 0, 3) < "199"' in config
    for port in ("4317", "4318", "8889", "8888", "13133"):
        assert f"| {port}" in PAGE or f", {port} |" in PAGE
        assert f"127.0.0.1:{port}}}" in config or f"_PORT:-{port}}}" in config
