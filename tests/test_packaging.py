"""What pyproject.toml lists, the tree, a wheel and the editable install are one and the same."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
PACKAGE_DIR: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]
FLOORS = ("instrumentation", "exporters", "analytics", "examples")
# How the vendored bundle is made: for maintainers, not for an installation.
NOT_SHIPPED = {
    f"fillpath/analytics/vendor/{name}"
    for name in (
        ".npmrc",
        "Makefile",
        "README.md",
        "SHA256SUMS",
        "build.mjs",
        "entry.mjs",
        "package-lock.json",
        "package.json",
        "vega_trimmed.mjs",
    )
}

COMPILED = "fillpath/instrumentation/_compiled_rows.abi3.so"

VOCABULARY = {
    "semconv",
    "traced_event",
    "identity",
    "event_sampler",  # the policy, and what belongs to it
    "critical_when",
    "event_activity",
    "id_share",
    "sampling_stream",
    "signal_meaning",
    "spool",
    "span_parts",  # what the spool carries of OpenTelemetry spans
    "payload",  # how the spool carries values
    "settings",
    "rollout",  # one of the settings
    "run_notes",  # how the spool names what it tells of backtests
    "errors",
    "compiled_rows",  # whether recording is compiled, and if not, why
    "writer_files",  # how the writer process and its hosts know of each other
    "forwarder_files",  # how a host knows what was sent by OTLP
}
"""The modules of instrumentation that the other floors may import."""


def files_of_the_floors() -> Iterator[Path]:
    """Every file below the floors, relative to the checkout, without what tools leave behind."""
    for floor in FLOORS:
        for folder, folders, files in os.walk(CHECKOUT / floor):
            folders[:] = [name for name in folders if name not in {"__pycache__", "node_modules"}]
            yield from (
                (Path(folder) / name).relative_to(CHECKOUT)
                for name in files
                if not name.endswith(".so")  # built there by an editable install
            )


def packages_in_the_tree() -> list[str]:
    folders = {path.parent for path in files_of_the_floors() if path.suffix == ".py"}
    return sorted(".".join(("fillpath", *folder.parts)) for folder in folders)


def lock_text(name: str) -> str:
    return (CHECKOUT / "locks" / f"{name}.txt").read_text()


def build(what: str, source: Path, target: Path, **environment: str) -> Path:
    """Build a `wheel` or an `sdist`, without asking a registry for anything."""
    target.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(target)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, as it was before anything was built in it."""
    source = tmp_path_factory.mktemp("a checkout") / "fillpath"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    leave_out = shutil.ignore_patterns("__pycache__", "node_modules", "*.so")
    for floor in FLOORS:
        shutil.copytree(CHECKOUT / floor, source / floor, ignore=leave_out)
    return source


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    """A source distribution, unpacked; built where an editable install has been."""
    copy = shutil.copytree(source, source.parent / "installed")
    (copy / "instrumentation" / Path(COMPILED).name).touch()
    packed, folder = build("sdist", copy, source.parent / "sdist"), source.parent / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", folder], check=True)
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> zipfile.ZipFile:
    """A wheel as it is built of a source distribution."""
    return zipfile.ZipFile(build("wheel", sdist, sdist.parent.parent / "dist"))


@pytest.mark.smoke
def test_packages_listed_are_the_packages_in_the_tree() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == packages_in_the_tree()
    assert sorted(PACKAGE_DIR) == sorted(listed)
    for package, folder in PACKAGE_DIR.items():
        assert folder == package.removeprefix("fillpath.").replace(".", "/")


def test_the_namespace_has_no_init_of_its_own(wheel: zipfile.ZipFile) -> None:
    assert "fillpath/__init__.py" not in wheel.namelist()
    assert not (CHECKOUT / "fillpath").exists()
    spec = importlib.util.find_spec("fillpath")
    assert spec is not None
    assert spec.origin is None


def test_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    in_the_tree = {
        f"fillpath/{path.as_posix()}"
        for path in files_of_the_floors()
        if path.suffix not in {".c", ".h"}
    }
    assert inside - {COMPILED} == in_the_tree - NOT_SHIPPED


