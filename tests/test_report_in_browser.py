"""The report in a real browser: drawn, readable, silent, and deaf to what names ask of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fillpath.analytics.report import write_report
from fillpath.analytics.report_format import timestamp

sys.path.append(str(Path(__file__).parent))

from headless_chromium import Browser, a_browser
from report_sample import hostile, sample

FIGURES = "[...document.querySelectorAll('figure')].map(figure => figure.dataset.chart)"
PLOTS = """[...document.querySelectorAll('.plot svg')].map(svg =>
  [svg.querySelectorAll('path, rect, line').length > 5, svg.getBoundingClientRect().width > 250])"""
# Contrast of every text with what is behind it, by WCAG 2: what falls short of AA.
TOO_FAINT = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest('script, style, .unseen, [hidden]')) continue;
    const style = getComputedStyle(element);
    const ink = parts(element.closest('svg') ? style.fill : style.color);
    let behind = element;
    while (behind && (parts(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) {
      behind = behind.parentElement;
    }
    const [a, b] = [light(ink), light(parts(getComputedStyle(behind).backgroundColor))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push([element.className, element.textContent.slice(0, 40), ratio]);
  }
  return faint;
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_report(sample(), folder / "report.html")


@pytest.fixture(scope="module")
def running_browser(folder: Path) -> Iterator[Browser]:
    with a_browser(folder / "profile") as browser:
        yield browser


@pytest.fixture
def browser(running_browser: Browser) -> Browser:
    running_browser.complaints.clear()
    running_browser.requests.clear()
    return running_browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_charts_are_drawn_without_a_complaint_or_a_request(
    browser: Browser, page: Path, dark: bool
) -> None:
    browser.open(page, dark=dark)
    assert browser.run(FIGURES) == ["drawn"] * 6
    assert browser.run(PLOTS) == [[True, True]] * 8
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(252, 252, 250)")
    browser.run("for (const more of document.querySelectorAll('details')) more.open = true")
    assert browser.run(TOO_FAINT) == []
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


@pytest.mark.parametrize("width", [400, 900])
def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.run("for (const more of document.querySelectorAll('details')) more.open = true")
    assert browser.run("window.innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(FIGURES) == ["drawn"] * 6


def test_a_chart_answers_the_pointer_with_exact_figures_and_the_trace(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    x, y = browser.run(
        """(() => {
          const plot = document.querySelector('.plot');
          plot.scrollIntoView({behavior: 'instant', block: 'center'});
          const box = plot.getBoundingClientRect();
          return [box.x + box.width * 0.7, box.y + box.height / 2];
        })()"""
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x - 3, y=y)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser.until("!document.getElementById('tip').hidden")
    moment = browser.run("document.querySelector('#tip dd').textContent")
    points = {timestamp(point.time): point for point in sample().equity[0].points}
    shown = browser.run("document.querySelectorAll('#tip dd')[1].textContent")
    assert shown == f"{points[moment].balance:,.2f} USD"
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert browser.until("!document.querySelector('.picked').hidden")
    picked = browser.run("document.querySelector('.picked [data-copy]').dataset.copy")
    assert picked == f"fillpath --data ./.fillpath trace show {points[moment].trace_id}"
    assert browser.complaints == []


def test_a_link_to_a_trace_opens_its_tree(browser: Browser, page: Path) -> None:
    browser.open(page)
    tree = f"document.getElementById('trace-{sample().largest_trades[4].exit_trace_id}')"
    assert browser.run(f"{tree}.open") is False
    browser.run(f"document.querySelector(`a[href='#${{{tree}.id}}']`).click()")
    assert browser.until(f"{tree}.open")
    assert browser.complaints == []


def test_copying_says_what_was_copied(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('[data-copy]').click()")
    assert browser.until("document.getElementById('announce').textContent !== ''")


def test_printing_opens_every_tree(browser: Browser, page: Path) -> None:
    browser.open(page)
    closed = "document.querySelectorAll('details:not([open])').length"
    before = browser.run(closed)
    assert before > 10
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(closed) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(closed) == before


def test_hostile_names_are_drawn_as_text(browser: Browser, folder: Path) -> None:
    data = hostile(sample())
    page = write_report(data, folder / "hostile.html")
    browser.open(page, width=400)
    assert browser.run(FIGURES) == ["drawn"] * 6
    assert (
        browser.run("document.querySelectorAll('img, iframe, object, [onmouseover]').length") == 0
    )
    assert browser.run("document.scripts.length") == 8
    assert browser.run("document.documentElement.scrollWidth") == 400
    shown = browser.run("document.querySelector('h1 .name').textContent")
    assert shown == data.run.run_id
    browser.run("document.querySelectorAll('button').forEach(button => button.click())")
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, folder: Path) -> None:
    page = write_report(sample(), folder / "tampered.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<script>document.title = 'ran'</script></main>"))
    browser.open(page)
    assert browser.run("document.title") != "ran"
    assert "Content Security Policy" in " ".join(browser.complaints)
