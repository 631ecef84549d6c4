"""A script under the runner is the script that `python SCRIPT` runs, and is recorded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.spool_events import SpoolEvents
from fillpath.instrumentation.runner import main, run_script
from fillpath.instrumentation.spool import SpoolReader
from fillpath.instrumentation.tracing import Tracing

Writing = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Writing:
    def write(text: str, name: str = "a script.py") -> Path:
        path = tmp_path / "a folder" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def python(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings.pop("env", {})}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        **settings,
    )


def recorded(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    options = ("--run-id", "run", "--writer", "none")
    return python("-P", "-m", "fillpath.instrumentation", *options, *command, **settings)


def spool(run_id: str = "run") -> SpoolEvents:
    events = SpoolEvents()
    for block in SpoolReader(Path(os.environ["FILLPATH_DATA"]) / "spool" / run_id).blocks():
        list(events.feed(block))
    return events


def end_of(run_id: str = "run") -> dict[str, Any]:
    end = spool(run_id).end
    assert end is not None
    return end


LOOKS_AROUND = """
    import __main__, os, pickle, sys
    import beside
    class Order:
        pass
    assert pickle.loads(pickle.dumps(Order())).__class__ is Order is __main__.Order
    print(__name__, sys.argv, __file__, __spec__, __doc__, beside.VALUE)
    print(sys.path[0], "fillpath.instrumentation" in " ".join(sys.argv))
"""


@pytest.mark.smoke
def test_a_script_sees_what_it_would_see_without_us(script: Writing) -> None:
    path = script(LOOKS_AROUND)
    script("VALUE = 5", "beside.py")
    arguments = ("--", "--data", "x", "é", "", "-h")
    plain = python(path, *arguments)
    traced = recorded(path, *arguments)
    assert plain.stdout.startswith("__main__ [")
    assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, "", 0)
    # Also by a relative path.
    here = {"cwd": path.parent}
    assert recorded("--run-id", "r2", path.name, **here).stdout == python(path.name, **here).stdout
    run = spool().run
    assert run["service_name"] == "a script"
    assert run["parameters"] == {"script": "a script.py", "arguments": list(arguments)}
    assert end_of()["status"] == "Ended"


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("raise SystemExit", 0, "Ended"),
        ("import sys; sys.exit(0)", 0, "Ended"),
        ("import sys; sys.exit(7)", 7, "Crashed"),
        ("import sys; sys.exit('no data')", 1, "Crashed"),
        ("def f():\n    raise ValueError('no quote')\nf()", 1, "Crashed"),
        ("print(", 1, "Crashed"),
        ("import no_such_module", 1, "Crashed"),
    ],
)
def test_a_script_ends_as_it_would_without_us(
    script: Writing, text: str, code: int, status: str
) -> None:
    path = script(text)
    plain, traced = python(path), recorded(path)
    assert (traced.returncode, plain.returncode) == (code, code)
    assert traced.stderr == plain.stderr
    assert end_of()["status"] == status


PACKAGE = """
    import os, sys
    from inventory import VALUE
    class Order:
        pass
    import pickle
    assert pickle.loads(pickle.dumps(Order())).__class__ is Order
    print(__name__, sys.argv, __file__, __spec__.name, __package__, sys.path[0], VALUE)
"""


def test_a_module_sees_what_it_would_see_without_us(script: Writing) -> None:
    folder = script("VALUE = 5", "inventory.py").parent
    script(PACKAGE, "single.py")
    (folder / "whole").mkdir()
    for name in ("__main__", "part"):
        (folder / "whole" / f"{name}.py").write_text(textwrap.dedent(PACKAGE))
    for number, name in enumerate(("single", "whole", "whole.part")):
        arguments = ("-m", name, "--run-id", "x", "--", "-m", "")
        plain = python(*arguments, cwd=folder)
        assert plain.stdout.startswith("__main__ [")
        traced = recorded("--run-id", f"r{number}", *arguments, cwd=folder)
        assert (traced.stdout, traced.stderr, traced.returncode) == (plain.stdout, "", 0)
    run = spool("r2").run
    assert run["service_name"] == "whole.part"
    assert run["parameters"] == {"module": "whole.part", "arguments": list(arguments[2:])}


def test_a_module_that_is_none_is_told_of_before_there_is_a_run(script: Writing) -> None:
    folder = script("", "some.py").parent
    done = recorded("-m", "no_such_module", cwd=folder)
    assert done.returncode == 2
    assert "There is no module no_such_module to run" in done.stderr
    assert not Path(os.environ["FILLPATH_DATA"]).exists()
    assert recorded("-m", "some.part", cwd=folder).returncode == 2
    assert end_of()["status"] == "Crashed"


def test_a_module_that_fails_shows_its_own_frames_alone(script: Writing) -> None:
    path = script("def f():\n    raise ValueError('no quote')\nf()", "failing.py")
    here = {"cwd": path.parent}
    plain, traced = python("-m", "failing", **here), recorded("-m", "failing", **here)
    assert traced.returncode == plain.returncode == 1
    assert traced.stderr == re.sub(r"  File \"<frozen runpy>.*\n", "", plain.stderr)


FAILS_IN_A_HANDLER = """
    from fillpath.instrumentation import Tracing, TracedEventBus

    class Bus:
        handlers = []
        def subscribe(self, handler):
            self.handlers.append(handler)
        def publish(self, event):
            for handler in self.handlers:
                handler(event)

    def on_bar(event):
        raise ValueError("no quote")

    with Tracing():
        bus = Bus() if "plain" in __file__ else TracedEventBus(Bus())
        bus.subscribe(on_bar)
        bus.publish({"type": "BAR"})
