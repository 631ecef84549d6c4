"""What one check of `fillpath doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

Outcome = Literal["passed", "failed", "skipped", "warning"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the doctor's findings.

    Args:
        area: What it is about: installation, data folder, spool, lake or Postgres.
        outcome: `skipped` is for what is not there and need not be, `warning` for what is lost and
            known to be.
        finding: What was found, in a few words.
        advice: The next command, or what else to do.
        facts: What the finding tells, for programs.
    """

    area: str
    outcome: Outcome
    finding: str
    advice: str | None = None
    facts: dict[str, Any] | None = None

    @classmethod
    def passed(cls, area: str, finding: str, advice: str | None = None) -> Self:
        """Give the result of a check that holds."""
        return cls(area, "passed", finding, advice)

    @classmethod
    def failed(cls, area: str, finding: str, advice: str | None = None) -> Self:
        """Give the result of a check that does not hold."""
        return cls(area, "failed", finding, advice)

    @classmethod
    def skipped(cls, area: str, finding: str, advice: str | None = None) -> Self:
        """Give the result of a check of something that is not there and need not be."""
        return cls(area, "skipped", finding, advice)

    @classmethod
    def warned(cls, area: str, finding: str, advice: str | None = None) -> Self:
        """Give the result of a check that holds, but found that something was lost."""
        return cls(area, "warning", finding, advice)
