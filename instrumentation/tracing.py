"""A recording session: one run, from start to stop."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Self

from opentelemetry.trace import TracerProvider, get_tracer_provider

from fillpath.instrumentation import identity, recorder_metrics, session_settings, settings
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.forwarder_process import ForwarderProcess
from fillpath.instrumentation.light_tracer import LightTracerProvider
from fillpath.instrumentation.payload import clean_text, printed
from fillpath.instrumentation.provider_recorder import ProviderRecorder, exports_spans
from fillpath.instrumentation.recorder import Delivery, NoRecorder, Recorder
from fillpath.instrumentation.run_arrival import await_destination, await_lake
from fillpath.instrumentation.run_facts import RunFacts
from fillpath.instrumentation.run_names import take_run_name
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO
from fillpath.instrumentation.spool_writer import SpoolWriter
from fillpath.instrumentation.unrecorded_tracer import UnrecordedTracerProvider
from fillpath.instrumentation.writer_process import WRITER_MODULE, WriterProcess
from fillpath.instrumentation.zero_code import provider_set_up

_log = logging.getLogger(__name__)

Mode = Literal["backtest", "live"]
WriterMode = Literal["process", "inline", "none"]
Way = Literal["spool", "otel"]
_MOST_PORTFOLIOS: Final = 4096


class Tracing:
    """Records one run: a spool in this process, a writer beside it, a lake behind both.

    Use it as a context manager, or call `start` and `stop`. While it runs, `tracer` takes events.
    With recording switched off, all of it can be called as usual, and nothing is written. A child
    that the process forks does not record. Recording never raises into the host's handlers;
    starting and stopping a session say clearly what is wrong.

    In a script that `fillpath run` records already, a session becomes part of that one when it is
    started: its tracer is that one's, and to stop it stops nothing. Of its own arguments these
    count: `parameters`, `code_version` and `seed` are kept with the run, and while it runs
    `portfolio` is its, unless that has one.

    Args:
        run_id: Name of the run; ``FILLPATH_RUN_ID``, else a new one.
        data: Data folder; ``FILLPATH_DATA``, else the user's data directory.
        portfolio: Namespace of events whose engine names none; ``FILLPATH_PORTFOLIO``.
        mode: ``backtest`` or ``live``; ``FILLPATH_MODE``.
        service_name: Name of the program; ``OTEL_SERVICE_NAME``, else the script's name.
        parameters: What the run was started with; kept with the run.
        writer: ``process`` (a spawned one), ``inline`` (in this process, at the end) or ``none``
            (the spool waits for the next command that reads); ``FILLPATH_WRITER``.
        lake_sampling: ``all`` or ``policy``; ``FILLPATH_LAKE_SAMPLING``.
        delivery: ``lossless`` or ``live``, what to do when the spool is too far ahead of the writer
            (``FILLPATH_SPOOL_LIMIT``); ``FILLPATH_DELIVERY``, else as the mode is.
        way: ``spool``, or ``otel``: through the processors of an OpenTelemetry SDK, and to the lake
            only if one of their exporters is `ParquetSpanExporter`; ``FILLPATH_WAY``.
        provider: The SDK's provider for the way ``otel``; the global one when left out.
        otlp: What is sent to the endpoint that ``OTEL_EXPORTER_OTLP_*`` name: ``sampled`` (what the
            sampling policy keeps), ``all`` (what is in the lake) or ``off``; ``FILLPATH_OTLP``,
            else ``sampled`` if they name one. A process of its own sends it (with the writer
            ``inline`` once the run has ended, with ``none`` not at all).
        code_version: Version of the code; ``service.version`` of ``OTEL_RESOURCE_ATTRIBUTES``, else
            ``FILLPATH_CODE_VERSION``, else the git commit of the script's folder.
        seed: Seed of the run's random numbers; else the parameter ``seed`` or ``random_seed``.

    Raises:
        UsageError: When an argument is not one of its allowed values.
        FillpathError: From `start`, when the data folder cannot be written, the run exists or
            another is being recorded; from `stop`, when the run could not be brought into the lake.

    Attributes:
        takes_in_others: Whether sessions that are started while this one runs become part of it.
    """

    forked_from: ClassVar[Tracing | None] = None
    """In a forked child, the session of the process that it was forked from; it records nothing."""
    _active: ClassVar[Tracing | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(
        self,
        run_id: str | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        portfolio: str | None = None,
        mode: Mode | None = None,
        service_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        writer: WriterMode | None = None,
        lake_sampling: Literal["all", "policy"] | None = None,
        delivery: Delivery | None = None,
        way: Way | None = None,
        provider: TracerProvider | None = None,
        otlp: Literal["sampled", "all", "off"] | None = None,
        code_version: str | None = None,
        seed: int | str | None = None,
    ) -> None:
        environ = os.environ
        self.run_id = run_id or environ.get(settings.ENV_RUN_ID) or identity.new_run_id()
        if not identity.is_valid_run_id(self.run_id):
            raise UsageError(
                f"{self.run_id!r} cannot be a run id.",
                next_command="use 1 to 100 letters, digits, dots, dashes or underscores",
            )
        self.folder = settings.data_folder(data)
        self.portfolio = portfolio or environ.get(settings.ENV_PORTFOLIO) or DEFAULT_PORTFOLIO
        self.mode = session_settings.mode(mode)
        self.writer = session_settings.writer(writer)
        self.lake_sampling = session_settings.lake_sampling(lake_sampling)
        self.delivery = session_settings.delivery(delivery, self.mode)
        self.way = session_settings.way(way, has_provider=provider is not None)
        self._provider = provider
        self.otlp = session_settings.otlp(otlp)
        if self.way == "otel":
            self.otlp = "off"  # the SDK's exporters send it
        self._spool_limit = session_settings.spool_limit()
        self._trace_limit = session_settings.trace_limit()
        self._sync = session_settings.sync_seconds()
        self.service_name = clean_text(
            service_name
            or environ.get(settings.ENV_OTEL_SERVICE_NAME)
            or session_settings.program_name()
        )
        self._facts = RunFacts(parameters, code_version, seed)
        self.rollout = settings.rollout()
        self.enabled = self.rollout.takes_run(self.run_id)
        self._took_any = False
        self._before_stop: list[Callable[[], None]] = []
        self._tracer: EventTracer | None = None
        self._tracer_of_nothing = EventTracer(self.run_id, NoRecorder(), self.portfolio)
        self._tracer_of_nothing.stop()
        self._recorder: Recorder | None = None
        self._tracer_provider: TracerProvider | None = None
        self._clock_offset = 0
        self.takes_in_others = False
        self._own_portfolio = self.portfolio
        self._whole: Tracing | None = None
        """The session that this one is part of."""
        self._taken_in_by: Tracing | None = None
        """The same, also after this one has been stopped."""
        self._writer_process = WriterProcess(self.folder, self.run_id)
        self._forwarder = ForwarderProcess(self.folder, self.run_id, self.otlp)
        self._was_started = False

    @classmethod
    def active(cls) -> Tracing | None:
        """The session that is running in this process, if any."""
        return cls._active

    @classmethod
    def of_engine(cls, provider: TracerProvider | None = None) -> Tracing:
        """Make the session of an engine for which the host's code has started none.

        Its way is ``otel`` if `opentelemetry-instrument` has set up exporters, or one is named.

        Args:
            provider: The provider that the host has named for it.
        """
        found = provider or provider_set_up()
        takes_it = exports_spans(found) and not os.environ.get(settings.ENV_WAY)
        return cls(
            take_run_name(),
            way="otel" if takes_it else None,
            provider=found if takes_it else provider,
        )

    @property
    def running(self) -> bool:
        """Whether `start` was called, `stop` was not, and recording is switched on."""
        return self._tracer is not None or (self._whole is not None and self._whole.running)

    @property
    def tracer(self) -> EventTracer:
        """The tracer of this session; one that records nothing when recording is switched off.

        Raises:
            FillpathError: When the session is not running.
        """
        if not self.enabled:
            return self._tracer_of_nothing
        if self._whole is not None:
            return self._whole.tracer
        if self._tracer is None:
            raise FillpathError(
                f"The recording of run '{self.run_id}' is not running.",
                next_command="call Tracing.start(), or use it in a with statement",
            )
        return self._tracer

    @property
    def tracer_provider(self) -> TracerProvider:
        """OpenTelemetry's API as a way into this session: its spans are recorded like events.

        Hand it to `opentelemetry.trace.set_tracer_provider`. When recording is switched off, it
        gives tracers whose spans go nowhere.

        Raises:
            FillpathError: When the session is not running.
        """
        tracer = self.tracer
        if self._whole is not None:
            return self._whole.tracer_provider
        if self.enabled and self.way == "otel":
            return self._provider or get_tracer_provider()
        with Tracing._lock:
            if self._tracer_provider is None and not self.enabled:
                self._tracer_provider = UnrecordedTracerProvider()
            elif self._tracer_provider is None:
                provider = LightTracerProvider(tracer, self._clock_offset, flush=self.flush)
                self.before_stop(provider.shutdown)
                self._tracer_provider = provider
            return self._tracer_provider

    def start(self) -> Self:
        """Open the spool and begin to record. Does nothing when recording is switched off."""
        with Tracing._lock:
            if not self.enabled or self.running:
                return self
            self._whole = self._taken_in_by = None
            if Tracing._active is not None and Tracing._active.takes_in_others:
                self._become_part_of(Tracing._active)
                return self
            if Tracing._active is not None:
                raise FillpathError(
                    f"Run '{Tracing._active.run_id}' is being recorded in this process already.",
                    next_command="stop it first, or use Tracing.active()",
                )
            self._recorder = self._spooling() if self.way == "spool" else self._exporting()
            self._facts.written_by(self._recorder.note)
            recorder_metrics.observe(self._recorder)
            takes = lru_cache(_MOST_PORTFOLIOS)(self._takes) if self.rollout.portfolios else None
            self._tracer = EventTracer(
                self.run_id, self._recorder, self.portfolio, self._trace_limit, takes
            )
            Tracing._active = self
            self._was_started = True
            atexit.register(self._stop_at_exit)
            if self.writer == "inline":
                # pyarrow imports it when first used, which is refused once the process ends.
                importlib.import_module("concurrent.futures.thread")
        if self.way == "spool" and self.writer == "process":
            self._writer_process.start()
            if self.otlp != "off":
                self._forwarder.start()
        return self

    def _takes(self, portfolio: str) -> bool:
        taken = self.rollout.takes_portfolio(portfolio)
        self._took_any |= taken
        return taken

    def _spooling(self) -> Recorder:
        return Recorder(
            self._open_spool(),
            delivery=self.delivery,
            limit=self._spool_limit,
            expects_writer=self.writer == "process",
            sync_seconds=self._sync,
        )

    def _exporting(self) -> Recorder:
        provider = self._provider or get_tracer_provider()
        if not exports_spans(provider):
            raise FillpathError(
                "OpenTelemetry's SDK has no exporter to give spans to.",
                next_command="opentelemetry-instrument --traces_exporter otlp,fillpath_parquet …",
            )
        self._note_clock()
        return ProviderRecorder(provider, self._description(), delivery=self.delivery)

    def _become_part_of(self, whole: Tracing) -> None:
        self._whole = self._taken_in_by = whole
        self.run_id, self.folder = whole.run_id, whole.folder
        whole._facts.take_in(self._facts)
        if whole.portfolio == DEFAULT_PORTFOLIO:
            whole._call_portfolio(self.portfolio)
        self.portfolio = whole.portfolio
        self.mode, self.delivery, self.writer = whole.mode, whole.delivery, whole.writer
        self.way = whole.way
        self.otlp = whole.otlp
        for callback in self._before_stop:
            whole.before_stop(callback)
        self._before_stop = []

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What this session was started with."""
        return self._facts.parameters

    @property
    def code_version(self) -> str | None:
        """Version of the code, if it was given to this session."""
        return self._facts.own.get("code_version")

    def note_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Keep with the run what an engine was started with."""
        with Tracing._lock:
            (self if self._whole is None else self._whole)._facts.note_parameters(parameters)

    def note_backtest(
        self, portfolio: str, namespace: str, parameters: Mapping[str, Any] | None
    ) -> None:
        """Keep with the run what one of its backtests was made with.

        Args:
            portfolio: What `claim_portfolio` gave.
            namespace: What it was asked for. The parameters of the first backtest that asks for one
                are the run's as well.
            parameters: What the backtest was made with.
        """
        with Tracing._lock:
            whole = self if self._whole is None else self._whole
            whole._facts.note_backtest(portfolio, namespace, parameters)

    def _call_portfolio(self, namespace: str) -> None:
        """Have events whose engine names no portfolio belong to this one from now on."""
        self.portfolio = namespace
        if self._tracer is not None:
            self._tracer.call_portfolio(namespace)

    def _note_clock(self) -> None:
        self._clock_offset = time.time_ns() - time.perf_counter_ns()

    def _open_spool(self) -> SpoolWriter:
        self._note_clock()
        description = self._description()
        try:
            return SpoolWriter(
                self.folder.spool / self.run_id, description, is_synced=self._sync is not None
            )
        except OSError as error:
            raise FillpathError(
                f"The data folder {self.folder.path} cannot be written: {error.strerror or error}.",
                next_command=f"choose another with --data or {settings.ENV_DATA}",
            ) from error

    def note_engine(self, name: str, version: str) -> None:
        """Remember which engine is being traced; kept with the run, however it ends."""
        with Tracing._lock:
            (self if self._whole is None else self._whole)._facts.note_engine(name, version)

    def claim_portfolio(self, namespace: str) -> str:
        """Give an engine its portfolio namespace; one that is taken gets a number behind it.

        Two engines of one name, or one that is reset and run again, keep separate books.
        """
        with Tracing._lock:
            return (self if self._whole is None else self._whole)._facts.claim(namespace)

    def before_stop(self, callback: Callable[[], None]) -> None:
        """Call an adapter when the run ends, while it can still close its events."""
        (self if self._whole is None else self._whole)._before_stop.append(callback)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was recorded before this call has arrived; tells whether it has.

        It has when it is in the lake and, if the run is sent by OTLP, the destination has taken
        what is selected of it. Events that have not ended do not count. With the writer `inline` or
        `none` nothing is in the lake before the run has ended: the answer is False until then.

        Args:
            timeout: Seconds after which to give up; the answer is False then.
        """
        deadline = time.monotonic() + timeout
        if self._taken_in_by is not None:
            return self._taken_in_by.flush(timeout)
        if not self._was_started:
            return True
        place = None
        recorder = self._recorder
        if self.way == "otel":
            return not isinstance(recorder, ProviderRecorder) or recorder.force_flush(timeout)
        if recorder is not None:
            place = recorder.written(deadline)
            if place is None or self.writer != "process":
                return False
        folder = self.folder.spool / self.run_id
        if not await_lake(folder, place, deadline):
            return False
        return self.otlp == "off" or await_destination(folder, place, deadline)

    def stop(self, *, error: BaseException | None = None) -> None:
        """End the run and bring it into the lake.

        Args:
            error: What the host failed with; the run counts as Crashed then.

        Raises:
            FillpathError: When the run could not be brought into the lake; its spool is kept, and
                the next command that reads will try again.
        """
        if self._whole is not None:
            self._whole._call_portfolio(self._whole._own_portfolio)
            self._whole._facts.part_ended()
            self._whole = None
            return
        for callback in self._before_stop if self.running else ():
            try:
                callback()
            except Exception as failure:  # noqa: BLE001 - the host must not fail of its observer
                _log.warning("fillpath could not end a run in order: %r", failure)
        with Tracing._lock:
            tracer, recorder = self._tracer, self._recorder
            if tracer is None or recorder is None:
                return
            self._tracer = self._recorder = Tracing._active = None
            self._facts.written_by(None)
        atexit.unregister(self._stop_at_exit)
        tracer.stop()
        recorder.stop({**self._end(error), "sequences": tracer.last_sequence})
        recorder_metrics.end(recorder)
        self._forwarder.stop()
        if self.rollout.portfolios and not self._took_any:
            _log.warning(
                "Nothing of run '%s' was recorded: no event's portfolio fits %s=%s",
                self.run_id,
                settings.ENV_ENABLED,
                self.rollout,
            )
        if self.way == "otel":
            return
        if self.writer == "process":
            self._writer_process.wait()
        elif self.writer == "inline":
            importlib.import_module(f"{WRITER_MODULE}.writer").drain(self.folder, self.run_id)
            if self.otlp != "off":
                self._forwarder.spawn()

    def _end(self, error: BaseException | None) -> dict[str, Any]:
        return {
            "status": "Ended" if error is None else "Crashed",
            "ended_at": time.time_ns(),
            "error": error and clean_text(f"{type(error).__qualname__}: {printed(error)}", 4096),
            **self._facts.at_end(),
        }

    def _description(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "mode": self.mode,
            "service_name": self.service_name,
            "host_name": platform.node(),
            "pid": os.getpid(),
            "started_at": time.time_ns(),
            "clock_offset": self._clock_offset,
            "python": platform.python_version(),
            **self._facts.at_start(),
            "delivery": self.delivery,
            "way": self.way,
            "writer": self.writer,
            "lake": self.folder.lake_root,
            "lake_sampling": self.lake_sampling,
            "otlp": self.otlp,
            "sampling": EventSampler.from_environment().to_dict(),
        }

    def _stop_at_exit(self) -> None:
        # What Python has just printed because nobody caught it; at a prompt it may be long past.
        ended_by = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        try:
            self.stop(error=ended_by)
        except Exception as error:  # noqa: BLE001 - nobody is left to catch it
            _log.warning("%s", error)

    def _abandon(self) -> None:
        """Leave the run to the parent; this process is a forked child of it."""
        if self._tracer is not None:
            self._tracer.abandon()
        if isinstance(self._tracer_provider, LightTracerProvider):
            self._tracer_provider.abandon()
        self._tracer = self._recorder = None
        self._facts.written_by(None)
        self._was_started = False
        atexit.unregister(self._stop_at_exit)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, SystemExit) and not error.code:
            error = None  # sys.exit() or sys.exit(0): the program ended as it meant to
        try:
            self.stop(error=error)
        except Exception as failure:
            if error is None:
                raise
            _log.warning("%s", failure)


def _after_fork_in_child() -> None:
    # Any lock may be held for ever by a thread that is not here any more.
    Tracing._lock = threading.RLock()
    recorder_metrics.forget()
    session, Tracing._active = Tracing._active, None
    if session is not None:
        Tracing.forked_from = session
        session._abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
