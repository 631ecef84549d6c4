"""The report in a real browser: drawn, readable, silent, and deaf to what names ask of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from fillpath.analytics.report import write_report
from fillpath.analytics.report_format import timestamp

sys.path.append(str(Path(__file__).parent))

from headless_chromium import Browser, a_browser
from report_sample import HOSTILE, hostile, sample, trade_rows, with_sections

TEMPLATES = Path(__file__).parent.parent / "analytics" / "templates"
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


# Every trade, and what is sorted


@pytest.fixture(scope="module")
def trades_page(folder: Path) -> Path:
    return write_report(with_sections(sample()), folder / "trades.html")


ROWS = "document.querySelectorAll('#all-trades tbody tr')"
NETS = f"""[...{ROWS}].map(row => row.cells[6].querySelector('.amount').textContent)"""


def press(browser: Browser, key: str, text: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        given = {"text": text} if text and kind == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, **given)


def test_the_first_trades_are_drawn_as_the_page_has_them_without_its_script(
    browser: Browser, trades_page: Path, folder: Path
) -> None:
    text = trades_page.read_text(encoding="utf-8")
    plain = folder / "plain.html"
    plain.write_text(text[: text.rindex("<script>")] + text[text.rindex("</script>") :])
    words = f"[...{ROWS}].slice(0, 20).map(row => row.innerText.replace(/\\s+/g, ' '))"
    browser.open(trades_page)
    drawn = browser.run(words)
    browser.call("Page.navigate", url=plain.as_uri())
    assert browser.until(f"{ROWS}.length === 20 && document.readyState === 'complete'")
    assert browser.run(words) == drawn


def test_all_trades_are_paged_sorted_and_filtered(browser: Browser, trades_page: Path) -> None:
    browser.open(trades_page)
    rows = trade_rows(300)
    assert browser.run(f"{ROWS}.length") == 50
    head = "document.querySelector('#all-trades [data-sort=net]')"
    browser.run(f"{head}.querySelector('button').focus()")
    press(browser, "Enter", "\r")
    assert browser.until(f"{head}.ariaSort === 'descending'")
    best = sorted((row["net"] for row in rows), reverse=True)
    assert browser.run(NETS) == [money(net) for net in best[:50]]
    press(browser, "Enter", "\r")
    assert browser.run(f"{head}.ariaSort") == "ascending"
    assert browser.run(NETS) == [money(net) for net in sorted(best)[:50]]

    browser.run("document.querySelector('#all-trades .pager button:last-child').click()")
    assert browser.run(NETS) == [money(net) for net in sorted(best)[250:]]
    matches = "document.querySelector('#all-trades .matches').textContent"
    assert browser.run(matches) == "251 to 300 of 300"

    press(browser, "/", "/")
    assert browser.run("document.activeElement.name") == "text"
    browser.call("Input.insertText", text="goog short")
    wanted = [row for row in rows if row["symbol"] == "GOOG" and row["direction"] == "SHORT"]
    assert browser.run(matches).endswith(f"of {len(wanted)} that match, of 300")
    choose = """(name, value) => {
      const select = document.querySelector(`#all-trades select[name=${name}]`);
      select.value = [...select.options].find(one => one.textContent === value).value;
      select.dispatchEvent(new Event('input', {bubbles: true}));
    }"""
    browser.run(f"({choose})('result', 'losses')")
    lost = [row for row in wanted if row["net"] < 0]
    assert browser.run(matches).endswith(f"of {len(lost)} that match, of 300")
    browser.run("document.querySelector('#all-trades [type=reset]').click()")
    assert browser.until(f"{matches}.endsWith('of 300')")
    browser.run(f"({choose})('strategy', 'Strategy-3')")
    of_one = [row for row in rows if row["strategy"] == "Strategy-3"]
    assert browser.run(matches).endswith(f"of {len(of_one)} that match, of 300")
    assert browser.complaints == []
    assert browser.requests == [trades_page.as_uri()]


def money(amount: Decimal) -> str:
    sign = "\N{MINUS SIGN}" if amount < 0 else "+" if amount else ""
    return f"{sign}{abs(amount):,.2f}"


def test_breakdowns_are_sorted_by_their_heads(browser: Browser, trades_page: Path) -> None:
    browser.open(trades_page)
    table = "document.querySelector('#attribution table.sortable')"
    names = f"[...{table}.tBodies[0].rows].map(row => row.cells[0].innerText)"
    assert browser.run(names) == ["Trend", "Mean", "Pairs"]
    button = f"[...{table}.tHead.querySelectorAll('button')]"
    browser.run(f"{button}.find(one => one.textContent === 'Total').click()")
    assert browser.run(names) == ["Pairs", "Mean", "Trend"]
    browser.run(f"{button}[0].click()")
    assert browser.run(names) == ["Mean", "Pairs", "Trend"]
    assert browser.run(f"{table}.tFoot.rows[0].cells[0].innerText") == "Total"


@pytest.mark.parametrize(("dark", "width"), [(False, 400), (True, 1280)])
def test_sections_fit_and_are_readable(
    browser: Browser, trades_page: Path, dark: bool, width: int
) -> None:
    browser.open(trades_page, width=width, dark=dark)
    browser.run("for (const more of document.querySelectorAll('details')) more.open = true")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_FAINT) == []


def test_hostile_names_of_trades_and_breakdowns_are_text(browser: Browser, folder: Path) -> None:
    # Postgres has no NUL and no half of a surrogate pair.
    names = [name.replace("\0", "").replace("\ud83d", "") for name in HOSTILE]
    data = with_sections(hostile(sample()), trades=60, names=names)
    page = write_report(data, folder / "hostile_trades.html")
    browser.open(page, width=400)
    assert browser.run("document.querySelectorAll('img, iframe, [onmouseover]').length") == 0
    shown = set(browser.run(f"[...{ROWS}].map(row => row.querySelector('.name').textContent)"))
    assert {name.strip() for name in names if "\x07" not in name} <= {one.strip() for one in shown}
    assert browser.run("document.documentElement.scrollWidth") == 400
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


HEADS_THAT_LAP = """[...document.querySelectorAll('.figures thead .name')].filter(name =>
  name.getBoundingClientRect().width > name.closest('th').getBoundingClientRect().width).length"""


def test_long_names_stay_in_the_heads_of_their_columns(browser: Browser, folder: Path) -> None:
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    heads = f"<th scope=col><bdi class=name>{'fund/desk/book-' * 6}</bdi></th>" * 3
    table = f"<table class=numbers><thead><tr><th>Figure</th>{heads}</tr></thead></table>"
    page = folder / "heads.html"
    page.write_text(
        f"<!doctype html><html data-charts=done><style>{css}</style>"
        f"<main><div class=figures>{table}</div></main></html>",
        encoding="utf-8",
    )
    browser.open(page, width=800)
    assert browser.run("document.querySelectorAll('.figures thead .name').length") == 3
    assert browser.run(HEADS_THAT_LAP) == 0


def test_twenty_thousand_trades_are_quick(browser: Browser, folder: Path) -> None:
    page = write_report(with_sections(sample(), trades=20_000), folder / "many.html")
    assert page.stat().st_size < 3_000_000
    browser.open(page)
    head = "document.querySelector('#all-trades [data-sort=net] button')"
    browser.run("globalThis.begun = performance.now()")
    browser.run(f"{head}.click(); globalThis.taken = performance.now() - begun")
    taken = browser.run("taken")
    assert taken < 1_000
    assert browser.run(f"{ROWS}.length") == 50


# What colours tell


# Viénot, Brettel and Mollon, 1999: what a deuteranope sees of a colour, linear RGB.
DEUTERANOPE = ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0))


def lightness_apart(one: str, other: str) -> float:
    """How far apart two colours are for a deuteranope: CIE76 in Lab, of which 10 is plain."""

    def lab(colour: str) -> tuple[float, float, float]:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        rgb = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        seen = [sum(w * v for w, v in zip(row, rgb, strict=True)) for row in DEUTERANOPE]
        matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
        white = (0.9505, 1.0, 1.089)
        xyz = [
            max(0.0, sum(w * v for w, v in zip(row, seen, strict=True))) / white[n]
            for n, row in enumerate(matrix)
        ]
        x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
        return 116 * y - 16, 500 * (x - y), 200 * (y - z)

    return math.dist(lab(one), lab(other))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_differ_for_the_colour_blind(
    browser: Browser, trades_page: Path, dark: bool
) -> None:
    browser.open(trades_page, dark=dark)
    value = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
    told_apart = (
        ("positive-bar", "negative-bar"),
        ("positive-bar", "series-1"),
        ("negative-bar", "series-1"),
        ("positive", "negative"),
        ("tone-fill", "tone-alarm"),
    )
    distances = {
        pair: lightness_apart(*(browser.run(value.format(name)) for name in pair))
        for pair in told_apart
    }
    assert min(distances.values()) > 20, distances
