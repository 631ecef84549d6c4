"""The demo, and the parts that only it uses."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from fillpath.analytics import demo
from fillpath.analytics.pnl_table import PnlLine, draw_pnl, pnl_lines, totals
from fillpath.analytics.progress import Progress
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.report_format import MINUS
from fillpath.analytics.results_loading import reconciliation_words
from fillpath.analytics.trade_choice import choose_trade
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import MissingExtra, NotFound

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, Market

D = Decimal
START = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"


def drawn(lines: list[PnlLine], width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(draw_pnl(lines))
    return out.getvalue()


AMOUNTS = [
    ("fund/a", "One", "USD", "realized", D("10.10")),
    ("fund/a", "One", "USD", "commission", D("-0.30")),
    ("fund/a", "Two", "USD", "realized", D("0.205")),
    ("fund/a", "Two", "USD", "rounding", D("-0.005")),
    ("fund/b", "One", "USD", "unrealized", D("-1000000.01")),
]


def test_profit_adds_up_exactly() -> None:
    lines = pnl_lines(AMOUNTS)
    (everything,) = totals(lines)
    assert everything.total == sum(amount for *_, amount in AMOUNTS) == D("-999990.01")
    assert [line.total for line in lines] == [D("9.80"), D("0.200"), D("-1000000.01")]
    table = drawn(lines)
    assert "Profit and loss in USD" in table
    rows = {line.split()[0]: line.split()[-1] for line in table.splitlines()[3:] if line.strip()}
    assert rows["fund/a"] == "10.00"
    assert rows["all"] == f"{MINUS}999,990.01"
    assert "other" in table


def test_currencies_are_never_added() -> None:
    lines = pnl_lines([*AMOUNTS[:2], ("fund/a", "One", "JPY", "realized", D(7))])
    assert {line.currency: line.total for line in totals(lines)} == {"USD": D("9.80"), "JPY": D(7)}
    table = drawn(lines)
    assert "in USD" not in table
    assert re.search(r"JPY +7 ", table)


def test_a_run_without_profit_is_no_error() -> None:
    assert totals([]) == []
    assert "Profit and loss" in drawn([])


def test_hostile_names_are_text_in_the_table() -> None:
    table = drawn(pnl_lines([(HOSTILE, HOSTILE, "USD", "realized", D(1))]), width=200)
    assert "\x1b[31m" not in table
    assert "[red]<script>\\x1b[31m\\u202e" in table


def reconciliation(status: ReconciliationStatus, difference: str = "0") -> AccountReconciliation:
    return AccountReconciliation(
        "fund/a", "XNAS-1", "CASH", "USD", status, start=D(1), end=D("1124764.72"),
        difference=D(difference), notes=("A fill is missing.",),
    )  # fmt: skip


def test_what_does_not_reconcile_says_so() -> None:
    holds, words = reconciliation_words(reconciliation(ReconciliationStatus.RECONCILED))
    assert holds
    assert words == "fund/a XNAS-1: 1,124,764.72 USD equals the engine's own balance"
    holds, words = reconciliation_words(reconciliation(ReconciliationStatus.FAILED, "-0.01"))
    assert not holds
    assert f"off by {MINUS}0.01" in words
    assert "A fill is missing." in words


def test_the_trade_that_is_shown_goes_from_bar_over_signal_to_fill(tmp_path: Path) -> None:
    with Tracing("run", data=tmp_path, writer="inline") as tracing:
        plain = Market(tracing, strategy="Silent-1")
        submitted, named = plain.order(plain.bar("50"), "BUY", "1")
        plain.fill(submitted, named, "50")
        market = Market(tracing, fills=10, orders=10)
        market.trade()
        market.finish()
        plain.finish()
    with EventStore(tmp_path).connect() as connection:
        trace = choose_trade(connection, "run")
    (focus,) = [node for node in trace.chains[0].nodes() if node.focus]
    assert focus.span.fill_id == "F-11"
    kinds = [above.span.event_type for above in focus.ancestors()]
    assert kinds[-1] == "BAR"
    assert "SIGNAL" in kinds


def test_a_run_without_signals_still_shows_a_fill(tmp_path: Path) -> None:
    with Tracing("run", data=tmp_path, writer="inline") as tracing:
        market = Market(tracing)
        submitted, named = market.order(market.bar("50"), "BUY", "1")
        market.fill(submitted, named, "50")
        market.finish()
    with Tracing("empty", data=tmp_path, writer="inline") as tracing:
        market = Market(tracing)
        market.bar("50")
        market.finish()
    with EventStore(tmp_path).connect() as connection:
        assert choose_trade(connection, "run").target.value == "F-1"
        with pytest.raises(NotFound):
            choose_trade(connection, "empty")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    present = find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "gym_anytrading" else present(name, *rest),
    )
    with pytest.raises(MissingExtra, match=r"\(missing: gym-anytrading\)") as raised:
        demo._require_extra()
    assert raised.value.extra == "demo"


def test_progress_is_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    with progress.step("Working") as step:
        step.finish("Worked")
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"Working …\n✔ Worked  \d+\.\d s\n", said.err)


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    for module in demo._NEEDED:
        pytest.importorskip(module)
    environment: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if name != "FILLPATH_DATA"
    }
    return subprocess.run(
        [sys.executable, "-P", "-c", START, *options, "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.full
def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = run_demo(folder)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    for part in ("BAR", "SIGNAL", "FILL", "demo/equities", "demo/fx", "TrendFollower"):
        assert part in done.stdout
    assert done.stdout.count("equals the engine's own balance") == 2
    assert "✘" not in done.stdout
    assert "DEMO-EQUITIES" not in done.stdout  # the script's own output is not the demo's
    paths = dict(re.findall(r"^(Report|Lake) +(.+)$", done.stdout, re.MULTILINE))
    report, lake = (folder / paths[name] for name in ("Report", "Lake"))
    assert report.is_file()
    assert report.parent.parent == lake.parent == folder / ".fillpath"
    commands = re.findall(r"^  (fillpath --data .+)$", done.stdout, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = [word for word in shlex.split(command)[1:] if word != "--open"]
        tried = subprocess.run(
            [sys.executable, "-P", "-c", START, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tried.returncode == 0, (command, tried.stderr)
        assert tried.stdout

    again = run_demo(folder, "--json", "--data", ".fillpath")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["run_id"].startswith("demo-")
    assert Path(document["report"]).is_file()
    assert {account["status"] for account in document["accounts"]} == {"reconciled"}
    total = sum(D(line["total"]) for line in document["profit_and_loss"])
    assert f"{total:,.2f}" in done.stdout  # the same backtest, the same profit
    assert len(EventStore(folder / ".fillpath").run_records()) == 2