"""


def test_frames_of_ours_are_left_out_of_what_a_script_fails_with(script: Writing) -> None:
    done = [
        recorded("--run-id", name, script(FAILS_IN_A_HANDLER, f"{name}.py"))
        for name in ("plain", "traced")
    ]
    plain, traced = (each.stderr for each in done)
    assert "no quote" in traced
    assert traced.replace("traced.py", "plain.py") == plain


SPAWNS = """
    import multiprocessing
    def double(number):
        return 2 * number
    if __name__ == "__main__":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(double, [1, 2]))
"""


def test_a_script_can_spawn_processes(script: Writing) -> None:
    path = script(SPAWNS, "spawning.py")
    done = recorded(path)
    assert (done.stdout, done.stderr) == ("[2, 4]\n", "")
    done = recorded("--run-id", "r2", "-m", "spawning", cwd=path.parent)
    assert (done.stdout, done.stderr) == ("[2, 4]\n", "")


PUBLISHES = """
    import threading, time
    from fillpath.instrumentation import Tracing
    def publish(name):
        with Tracing.active().tracer.event(name):
            pass
    publish("FIRST")
"""


def test_what_the_script_publishes_is_recorded(script: Writing) -> None:
    done = recorded("--portfolio", "fund/desk", "--mode", "live", script(PUBLISHES))
    assert done.returncode == 0, done.stderr
    assert [(c.portfolio, c.event_type) for c in spool().counts] == [("fund/desk", "FIRST")]
    assert spool().run["mode"] == "live"


RECORDS_ITSELF = """
    from fillpath.instrumentation import Tracing
    first = Tracing("own", portfolio="own/book", writer="none")
    ended = []
    with first as tracing:
        assert tracing is first and tracing.running
        assert tracing.tracer is Tracing.active().tracer and tracing.run_id == "run"
        assert tracing.tracer_provider is Tracing.active().tracer_provider
        tracing.note_engine("own", "1.0")
        tracing.before_stop(lambda: ended.append(1))
        assert tracing.claim_portfolio("p") == "p" and Tracing.active().claim_portfolio("p") != "p"
        with tracing.tracer.event("FIRST"):
            pass
    assert not first.running and not ended
    with Tracing() as second, Tracing() as third, third.tracer.event("SECOND"):
        assert second.tracer is third.tracer
    with Tracing.active().tracer.event("THIRD"):
        pass
    try:
        first.tracer
    except Exception as error:
        print(error)
"""


def test_a_script_that_records_itself_is_part_of_the_run(script: Writing) -> None:
    done = recorded("--portfolio", "fund/desk", script(RECORDS_ITSELF))
    assert (done.returncode, done.stderr) == (0, "")
    assert "is not running" in done.stdout
    assert [(count.portfolio, count.event_type) for count in spool().counts] == [
        ("fund/desk", kind) for kind in ("FIRST", "SECOND", "THIRD")
    ]
    assert spool().run["engine"] == "own"
    assert end_of()["status"] == "Ended"
    assert not (Path(os.environ["FILLPATH_DATA"]) / "spool" / "own").exists()


NAMES_ITS_BOOKS = """
    from fillpath.instrumentation import Tracing
    for book in ("fund/one", "fund/two"):
        with Tracing(portfolio=book, parameters={book: 1}) as tracing:
            assert tracing.portfolio == book
            tracing.tracer.emitter("FAST")(0)
            with tracing.tracer.event("SLOW"):
                pass
    with Tracing.active().tracer.event("AFTER"):
        pass
