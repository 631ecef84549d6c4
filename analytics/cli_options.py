"""Options that every command takes, wherever they stand on the line, and what they amount to."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.main import get_command

if TYPE_CHECKING:
    from fillpath.instrumentation.settings import DataFolder

PROGRAM: Final = "fillpath"

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Data folder; else FILLPATH_DATA, else the user's data directory.",
        show_default=False,
    ),
]


def _take_lake(context: typer.Context, given: str | None) -> str | None:
    if given is not None:
        invocation(context).lake = given
    return given


LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="PLACE",
        help="Where the lake is: s3://bucket/prefix or a folder; else FILLPATH_LAKE, else in the "
        "data folder.",
        show_default=False,
        expose_value=False,
        callback=_take_lake,
    ),
]
"""Stands wherever `--data` stands; `with_lake` sees to it."""
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Write one JSON document to stdout.", show_default=False
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="RUN", help="Look in this run only (a unique prefix, or latest)."
    ),
]
PortfolioOption = Annotated[
    str | None,
    typer.Option("--portfolio", metavar="NAME", help="Look in this portfolio only."),
]

IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id of a chain, span, order, fill or position, the beginning of one, or latest: "
        "the last fill of the last run.",
    ),
]
KindOption = Annotated[
    Literal["trace", "chain", "span", "fill", "order", "venue-order", "position"] | None,
    typer.Option("--kind", help="Look for this kind of id only."),
]
LinksOption = Annotated[
    bool,
    typer.Option("--links", metavar="", help="Follow links into other chains.", show_default=False),
]
AllOption = Annotated[
    bool, typer.Option("--all", metavar="", help="Leave nothing out.", show_default=False)
]


@dataclass
class Invocation:
    """What the command line said so far; an option after the subcommand overrides one before it.

    Args:
        data: The data folder as the user wrote it, if so.
        json: Whether the answer is to be a JSON document.
        lake: The place of the lake as the user wrote it, if so.
    """

    data: str | None = None
    json: bool = False
    lake: str | None = None

    def take(self, data: str | None, json: bool | None = None) -> Invocation:
        """Add what stands after a (sub)command."""
        self.data = data if data is not None else self.data
        self.json = self.json or bool(json)
        return self

    @property
    def folder(self) -> DataFolder:
        """The data folder that is meant."""
        from fillpath.instrumentation.settings import data_folder

        return data_folder(self.data, self.lake)

    def command(self, *words: str) -> str:
        """Write a command of ours as the user can paste it into the shell this one came from."""
        data = [] if self.data is None else ["--data", self.data]
        data += [] if self.lake is None else ["--lake", self.lake]
        return " ".join(map(_quoted, [*program(), *data, *words]))

    def lasting_command(self) -> list[str]:
        """Write the beginning of a command for a reader who is elsewhere, and later."""
        name = program()[0]
        if os.sep in name:
            name = str(Path(name).absolute())
        from fillpath.instrumentation.settings import ENV_DATA

        words = [name]
        if self.data is not None or os.environ.get(ENV_DATA):
            words += ["--data", str(self.folder.path)]
        if self.folder.lake_root is not None:
            words += ["--lake", self.folder.lake_root]
        return words

    def completed(self, next_command: str | None) -> str | None:
        """Complete a command that a lower floor proposed, which knows no `--data`."""
        if next_command is not None and " && " in next_command:
            return " && ".join(self.completed(one) or "" for one in next_command.split(" && "))
        if next_command is None or not next_command.startswith(f"{PROGRAM} "):
            return next_command
        if ";" in next_command or next_command.endswith("."):
            return next_command  # a sentence, not a command
        try:
            words = shlex.split(next_command)[1:]
        except ValueError:
            return next_command
        return next_command if "--data" in words else self.command(*words)


def _quoted(word: str) -> str:
    """Quote a word for a shell, in the way that is easier to read."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)


def program() -> list[str]:
    """How to call this program: by its name, or by its path where the name would not find it."""
    called = sys.argv[0]
    found = shutil.which(PROGRAM)
    if Path(called).name != PROGRAM:
        return [PROGRAM]
    if found is not None and Path(found).resolve() == Path(called).resolve():
        return [PROGRAM]
    relative = os.path.relpath(called)
    return [relative if os.sep in relative and not relative.startswith("..") else called]


def with_lake(app: typer.Typer) -> Any:
    """Make the program of an application, with `--lake` wherever there is `--data`."""

    def option(lake: LakeOption = None) -> None:
        """Carry the option."""

    carrier = typer.Typer(add_completion=False)
    carrier.command()(option)
    lake = get_command(carrier).params[0]
    command = get_command(app)
    waiting: list[Any] = [command]
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "commands", {}).values()
        names = [parameter.name for parameter in one.params]
        if "data" in names:
            one.params.insert(names.index("data") + 1, lake)
    return command


def invocation(context: typer.Context) -> Invocation:
    """The invocation that `main` handed to the application."""
    found = context.find_object(Invocation)
    if found is None:
        found = context.obj = Invocation()
    return found


__all__ = [
    "PROGRAM",
    "AllOption",
    "DataOption",
    "IdArgument",
    "Invocation",
    "JsonOption",
    "KindOption",
    "LakeOption",
    "LinksOption",
    "PortfolioOption",
    "RunOption",
    "invocation",
    "program",
    "with_lake",
]
