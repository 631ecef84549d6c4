"""What all engines' instrumentors have in common: attach when the engine is there, let go exactly.

`instrument()` imports nothing of an engine. Once the host has imported it, what is to be patched is
looked for first; if something is missing, the engine is left as it is.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import weakref
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any, ClassVar

import wrapt
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from fillpath.instrumentation import spawned_workers
from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.settings import recording_enabled
from fillpath.instrumentation.tracing import Tracing
from fillpath.instrumentation.worker_runs import is_worker, of_this_process

_log = logging.getLogger(__name__)


class EngineInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]  # no types
    """Traces the runs of one engine.

    Without a running `Tracing` session, the first run starts one with the settings of the
    environment; it ends with the process. Its events go through OpenTelemetry's SDK if
    `opentelemetry-instrument` has set it up with exporters, or `instrument(tracer_provider=...)`
    names a provider; else to a spool. In a worker process of an optimisation each run of the
    engine is recorded as a run of its own.

    A release of the engine outside of the tested ones gets one warning. It is traced if it has all
    that is patched, and else left alone.

    Attributes:
        engine: Name of the engine, as its makers write it; kept with the run.
        distribution: Its name on the package index.
        tested: The versions that this is tested with, as a specifier.
        trigger: The module whose import brings in all that is patched.
        probes: By module, the dotted names of all that is patched or relied upon.
    """

    engine: ClassVar[str]
    distribution: ClassVar[str]
    tested: ClassVar[str]
    trigger: ClassVar[str]
    probes: ClassVar[Mapping[str, Collection[str]]]

    _attached = False
    _declined = False
    _patches: Patches | None = None
    _provider: Any = None
    _warned: ClassVar[set[tuple[str, str]]] = set()

    @abstractmethod
    def attach(self, patches: Patches) -> None:
        """Patch the engine, which is imported and has all of the `probes`."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """The engine, in any version: `instrument` judges that itself."""
        return (self.distribution,)

    def instrument(self, **kwargs: Any) -> None:
        """Attach to the engine, now or as soon as it is imported.

        Args:
            kwargs: ``tracer_provider``, OpenTelemetry's, for events to go through its SDK; and what
                every instrumentor takes.
        """
        if self._attached and self.is_instrumented_by_opentelemetry and not kwargs:
            return  # a script that records itself, under `fillpath run`: nothing to warn of
        super().instrument(**kwargs)
        if not self._attached and recording_enabled():
            self._is_instrumented_by_opentelemetry = False  # it was refused

    def _instrument(self, **kwargs: Any) -> None:
        self._provider = kwargs.get("tracer_provider")
        self._declined = False
        self._patches = None
        self._runs: weakref.WeakSet[EngineRun] = weakref.WeakSet()
        self._attached = recording_enabled()
        if not self._attached:
            return
        if self.version:  # else it is not installed, or says so only by being imported
            self._warn_of_version()
        wrapt.register_post_import_hook(self._attach, self.trigger)
        if self._attached:  # else it was there, and was refused
            spawned_workers.carry(self)

    def _warn_of_version(self) -> None:
        version = self.version
        with contextlib.suppress(InvalidVersion):
            if SpecifierSet(self.tested).contains(version, prereleases=True):
                return
        if (self.engine, version) not in self._warned:
            self._warned.add((self.engine, version))
            _log.warning(
                "fillpath is tested with %s %s; %s is installed, and is traced as far as it is "
                "built alike.",
                self.distribution,
                self.tested,
                version or "an unknown version",
            )

    @property
    def version(self) -> str:
        """The engine's version that is installed; empty when it does not say."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return ""

    def _attach(self, _: Any) -> None:
        """Take hold of the engine, which has just been imported. The import must not fail of us."""
        if not self._attached or self._patches is not None:
            return
        self._warn_of_version()
        patches = Patches()
        try:
            missing = self._missing()
            if missing:
                self._refuse(f"it has no {', '.join(missing)}")
                return
            self.attach(patches)
        except Exception as error:  # noqa: BLE001 - the host imports its engine, whatever we do
            patches.undo()
            self._refuse(repr(error))
            return
        self._patches = patches

    def _missing(self) -> list[str]:
        missing = []
        for module, names in self.probes.items():
            try:
                home: Any = importlib.import_module(module)
            except ImportError:
                missing.append(module)
                continue
            for name in names:
                found = home
                for part in name.split("."):
                    found = getattr(found, part, None)
                if found is None:
                    missing.append(f"{module}.{name}")
        return missing

    def _refuse(self, why: str) -> None:
        self._attached = self._is_instrumented_by_opentelemetry = False
        spawned_workers.carry_no_more(self)
        _log.warning(
            "fillpath does not trace %s %s: %s. It is tested with %s.",
            self.distribution,
            self.version,
            why,
            self.tested,
        )

    def _uninstrument(self, **_: Any) -> None:
        self._attached = False
        spawned_workers.carry_no_more(self)
        for run in self._runs:
            run.active = False
        if self._patches is not None:
            self._patches.undo()
            self._patches = None

    def session(self) -> Tracing | None:
        """Give the session that records the next run of the engine, if one does.

        Raises:
            FillpathError: When it cannot be started.
        """
        with Tracing._lock:  # engines of several threads begin at one time, in one session
            active = Tracing.active()
            if active is not None or self._declined or not self._attached:
                return active if self._attached else None
            session = Tracing.of_engine(self._provider).start()
            # Else every engine would draw the run's lot anew.
            self._declined = not session.running
        return session if session.running else None

    @contextlib.contextmanager
    def recorded_run(
        self, *, parameters: Mapping[str, Any] | None = None, namespace: str | None = None
    ) -> Iterator[EngineRun | None]:
        """Record what the engine does in the body.

        Args:
            parameters: What the strategy is run with; kept with the recorded run. Of several runs
                in one session each keeps its own, and those of the first are the session's.
            namespace: Portfolio namespace; by default the session's. Further runs in one session
                get a number behind it.

        Yields:
            What takes the engine's events; None when nothing is recorded.
        """
        begun = self._begin(parameters, namespace)
        if begun is None:
            yield None
            return
        run, joined = begun
        error: BaseException | None = None
        try:
            yield run
        except BaseException as raised:
            error = raised
            raise
        finally:
            run.active = False
            if joined is not None:
                of_this_process.leave(joined, error)

    def _begin(
        self, parameters: Mapping[str, Any] | None, namespace: str | None
    ) -> tuple[EngineRun, Tracing | None] | None:
        """Start recording; also gives the worker's session if the run has joined that."""
        joined = None
        try:
            session, is_own = self.session_to_join()
            joined = session if is_own else None
            run = None if session is None else self._run_in(session, parameters, namespace)
        except Exception as error:  # noqa: BLE001 - the engine runs, whatever we do
            run = None
            if (self.engine, str(error)) not in self._warned:  # a sweep has thousands of runs
                self._warned.add((self.engine, str(error)))
                _log.warning("A run of %s goes untraced: %s", self.engine, error)
        if run is None:
            if joined is not None:
                of_this_process.leave(joined)
            return None
        self._runs.add(run)
        return run, joined

    def session_to_join(self) -> tuple[Tracing | None, bool]:
        """Give the session of the next run of the engine, and whether the run has joined it.

        That is so in a worker process, where the session ends when all have left that joined it.

        Raises:
            FillpathError: When it cannot be started.
        """
        with Tracing._lock:
            active = Tracing.active()
            is_free = active is None or of_this_process.is_own(active)
            if not (self._attached and is_free and is_worker()):
                return self.session(), False
            session = of_this_process.join()
            return session, session is not None

    def _run_in(
        self, session: Tracing, parameters: Mapping[str, Any] | None, namespace: str | None
    ) -> EngineRun | None:
        wanted = namespace or session.portfolio
        if not session.rollout.takes_portfolio(wanted):
            return None
        session.note_engine(self.engine, self.version)
        portfolio = session.claim_portfolio(wanted)
        session.note_backtest(portfolio, wanted, parameters)
        return EngineRun(session, portfolio)
