"""What is known of a run besides its events: parameters, code, seed, engines, backtests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fillpath.instrumentation.code_version import find_code_version
from fillpath.instrumentation.payload import clean_text, printed, snapshot
from fillpath.instrumentation.run_notes import backtest_key

Note = Callable[[dict[str, Any]], None]


class RunFacts:
    """The facts of one run, in the words of its spool (docs/spool-format.md).

    What becomes known while the run goes on is written down at once: it may be killed before it
    ends.

    Args:
        parameters: What the run was started with.
        code_version: Version of its code; looked for when left out.
        seed: Seed of its random numbers, if that is known.

    Attributes:
        parameters: What the run was started with.
        own: The version of the code and the seed, as far as they were given.
        engines: Versions of the engines that are traced, by name.
    """

    def __init__(
        self, parameters: Mapping[str, Any] | None, code_version: str | None, seed: Any
    ) -> None:
        self.parameters: dict[str, Any] = snapshot(parameters or {})
        self.own = {
            key: printed(value, 4096)
            for key, value in (("code_version", code_version), ("seed", seed))
            if value is not None
        }
        self.engines: dict[str, str] = {}
        self._later_parameters: dict[str, Any] = {}
        self._later: dict[str, str] = {}
        self._part_parameters: dict[str, Any] = {}
        self._backtests = 0
        self._noted: set[str] = set()
        self._namespaces: dict[str, int] = {}
        self._write: Note | None = None

    def written_by(self, note: Note | None) -> None:
        """Say what writes down what becomes known from now on; None ends it."""
        self._write = note
        if self.engines:
            self._note(self._engine())

    def _note(self, facts: dict[str, Any]) -> None:
        if self._write is not None:
            self._write(facts)

    def take_in(self, part: RunFacts) -> None:
        """Keep what a session knows that has become part of this run."""
        self._part_parameters = part.parameters
        self._later_parameters |= part.parameters
        self._later |= part.own
        self._note_later()
        for name, version in part.engines.items():
            self.note_engine(name, version)

    def part_ended(self) -> None:
        """Note that the session has ended that `take_in` took in."""
        self._part_parameters = {}

    def note_engine(self, name: str, version: str) -> None:
        """Keep which engine is traced."""
        self.engines[name] = version
        self._note(self._engine())

    def note_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Keep what an engine was started with, as parameters of the run."""
        if parameters:
            self._later_parameters |= snapshot(parameters)
            self._note_later()

    def note_backtest(
        self, portfolio: str, namespace: str, parameters: Mapping[str, Any] | None
    ) -> None:
        """Keep what one of several backtests was made with; the first one's are the run's as well.

        Args:
            portfolio: Where its events are.
            namespace: The portfolio that it asked for: several that asked for one are comparable.
            parameters: What it was made with, beside what a session says that has become part.
        """
        parameters = self._part_parameters | snapshot(parameters or {})
        if not parameters or portfolio in self._noted:  # an engine may run on
            return
        self._noted.add(portfolio)
        if portfolio == namespace:
            self._later_parameters = parameters | self._later_parameters
            self._note_later()
        self._backtests += 1
        about = {"portfolio": portfolio, "namespace": namespace, "parameters": parameters}
        # One key each: a note replaces what was noted under its key, and a loop may be long.
        self._note({backtest_key(self._backtests): about})

    def claim(self, namespace: str) -> str:
        """Give an engine its portfolio: the namespace, with a number behind it if that is taken."""
        number = self._namespaces.get(namespace, 0) + 1
        self._namespaces[namespace] = number
        return namespace if number == 1 else f"{namespace}/{number}"

    def _note_later(self) -> None:
        if self._later_parameters or self._later:
            self._note({"parameters": self.parameters | self._later_parameters, **self._later})

    def _engine(self) -> dict[str, str | None]:
        known = {
            "engine": ", ".join(self.engines) or None,
            "engine_version": ", ".join(filter(None, self.engines.values())) or None,
        }
        return {key: text and clean_text(text, 4096) for key, text in known.items()}

    def at_start(self) -> dict[str, Any]:
        """Say what is known before anything has happened; looks for the version of the code."""
        found = None if "code_version" in self.own else find_code_version()
        return {
            "parameters": self.parameters,
            **({} if found is None else {"code_version": clean_text(found, 4096)}),
            **self.own,
        }

    def at_end(self) -> dict[str, Any]:
        """Say what has become known."""
        return {
            **({"parameters": self._later_parameters} if self._later_parameters else {}),
            **self._later,
            **self._engine(),
        }