"""


def test_a_script_names_its_portfolio_where_the_command_names_none(script: Writing) -> None:
    done = recorded(script(NAMES_ITS_BOOKS))
    assert (done.returncode, done.stderr) == (0, "")
    found = {(site.portfolio, site.event_type) for site in spool().sites.values()}
    books = {(book, kind) for book in ("fund/one", "fund/two") for kind in ("FAST", "SLOW")}
    assert found == books | {("default", "AFTER")}
    assert end_of()["parameters"] == {"fund/one": 1, "fund/two": 1}


IS_KILLED = """
    import os, signal, time
    from fillpath.instrumentation import Tracing
    with Tracing(parameters={"fast": 10}, seed=7, code_version="v1") as tracing:
        tracing.tracer.emitter("BAR")(0)
        tracing.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_script_says_of_its_run_is_known_though_it_is_killed(script: Writing) -> None:
    assert recorded(script(IS_KILLED)).returncode != 0
    run = spool().run
    assert run["parameters"] == {"script": "a script.py", "arguments": [], "fast": 10}
    assert (run["seed"], run["code_version"]) == ("7", "v1")


def test_two_recordings_without_the_runner_are_an_error(script: Writing) -> None:
    done = python(script(RECORDS_ITSELF.replace("with first", "with Tracing('run'), first")))
    assert done.returncode == 1
    assert "Run 'run' is being recorded in this process already" in done.stderr


LEAVES_A_THREAD = """
    def later():
        time.sleep(0.2)
        publish("LATER")
    threading.Thread(target=later).start()
"""
LEAVES_A_POOL = """
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(2)
    pool.submit(lambda: (time.sleep(0.2), publish("LATER")))
"""


@pytest.mark.parametrize("rest", [LEAVES_A_THREAD, LEAVES_A_POOL], ids=["thread", "pool"])
@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)"], ids=["end", "exit"])
def test_a_thread_that_is_left_behind_is_still_recorded(
    script: Writing, rest: str, ending: str
) -> None:
    done = recorded(script(textwrap.dedent(PUBLISHES) + textwrap.dedent(rest) + ending))
    assert (done.returncode, done.stderr) == (0, "")
    assert {count.event_type for count in spool().counts} == {"FIRST", "LATER"}
    assert end_of()["status"] == "Ended"


def test_control_c_ends_the_run_and_the_script(script: Writing) -> None:
    path = script("import time\nprint('now', flush=True)\ntime.sleep(60)")
    command = [sys.executable, "-m", "fillpath.instrumentation", "--run-id", "run"]
    with subprocess.Popen(
        [*command, "--writer", "none", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
    assert end_of()["status"] == "Crashed"
    assert end_of()["error"].startswith("KeyboardInterrupt")


def test_one_control_c_that_arrives_twice_ends_the_run_in_order(script: Writing) -> None:
    # A group's signal reaches the script, and again through the command that started it.
    body = """
        import os, signal
        from fillpath.instrumentation import Tracing
        again = lambda: os.kill(os.getpid(), signal.SIGINT)
        Tracing.active().before_stop(again)
        again()
    """
    done = recorded(script(textwrap.dedent(body)))
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("Traceback") == 1
    assert end_of()["error"].startswith("KeyboardInterrupt")


def test_switched_off_the_script_runs_and_nothing_is_written(script: Writing) -> None:
    path = script("print('traded')")
    done = recorded(path, env={"FILLPATH_ENABLED": "false"})
    assert (done.stdout, done.returncode) == ("traded\n", 0)
    assert not Path(os.environ["FILLPATH_DATA"]).exists()


def exit_code_of(command: list[str]) -> Any:
    try:
        return main(command)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["no such.py"], 2, r"There is no script at no such\.py"),
        (["--run-id", "../x", "{script}"], 2, "cannot be a run id"),
        (["--mode", "paper", "{script}"], 2, "invalid choice"),
        (["--data", "{script}", "{script}"], 1, "cannot be written"),
        ([], 2, "required: script"),
    ],
)
def test_a_command_that_makes_no_sense(
    script: Writing,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    code: int,
    message: str,
) -> None:
    path = str(script("print('traded')"))
    given = ["--writer", "none", *(each.replace("{script}", path) for each in command)]
    assert exit_code_of(given) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err)
    assert "Traceback" not in captured.err


def test_the_process_is_left_as_it_was(script: Writing, tmp_path: Path) -> None:
    argv, path = sys.argv, list(sys.path)
    main_module = sys.modules["__main__"]
    tracing = Tracing("here", data=tmp_path / "data", writer="none")
    with pytest.raises(ValueError, match="host"):
        run_script(str(script("raise ValueError('host')")), ["x"], tracing)
    assert sys.argv is argv
    assert sys.path == path
    assert sys.modules["__main__"] is main_module
    assert Tracing.active() is None


def test_engines_that_are_known_are_instrumented_meanwhile(script: Writing, tmp_path: Path) -> None:
    pytest.importorskip("nautilus_trader")
    from fillpath.instrumentation.nautilus import NautilusInstrumentor

    path = script(
        """
        from fillpath.instrumentation.nautilus import NautilusInstrumentor
        assert NautilusInstrumentor().is_instrumented_by_opentelemetry
        """
    )
    run_script(str(path), [], Tracing("here", data=tmp_path / "data", writer="none"))
    assert not NautilusInstrumentor().is_instrumented_by_opentelemetry
