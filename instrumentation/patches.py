"""What was replaced in an engine, so that it can be put back exactly."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

_ABSENT: Final = object()


class Patches:
    """Attributes of an engine's classes and modules that stand-ins have taken the place of."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []
        self._parts: list[Patches] = []

    def part(self) -> Patches:
        """Give patches that are undone with these, if they have not been by themselves."""
        part = Patches()
        self._parts.append(part)
        return part

    def replace(self, owner: Any, name: str, new: Any) -> None:
        """Put something else in the place of an attribute.

        Args:
            owner: The class or module; one that only inherits the attribute gets one of its own.
            name: The attribute.
            new: What stands there until `undo`.
        """
        before = vars(owner).get(name, _ABSENT)
        setattr(owner, name, new)
        self._done.append((owner, name, before, vars(owner)[name]))

    def wrap(
        self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        """Put a function around a function or method.

        Args:
            owner: The class or module.
            name: The function; of a static or class method what it is made of is wrapped.
            make: Gets the original function and gives the one that stands in for it, which takes
                the same arguments, of a method its object first.
        """
        found = inspect.getattr_static(owner, name)
        is_bound = isinstance(found, staticmethod | classmethod)
        original = found.__func__ if is_bound else found
        stand_in = functools.wraps(original)(make(original))
        self.replace(owner, name, type(found)(stand_in) if is_bound else stand_in)

    def undo(self) -> None:
        """Put back exactly what was there.

        Where somebody has put a stand-in of their own around ours meanwhile, theirs stays, and ours
        in it: to take it out would take theirs out, too.
        """
        for part in self._parts:
            part.undo()
        while self._done:
            owner, name, before, after = self._done.pop()
            if vars(owner).get(name) is not after:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
