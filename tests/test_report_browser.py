"""Reports in a real browser: they load nothing, run nothing, and fit on a phone."""

from __future__ import annotations

import html
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import BROWSER, QUIET, needs_browser
from helpers import make_recipe
from report_samples import run_facts, write_comparison

from nlp_transfer.report.comparison import comparison_page, read_comparison
from nlp_transfer.report.run import run_page

WIDTHS = {"phone": 375, "desk": 1200}

# Each page stands in a frame of its own, with the width of a screen; the frame can be looked into from outside, where
# scripts may run.
LOOK = """<!DOCTYPE html><meta charset="utf-8"><body>%s<pre id="found"></pre><script>
function look(frame) {
  const inside = frame.contentDocument, root = inside.documentElement;
  const wide = [...inside.querySelectorAll("main *, header *, footer *")].filter(
    (one) => !one.closest(".scroll") && !one.closest("pre") && !one.closest(".skip") &&
      one.getBoundingClientRect().right > root.clientWidth + 1);
  return {
    width: root.clientWidth, scrolls: root.scrollWidth, mode: inside.compatMode, wide: wide.map((one) => one.outerHTML),
    resources: frame.contentWindow.performance.getEntriesByType("resource").length,
    figures: [...inside.querySelectorAll("figure svg")].map((one) => one.getBoundingClientRect()),
    text: [...inside.querySelectorAll("figure svg text")].map((one) => one.getBoundingClientRect().height),
    verdict: inside.querySelector(".verdict").getBoundingClientRect(),
    colour: frame.contentWindow.getComputedStyle(inside.querySelector("svg text")).fill,
  };
}
addEventListener("load", () => {
  const frames = [...document.querySelectorAll("iframe")];
  document.getElementById("found").textContent = JSON.stringify(frames.map(look));
});
</script>"""

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What a browser makes of each page on each screen."""
    folder = tmp_path_factory.mktemp("browser")
    comparison = write_comparison(folder / "comparison", make_recipe(folder / "run", Path("some/encoder")))
    pages = {
        "run": run_page(run_facts()),
        "entities": run_page(run_facts(marked=True)),
        "comparison": comparison_page(replace(read_comparison(comparison), run=run_facts())),
    }
    keys = [(page, screen) for page in pages for screen in WIDTHS]
    frames = [
        f'<iframe width="{WIDTHS[screen]}" height="800" style="border:0" srcdoc="{html.escape(pages[page])}"></iframe>'
        for page, screen in keys
    ]
    (folder / "look.html").write_text(LOOK % "\n".join(frames), encoding="utf8")
    command = [str(BROWSER), *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "look.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout)
    assert found is not None, done.stderr
    return dict(zip(keys, json.loads(html.unescape(found[1])), strict=True))


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("page", ["run", "entities", "comparison"])
def test_a_report_fits_and_shows(page: str, screen: str, seen: dict[tuple[str, str], dict[str, Any]]) -> None:
    found = seen[page, screen]
    assert found["mode"] == "CSS1Compat"
    assert found["wide"] == []
    assert found["scrolls"] <= found["width"] <= WIDTHS[screen]
    assert found["resources"] == 0
    assert found["verdict"]["top"] >= 0 and found["verdict"]["bottom"] < 450  # seen without scrolling
    assert len(found["figures"]) == (12 if page == "comparison" else 10)
    for box in found["figures"]:
        assert 250 <= box["width"] <= 480 and box["height"] >= 60
    assert min(found["text"]) >= 10  # pixels
    assert found["colour"] == "rgb(27, 31, 36)"  # the page's colours reach into the figures
