"""The page of the service in a real browser: it answers, explains, loads nothing from elsewhere, fits on a phone."""

from __future__ import annotations

import contextlib
import html
import json
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from browsers import BROWSER, QUIET, needs_browser
from services import running
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from nlp_transfer.serving import page
from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.explaining import Question
from nlp_transfer.serving.schema import EntitiesAnswer, LabelAnswer
from nlp_transfer.serving.settings import ServiceLimits

WIDTHS = {"phone": 375, "desk": 1200}
SENTENCE = "🙂 Anna <b>visited</b> Oslo & the very-long-unbreakable-" + "x" * 60 + "."
SPANS = [("Anna", "PER"), ("Oslo", "LOC")]


def labelled(texts: Sequence[str], score: float = 0.75) -> list[dict[str, Any]]:
    probabilities = {"positive": score, "a label with a rather long name": 1 - score}
    return [{"text": text, "label": "positive", "score": score, "probabilities": probabilities} for text in texts]


def tagged(texts: Sequence[str], spans: Sequence[tuple[str, str]] = SPANS) -> list[dict[str, Any]]:
    def entities(text: str) -> list[dict[str, Any]]:
        places = [(text.index(word), word, label) for word, label in spans]
        return [
            {"text": word, "label": label, "start": at, "end": at + len(word), "score": 0.9}
            for at, word, label in places
        ]

    return [{"text": text, "words": [], "entities": entities(text)} for text in texts]


def explained(question: Question) -> dict[str, Any]:
    weights = {"Anna": 1.5, "visited": -0.75, "Oslo": 0.01}
    words = [
        {
            "word": word,
            "start": question.text.index(word),
            "end": question.text.index(word) + len(word),
            "weight": weight,
        }
        for word, weight in weights.items()
    ]
    label = question.label or f"tag at {question.at}"
    return {
        "text": question.text, "label": label, "at": question.at, "words": words, "rest": 0.0, "log_odds": 0.76,
        "base_log_odds": 0.0, "gap": 0.0,
    }  # fmt: skip


SERVICES = {
    "text": Service(
        "reviews", labelled, LabelAnswer, ["positive"], twin=lambda texts: labelled(texts, 0.6), explain=explained
    ),
    "tags": Service("news", tagged, EntitiesAnswer, ["PER"], twin=lambda texts: tagged(texts, []), explain=explained),
}

# The page itself may stand in nobody's frame; here it does, with the width of a screen, and is used from outside.
DRIVE = """<!DOCTYPE html><meta charset="utf-8"><body>%s<pre id="found"></pre><script>
const text = %s;
async function until(condition) {
  for (let turn = 0; turn < 400 && !condition(); turn++) await new Promise((done) => setTimeout(done, 25));
  if (!condition()) throw new Error("never: " + condition);
}
function box(inside, name) { return inside.querySelector(name).getBoundingClientRect(); }
async function use(frame) {
  const inside = frame.contentDocument, root = inside.documentElement, shown = (id) => inside.getElementById(id);
  shown("text").value = text;
  shown("answer").click();
  await until(() => shown("twin").querySelector(".said, .passage") && !shown("answer").disabled);
  const answered = shown("status").textContent;
  shown("explain").click();
  await until(() => shown("why").querySelector(".words"));
  const wide = [...inside.querySelectorAll("body *")].filter(
    (one) => !one.closest(".skip") && one.getBoundingClientRect().right > root.clientWidth + 1);
  const words = [...inside.querySelectorAll("#why .words span")];
  const found = {
    answered, kept: shown("kept").innerText, twin: shown("twin").innerText, why: shown("why").innerText,
    words: words.map((one) => [one.textContent, one.className, one.title]),
    marks: [...inside.querySelectorAll("mark")].map((one) => one.textContent),
    passage: inside.querySelector(".passage").textContent, made: inside.querySelectorAll("main b").length,
    width: root.clientWidth, scrolls: root.scrollWidth, wide: wide.map((one) => one.outerHTML.slice(0, 200)),
    buttons: [...inside.querySelectorAll("button, select")].map((one) => one.getBoundingClientRect().height),
    beside: Math.abs(box(inside, "#kept").top - box(inside, "#twin").top) < 5,
    bars: [...inside.querySelectorAll(".bar span")].map((one) => one.getBoundingClientRect().width),
    unnamed: [...inside.querySelectorAll("textarea, input, select, button")].filter(
      (one) => !one.labels.length && !one.getAttribute("aria-label") && !one.textContent).length,
    resources: frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name),
  };
  shown("text").value = "x".repeat(20001);
  shown("answer").click();
  await until(() => !shown("problem").hidden);
  found.refused = [shown("problem").textContent, shown("text").value.length];
  shown("text").value = text;
  frame.contentWindow.fetch = () => Promise.reject(new Error("down"));
  shown("answer").click();
  await until(() => shown("problem").textContent !== found.refused[0]);
  found.problem = shown("problem").textContent;
  return found;
}
addEventListener("load", async () => {
  const result = [];
  try {
    for (const frame of document.querySelectorAll("iframe")) result.push(await use(frame));
    document.getElementById("found").textContent = JSON.stringify(result);
  } catch (error) {
    document.getElementById("found").textContent = JSON.stringify(String(error.stack || error));
  }
});
</script>"""


