"""What a worker process knows of the process that it works for, so that their runs belong together.

A forked worker finds it in the memory that it was forked with, one that was started by `spawn` or
`forkserver` is sent it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fillpath.instrumentation import run_names
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.tracing import Tracing


@dataclass(frozen=True, slots=True)
class WorkerOrigin:
    """What the runs of a worker take over.

    Attributes:
        run_id: The run that they are named after.
        data: The data folder.
        lake: Where its lake is, if that is not in it.
        portfolio: Namespace of events whose engine names none.
        service_name: Name of the program.
        mode: `backtest` or `live`.
        delivery: `lossless` or `live`.
        lake_sampling: `all` or `policy`.
        code_version: Version of the code, if somebody has named it.
    """

    sent: ClassVar[WorkerOrigin | None] = None
    """In a process that was started by `spawn` or `forkserver`: what it was sent."""

    run_id: str
    data: str
    lake: str | None
    portfolio: str
    service_name: str
    mode: str
    delivery: str
    lake_sampling: str
    code_version: str | None = None

    @classmethod
    def of_session(cls, session: Tracing) -> WorkerOrigin:
        """Make that of a session's workers."""
        return cls(
            session.run_id,
            str(session.folder.path),
            session.folder.lake_root,
            session.portfolio,
            session.service_name,
            session.mode,
            session.delivery,
            session.lake_sampling,
            session.code_version,
        )

    @classmethod
    def of_this_process(cls) -> WorkerOrigin:
        """Make that of workers which this process starts now.

        Raises:
            UsageError: No session runs, and a variable of the environment makes no sense.
        """
        active = Tracing.active()
        if active is None and (known := cls.known()) is not None:
            return known
        return cls.of_session(active or Tracing(run_names.of_workers()))

    @classmethod
    def known(cls) -> WorkerOrigin | None:
        """Give that of this process, if it is a worker that knows."""
        forked_from = Tracing.forked_from
        return cls.sent if forked_from is None else cls.of_session(forked_from)

    @property
    def folder(self) -> DataFolder:
        """The data folder."""
        return DataFolder(Path(self.data), self.lake)

    def session(self, run_id: str, parameters: Any = None) -> Tracing:
        """Make the session of one of a worker's runs; no writer is started for it."""
        session = Tracing(
            run_id,
            data=self.data,
            portfolio=self.portfolio,
            service_name=self.service_name,
            parameters=parameters,
            code_version=self.code_version,
            writer="none",
            way="spool",
            otlp="off",
        )
        session.folder, session.mode = self.folder, self.mode
        session.delivery, session.lake_sampling = self.delivery, self.lake_sampling
        return session