def test_wheel_holds_the_compiled_part_for_every_python(wheel: zipfile.ZipFile) -> None:
    name = Path(str(wheel.filename)).name
    assert re.search(r"-cp311-abi3-\w+\.whl$", name), name
    if shutil.which("cc") is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("there is no C compiler here")
    assert COMPILED in wheel.namelist()


def test_without_a_compiler_a_wheel_is_whole_but_for_the_compiled_part(
    source: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "copy")
    built = build("wheel", tmp_path / "copy", tmp_path / "dist", CC="/nowhere/cc")
    assert set(zipfile.ZipFile(built).namelist()) == set(wheel.namelist()) - {COMPILED}


def test_source_distribution_holds_what_is_compiled_and_not_what_came_of_it(sdist: Path) -> None:
    inside = {path.name for path in (sdist / "instrumentation").iterdir()}
    assert {path.name for path in files_of_the_floors() if path.suffix in {".c", ".h"}} <= inside
    assert not {name for name in inside if name.endswith(".so")}


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    (licence,) = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert wheel.read(licence) == (CHECKOUT / "LICENSE").read_bytes()


@pytest.mark.smoke
def test_editable_install_finds_every_package_in_the_checkout_from_anywhere(tmp_path: Path) -> None:
    packages = packages_in_the_tree()
    ask = (
        "import importlib.util, sys\n"
        "for name in sys.argv[1:]: print(importlib.util.find_spec(name).origin)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", ask, *packages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    origins = done.stdout.splitlines()
    expected = [str(CHECKOUT / PACKAGE_DIR[name] / "__init__.py") for name in packages]
    assert origins == expected


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("console_scripts", "fillpath"),
        ("opentelemetry_instrumentor", "nautilus"),
        ("opentelemetry_traces_sampler", "fillpath"),
        ("opentelemetry_traces_exporter", "fillpath_parquet"),
    ],
)
def test_entry_point_loads(group: str, name: str) -> None:
    (found,) = importlib.metadata.distribution("fillpath").entry_points.select(
        group=group, name=name
    )
    assert callable(found.load())


def test_extras_name_each_other_correctly() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    for requirements in extras.values():
        for requirement in requirements:
            inner = re.fullmatch(r"fillpath\[(.+)\]", requirement)
            for extra in inner[1].split(",") if inner else ():
                assert extra in extras


@pytest.mark.parametrize("name", ["demo", "dev"])
def test_lock_has_hashes_and_names_no_registry(name: str) -> None:
    lock = lock_text(name)
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|@ file", lock)
    pins = [line for line in lock.splitlines() if "==" in line]
    assert pins
    blocks = re.split(r"\n(?=\S)", lock.strip())
    assert len(blocks) == len(pins)
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==\S+", block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("name", ["demo", "dev"])
def test_lock_holds_every_dependency(name: str) -> None:
    lock = lock_text(name)
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *PYPROJECT["dependency-groups"]["build"]]
    wanted = {"nautilus", "postgres", "postgres-embedded", "report", "demo"}
    for extra in extras if name == "dev" else wanted:
        needed += [each for each in extras[extra] if not each.startswith("fillpath[")]
    names = {re.split(r"[\[<>=!~; ]", each)[0] for each in needed}
    assert {each.lower().replace("_", "-") for each in names} <= locked


def test_both_locks_agree() -> None:
    pins = {
        name: set(re.findall(r"^\S.*==[^\\\n]+", lock_text(name), re.MULTILINE))
        for name in ("demo", "dev")
    }
    assert pins["demo"] <= pins["dev"]


def test_every_module_of_instrumentation_is_vocabulary_or_forbidden_to_the_other_floors() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (forbidden,) = [each["forbidden_modules"] for each in contracts if each["id"] == "vocabulary"]
    named = {module.removeprefix("fillpath.instrumentation.") for module in forbidden}
    modules = {path.stem for path in (CHECKOUT / "instrumentation").glob("*.py")} - {"__init__"}
    assert not named & VOCABULARY
    assert named | VOCABULARY == modules, "name a new module in [tool.importlinter] or VOCABULARY"
