"""A run's report in a notebook: a card that is safe, keeps to itself, and saves the whole page."""

from __future__ import annotations

import sys
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from fillpath.analytics import ResultsManager, RunReport, report_of
from fillpath.analytics.report_notebook import MOST_ROWS
from fillpath.instrumentation.errors import MissingExtra, NotFound

sys.path.append(str(Path(__file__).parent))

from headless_chromium import a_browser
from recorded_market import record_market
from report_sample import hostile, sample

# What a notebook's page does to the tables in it.
HOST = """<style>
.output table { font-size: 40px; color: red; border-collapse: separate; }
.output td, .output th { background: #f0f; padding: 40px; }
p { margin: 50px; }
</style>"""


def test_the_card_of_a_run_shows_its_figures_and_saves_its_page(tmp_path: Path) -> None:
    record_market(tmp_path, "run-1", trades=3)
    report = report_of("run-", data=tmp_path)
    assert isinstance(report, RunReport)
    card = report._repr_html_()
    assert "<b>6</b> fills" in card
    assert "Trend-1" in card
    assert "<polyline" in card
    assert report.save(tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype")
    with pytest.raises(NotFound):
        report_of("no-such-run", data=tmp_path)
    assert ResultsManager is not None


def test_a_card_has_few_rows_and_no_script() -> None:
    data = sample()
    rows = tuple(
        replace(data.pnl_by_strategy[0], strategy=f"Strategy {number}") for number in range(40)
    )
    card = RunReport(replace(data, pnl_by_strategy=rows))._repr_html_()
    assert card.count('<th scope="row">') == MOST_ROWS + len(data.pnl_totals)
    assert f"{40 - MOST_ROWS} more strategies included" in card
    assert "<script" not in card
    assert "on" + "click" not in card
    assert "http" not in card


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fillpath.analytics.report_environment", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match="report"):
        RunReport(sample())._repr_html_()


def test_a_card_keeps_to_itself_in_a_browser(tmp_path: Path) -> None:
    for name, data in (("plain", sample()), ("hostile", hostile(sample()))):
        card = RunReport(data)._repr_html_()
        inside = f"<!doctype html><meta charset=utf-8>{HOST}<div class=output>{card}</div>"
        inside += "<table id=after><tr><td>host</td></tr></table>"
        done = "<script>document.documentElement.dataset.charts = 'done'</script>"
        page = tmp_path / f"{name}.html"
        frame = f'<iframe srcdoc="{escape(inside)}" width=900 height=900></iframe>'
        text = f"<!doctype html><meta charset=utf-8>{frame}{done}"
        page.write_text(text, encoding="utf-8", errors="replace")
    with a_browser(tmp_path / "profile") as browser:
        for name in ("plain", "hostile"):
            browser.open(tmp_path / f"{name}.html")
            inner = "document.querySelector('iframe').contentDocument"
            assert browser.until(f"{inner}.querySelector('polyline') !== null")
            style = f"getComputedStyle({inner}.querySelector('#after ~ *, [id^=fillpath] td'))"
            assert browser.run(f"{style}.padding") == "3.52px 0px 3.52px 12.8px"
            assert browser.run(f"{style}.backgroundColor") == "rgba(0, 0, 0, 0)"
            assert browser.run(f"{style}.fontSize") == "13px"
            after = f"getComputedStyle({inner}.querySelector('#after td'))"
            assert browser.run(f"{after}.padding") == "1px"
            counted = f"{inner}.querySelectorAll('script, img, iframe, [onmouseover]').length"
            assert browser.run(counted) == 0
        assert browser.complaints == []
        assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []
