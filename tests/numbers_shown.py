"""Finds every number that a report shows in its tables and cards, and names its place.

A place is the section, the table, the row and the column, in the words of the page. What is no
figure is left out: names, trace ids, commands, and the ranks of a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "rect", "path", "use", "input", "hr"}
# Parts of a cell that are names or ways to a trace, or said to a screen reader only.
# Figures of a definition, the same on every page.
FIXED = re.compile(r"95 % interval|\b9[05]th|\b99th|rate is 0|from 0\b|holds 0|6 horizons")
# Columns that tell rows apart, besides the first.
NAMES = {"Portfolio", "Symbol", "Strategy", "Of"}
# Tables that are lists: a row is called by its place.
LISTS = ("Costliest orders", "The chains that took longest", "Deepest drawdowns")
NO_FIGURES = {
    "title",
    "code",
    "name",
    "trace",
    "evidence",
    "unseen",
    "copy",
    "viewer",
    "rank",
    "picked",
    "plots",
}
NUMBER = re.compile(
    r"[+\u2212]?\d[\d,]*(?:-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?)?)?(?:\.\d+)?"
    r"(?:[\u202f\u00a0](?:%|ns|µs|ms|s|min|h|d)(?![a-z]))?"
)


@dataclass(frozen=True, order=True)
class Place:
    """Where a figure stands."""

    section: str
    table: str
    row: str
    column: str


class Text(str):
    """Text, and where in the page it begins."""

    __slots__ = ("at",)
    at: int


@dataclass(eq=False)
class Node:
    """An element of the page."""

    tag: str
    attributes: dict[str, str]
    parent: Node | None
    content: list[Node | str]

    def find(self, *tags: str) -> Iterator[Node]:
        """The elements of these kinds below it, in order, none inside another of them."""
        for part in self.content:
            if isinstance(part, Node):
                if part.tag in tags:
                    yield part
                else:
                    yield from part.find(*tags)

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    def words(self, without: frozenset[str] = frozenset()) -> str:
        """Its text, without elements of some classes; a break is a blank."""
        return " ".join(self._text(without).split(" ")).strip()

    def texts(self, without: frozenset[str]) -> Iterator[Text]:
        """Its texts, as `words` joins them."""
        for part in self.content:
            if isinstance(part, Text):
                yield part
            elif isinstance(part, Node) and part.is_read(without):
                yield from part.texts(without)

    def is_read(self, without: frozenset[str]) -> bool:
        """Whether it is words, and none of some classes or kinds."""
        return self.tag not in {"script", "svg"} and not ({self.tag} | self.classes) & without

    def _text(self, without: frozenset[str]) -> str:
        text = ""
        for part in self.content:
            if isinstance(part, str):
                text += re.sub(r"[ \n]+", " ", part)
            elif not part.is_read(without):
                text += " "
            else:
                text += part._text(without) + (" " if part.tag in {"br", "span", "p"} else "")
        return text


class Page(HTMLParser):
    """The page as a tree."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self._open = Node("", {}, None, [])
        self._lines = [0, *(one.end() for one in re.finditer("\n", text))]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self._open, [])
        self._open.content.append(node)
        if tag not in VOID:
            self._open = node

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self._open.parent is not None:
            self._open = self._open.parent

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        line, column = self.getpos()
        text = Text(data)
        text.at = self._lines[line - 1] + column
        self._open.content.append(text)


def figures_of(text: str) -> list[str]:
    """The numbers and times in a text."""
    return NUMBER.findall(FIXED.sub("", text.replace("\u202f%", "\u202f%")))


def _is_measured(figure: str) -> bool:
    """Whether it has a unit; a row may be called by a month, an hour, or "12 others"."""
    return "-" in figure or any(one.isalpha() or one == "%" for one in figure)


def numbers_shown(page: str) -> dict[Place, list[str]]:
    """Every figure in the tables, cards and words of a report."""
    return {place: figures for place, (figures, _) in _noted(page).items()}


