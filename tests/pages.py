"""A strict reader of report pages: what a browser would forgive, or a screen reader stumble over, is an error."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

VOID = {"meta", "wbr", "br", "hr", "img", "input", "link"}
LANDMARKS = ("header", "nav", "main", "footer")


class Page(HTMLParser):
    """Reads a page; ``problems`` are what is wrong with it.

    Attributes:
        elements: Name, attributes, and names of the elements around it, of every element.
        text: All text, without style sheets.
    """

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, Any], tuple[str, ...]]] = []
        self.problems: list[str] = []
        self.text = ""
        self._open: list[str] = []
        if not html.startswith("<!DOCTYPE html>\n"):
            self.problems.append("no doctype")
        self.feed(html)
        self.close()
        if self._open:
            self.problems.append(f"never closed: {self._open}")
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if len(dict(attrs)) < len(attrs):
            self.problems.append(f"an attribute twice in <{tag}>")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "svg" not in self._open:
            self.problems.append(f"<{tag}/> outside of svg")
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing, or something else, at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, Any]]:
        """Attributes of all elements of one name."""
        return [attrs for name, attrs, _ in self.elements if name == tag]

    def _check(self) -> None:
        ids = [attrs["id"] for _, attrs, _ in self.elements if "id" in attrs]
        self._expect(len(ids) == len(set(ids)), f"ids are not unique: {sorted(ids)}")
        for name, attrs, around in self.elements:
            for key in ("aria-labelledby", "aria-describedby"):
                self._expect(attrs.get(key, ids[0]) in ids, f"{key} of <{name}> points nowhere")
            for key in ("href", "xlink:href"):
                place = attrs.get(key, f"#{ids[0]}")
                beside = key == "href" and re.fullmatch(r"(runs|final)/[^:#]+/report\.html", place)
                self._expect(place[1:] in ids or beside, f"{place} leads out of the page")
            for found in re.findall(r"url\(#([^)]*)\)", " ".join(str(value) for value in attrs.values())):
                self._expect(found in ids, f"url(#{found}) points nowhere")
            self._expect("src" not in attrs, f"<{name}> loads something")
            self._expect(not any(key.startswith("on") for key in attrs), f"<{name}> runs something")
            self._expect(name != "th" or attrs.get("scope") in ("col", "row"), "a th without scope")
            self._expect(name != "svg" or attrs.get("role") == "img", "an svg that is no image")
            self._expect(name != "svg" or "figure" in around, "an svg outside of a figure")
        self._expect(not {"script", "link", "iframe", "object", "img"} & {name for name, *_ in self.elements}, "loads")
        self._expect(self.named("html")[0].get("lang") == "en", "no language")
        for name in LANDMARKS:
            self._expect(len(self.named(name)) == 1, f"not one <{name}>")
        levels = [int(name[1]) for name, *_ in self.elements if re.fullmatch("h[1-6]", name)]
        self._expect(levels[0] == 1 and levels.count(1) == 1, f"not one h1, first: {levels}")
        self._expect(all(after - before <= 1 for before, after in pairwise(levels)), f"{levels}")
        for outer, inner in (("table", "caption"), ("figure", "figcaption"), ("svg", "title"), ("svg", "desc")):
            inside = [1 for name, _, around in self.elements if name == inner and around and around[-1] == outer]
            self._expect(len(inside) == len(self.named(outer)), f"not every {outer} has its {inner}")
        self._expect(not re.search(r"https?:|//", " ".join(str(attrs) for _, attrs, _ in self.elements)), "a URL")

    def _expect(self, right: bool, problem: str) -> None:
        if not right:
            self.problems.append(problem)


def read_page(html: str) -> Page:
    """Read a page, which must be without fault."""
    page = Page(html)
    assert page.problems == []
    return page
