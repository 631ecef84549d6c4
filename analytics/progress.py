"""Tells on stderr what is going on: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from fillpath.analytics.output import LONGEST_NAME, inert, styled, talk_console

Item = TypeVar("Item")


@dataclass(slots=True)
class Step:
    """A step that is under way.

    Args:
        result: What to say when it is done.
    """

    result: str | None = None

    def finish(self, result: str) -> None:
        """Say what came of it."""
        self.result = result


def counted(items: Sequence[Item], doing: Callable[[Item], str]) -> Iterator[Item]:
    """Go through items with a bar on stderr that says how far it is; only on a terminal.

    Args:
        items: All of them.
        doing: Says in a few words what is done with one.
    """
    console = talk_console()
    if not console.is_terminal:
        yield from items
        return
    from rich import progress

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}", markup=False),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(items))
        for item in items:
            bar.update(task, description=inert(doing(item), LONGEST_NAME))
            yield item
            bar.advance(task)


class Progress:
    """Steps of a command that takes a while, one after another."""

    def __init__(self) -> None:
        self._console = talk_console()

    @contextmanager
    def step(self, doing: str) -> Iterator[Step]:
        """Show a step while the body runs, and how long it took once it is finished."""
        step = Step()
        began = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(styled(f"{doing} …")):
                yield step
        else:
            self._console.print(styled(f"{doing} …"), soft_wrap=True)
            yield step
        if step.result is not None:
            took = f"  {time.monotonic() - began:.1f} s"
            self._console.print(
                styled(("✔", "bold green"), " ", step.result, (took, "dim")), soft_wrap=True
            )