def digits_shown(page: str) -> list[tuple[Place, int]]:
    """Where in the page each digit of these figures is."""
    return [
        (place, text.at + one.start())
        for place, (_, node) in _noted(page).items()
        for text in node.texts(frozenset(NO_FIGURES))
        for one in re.finditer(r"\d", FIXED.sub(lambda fixed: " " * len(fixed[0]), text))
    ]


def _noted(page: str) -> dict[Place, tuple[list[str], Node]]:
    found: dict[Place, tuple[list[str], Node]] = {}

    def note(section: str, table: str, row: str, column: str, node: Node) -> None:
        figures = figures_of(node.words(frozenset(NO_FIGURES)))
        if not figures:
            return
        table, row = (re.sub(" +", " ", words).strip() for words in (table, row))
        place, number = Place(section, table, row, column), 1
        while place in found:  # another table of the same words
            number += 1
            place = Place(section, f"{table} #{number}", row, column)
        found[place] = (figures, node)

    parts = list(Page(page).root.find("section", "header"))
    for part in [*parts, *(inner for outer in parts for inner in outer.find("section"))]:
        section = part.attributes.get("id", part.tag)
        if section != "appendix":  # definitions have the same figures on every page
            _of_section(part, section, note)
    return found


def _of_section(part: Node, section: str, note: object) -> None:
    assert callable(note)
    heading = ""
    for node in part.find("h3", "table", "dl", "p", "summary", "figcaption", "section"):
        if node.tag == "h3":
            heading = node.words()
            note(section, "", without_figures(heading), "heading", node)
        elif node.tag == "table":
            _of_table(node, section, heading, note)
        elif node.tag == "dl" and "definitions" not in node.classes:
            for pair in node.find("div"):
                (term,), (value,) = pair.find("dt"), pair.find("dd")
                note(section, heading, "", term.words(), value)
        elif section != "header" and node.tag not in {"dl", "section"}:
            _of_words(node, section, heading, note)


def _of_words(node: Node, section: str, heading: str, note: object) -> None:
    """What a paragraph, the line of what is folded, or the words below a chart say."""
    assert callable(note)
    assert node.parent is not None
    if "result" in node.classes:
        note(section, heading, "", "result", node)
    elif "trace-tree" in node.parent.classes:
        if node.tag == "summary":
            note(section, heading, node.parent.attributes["id"], "took", node)
    elif node.parent.tag != "noscript":
        words = without_figures(node.words(frozenset(NO_FIGURES)))
        note(section, heading, first_words(words), node.tag, node)


def first_words(text: str) -> str:
    """By which a paragraph is called."""
    return re.sub(" +", " ", text)[:50].strip()


def without_figures(text: str) -> str:
    """A text with a sign for each of its figures."""
    return NUMBER.sub("#", text)


def _of_table(table: Node, section: str, heading: str, note: object) -> None:
    assert callable(note)
    caption = next((one.words() for one in table.find("caption")), heading)
    if section == "signals":  # each name has the same tables
        caption = f"{heading}: {caption}"
    rows = list(table.find("tr"))
    columns = [head.words(frozenset({"unseen"})) for head in rows[0].find("th")]
    for number, row in enumerate(rows[1:]):
        cells = list(row.find("th", "td"))
        name = cells[0].words(frozenset({"rank", "unseen"}))
        names = [
            cell.words()
            for cell, column in zip(cells[1:], columns[1:], strict=False)
            if column in NAMES
        ]
        key = " · ".join([name, *names])
        if {"trades"} & table.classes or caption.startswith(LISTS):
            key = f"#{number + 1}"
            note(section, caption, key, columns[0], cells[0])
        elif any(map(_is_measured, figures_of(cells[0].words(frozenset(NO_FIGURES))))):
            note(section, caption, key, columns[0], cells[0])
        for cell, column in zip(cells[1:], columns[1:], strict=True):
            note(section, caption, key, column, cell)