def harness(keys: Sequence[tuple[str, str]]) -> Starlette:
    """An application with all services below paths of their own, and a page that holds their pages in frames."""
    apps = {name: build_app(service, ServiceLimits()) for name, service in SERVICES.items()}
    frames = "\n".join(
        f'<iframe width="{WIDTHS[screen]}" height="900" style="border:0" src="/{name}/framed"></iframe>'
        for name, screen in keys
    )

    async def drive(request: Any) -> Response:
        return HTMLResponse(DRIVE % (frames, json.dumps(SENTENCE).replace("<", "\\u003c")))

    def framed(name: str) -> Any:
        values = {"name": name, "labels": [name], "protected": False, "twin": True, "explains": True}
        text = page.render("page.html", limits=ServiceLimits(), **values)
        policy = page.HEADERS["Content-Security-Policy"].replace("frame-ancestors 'none'", "frame-ancestors 'self'")

        async def show(request: Any) -> Response:
            return HTMLResponse(text, headers={"Content-Security-Policy": policy})

        return show

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for inner in apps.values():
                await stack.enter_async_context(inner.router.lifespan_context(inner))
            yield

    routes = [Route("/", drive), *(Route(f"/{name}/framed", framed(name)) for name in apps)]
    return Starlette(routes=[*routes, *(Mount(f"/{name}", app) for name, app in apps.items())], lifespan=lifespan)


KEYS = [(name, screen) for name in SERVICES for screen in WIDTHS]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What a person would see of each page on each screen."""
    with running(harness(KEYS)) as found:
        command = [str(BROWSER), *QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--dump-dom"]
        done = subprocess.run([*command, found.url], capture_output=True, text=True, timeout=120, check=True)
    written = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert written is not None, done.stdout[-2000:] + done.stderr
    pages = json.loads(html.unescape(written[1]))
    assert isinstance(pages, list), pages
    return dict(zip(KEYS, pages, strict=True))


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("name", SERVICES)
def test_the_page_fits_and_loads_nothing_from_elsewhere(name: str, screen: str, seen: dict[Any, Any]) -> None:
    found = seen[name, screen]
    assert found["wide"] == []
    assert found["scrolls"] <= found["width"] <= WIDTHS[screen]
    assert found["beside"] == (screen == "desk")
    assert min(found["buttons"]) >= 40  # pixels: for a finger
    assert found["unnamed"] == 0
    own = {"page.css", "page.js", "predict", "twin", "explain"}
    assert {url.rpartition("/")[2] for url in found["resources"]} == own
    assert all(f"/{name}/" in url and "127.0.0.1" in url for url in found["resources"])


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("screen", WIDTHS)
def test_labels_are_shown_beside_those_of_the_twin(screen: str, seen: dict[Any, Any]) -> None:
    found = seen["text", screen]
    assert found["answered"] == "Answered."
    assert "positive" in found["kept"] and "75.0 %" in found["kept"] and "25.0 %" in found["kept"]
    assert "60.0 %" in found["twin"]
    wide, narrow = found["bars"][:2]
    assert wide == pytest.approx(3 * narrow, abs=2)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("screen", WIDTHS)
def test_entities_are_marked_and_the_text_stays_text(screen: str, seen: dict[Any, Any]) -> None:
    found = seen["tags", screen]
    assert found["marks"] == ["AnnaPER", "OsloLOC"]
    assert found["passage"] == SENTENCE.replace("Anna", "AnnaPER").replace("Oslo", "OsloLOC")
    assert found["made"] == 0  # no element of the text's
    assert "no entities" in found["twin"]
    assert f"tag at {SENTENCE.index('Anna')}" in found["why"]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("name", SERVICES)
def test_words_that_mattered_are_told_by_more_than_colour(name: str, seen: dict[Any, Any]) -> None:
    found = seen[name, "phone"]
    assert found["words"] == [["Anna", "for", "+1.50"], ["visited", "against", "−0.75"], ["Oslo", "little", "+0.01"]]
    assert re.search(r"visited\s+against\s+−0.75", found["why"])
    assert "+0.76 with the text" in found["why"]


@pytest.mark.slow
@needs_browser
def test_what_goes_wrong_is_said(seen: dict[Any, Any]) -> None:
    assert {found["problem"] for found in seen.values()} == {"The service cannot be reached."}


@pytest.mark.slow
@needs_browser
def test_a_text_that_is_too_long_is_refused_before_eyes_and_never_cut(seen: dict[Any, Any]) -> None:
    for found in seen.values():
        said, kept = found["refused"]
        assert "at most 20000 characters" in said
        assert kept == 20_001


def test_the_page_cuts_no_text() -> None:
    values = {"name": "x", "labels": [], "protected": False, "twin": False, "explains": False}
    assert "maxlength" not in page.render("page.html", limits=ServiceLimits(), **values)


def test_names_cannot_break_out_of_the_page() -> None:
    values = {"name": "<script>x</script>", "labels": ['"><b>'], "protected": False, "twin": False, "explains": False}
    text = page.render("page.html", limits=ServiceLimits(), **values)
    assert "<script>x" not in text and "<b>" not in text and "&lt;script&gt;x" in text
    assert 'id="twin"' not in text and 'id="why"' not in text


def test_the_page_allows_itself_only_what_it_needs(tmp_path: Path) -> None:
    import httpx

    with running(build_app(SERVICES["text"])) as found:
        replies = {path: httpx.get(found.url + path) for path in page.PATHS}
    assert [reply.headers["content-type"].partition(";")[0] for reply in replies.values()] == [
        "text/html",
        "text/css",
        "text/javascript",
    ]
    for reply in replies.values():
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert not re.search(r"https?://", reply.text)
    assert "style=" not in replies["/"].text and "<style" not in replies["/"].text
