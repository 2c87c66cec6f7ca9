"""Watching a stream: sound alerts, every line read or told, and nothing lost when it is stopped."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import read_page

from nlp_transfer.bulk.belongings import belongings
from nlp_transfer.errors import DataError, RunError
from nlp_transfer.streaming import predict_file
from nlp_transfer.watching.arriving import BLOCK, LONGEST_LINE, arriving
from nlp_transfer.watching.messages import BadLineError, Keys, Message, read_line, read_time
from nlp_transfer.watching.monitor import KEPT, Monitor, Rules
from nlp_transfer.watching.page import write_page
from nlp_transfer.watching.reference import MOST, reference_texts
from nlp_transfer.watching.reservoir import Reservoir
from nlp_transfer.watching.shift import compare, confidence_p, level_of, share_p
from nlp_transfer.watching.tally import SAMPLE, Observation, Tally, observe
from nlp_transfer.watching.watch import Output, watch
from nlp_transfer.watching.windows import WindowSize, read_size

NAMES = ("bad", "fair", "good")
TEXT = Message("x")


def draw(rng: np.random.Generator, count: int, shares: Sequence[float], sure: tuple[float, float]) -> list[Observation]:
    labels = rng.choice(NAMES, size=count, p=shares)
    values = rng.beta(*sure, size=count)
    return [
        Observation(frozenset([str(label)]), float(value), NAMES) for label, value in zip(labels, values, strict=True)
    ]


def feed(monitor: Monitor, seen: Sequence[Observation], topic: str | None = None) -> list[dict[str, Any]]:
    return [event for one in seen for event in monitor.add(Message("x", None, topic), one, 0.0)]


def tally(seen: Sequence[Observation]) -> Tally:
    made = Tally()
    for one in seen:
        made.add(one)
    return made


# Statistics


def test_share_p_is_fishers_exact_test() -> None:
    window, reference = Tally(12), Tally(20)
    window.counts["a"], reference.counts["a"] = 8, 5

    def chance(inside: int) -> float:
        return math.comb(13, inside) * math.comb(19, 12 - inside) / math.comb(32, 12)

    expected = sum(chance(k) for k in range(13) if chance(k) <= chance(8) * (1 + 1e-9))
    assert share_p(window, reference, "a") == pytest.approx(expected)


def test_confidence_p_is_the_permutation_p_of_the_largest_gap() -> None:
    sides = [0.1, 0.4, 0.45, 0.7], [0.5, 0.8, 0.9, 0.95]
    everything = sorted([*sides[0], *sides[1]])

    def gap(one: Sequence[float]) -> float:
        other = [value for value in everything if value not in one]
        return max(abs(sum(v <= at for v in one) - sum(v <= at for v in other)) for at in everything)

    splits = [gap(one) for one in combinations(everything, 4)]
    expected = sum(value >= gap(sides[0]) for value in splits) / len(splits)
    first, second = (Tally(4, sample=Reservoir(4, list(side))) for side in sides)
    assert confidence_p(first, second) == pytest.approx(expected)


def test_levels_spend_alpha_and_no_more() -> None:
    levels = [level_of(number, 0.05) for number in range(1, 200_001)]
    assert levels == sorted(levels, reverse=True)
    # What is left after n windows is about 1 / ln(n): the integral of 1 / (x ln² x).
    assert sum(levels) + 0.05 / (2.10974 * math.log(200_001.5)) == pytest.approx(0.05, rel=1e-4)


def test_the_tests_of_a_window_share_its_level() -> None:
    rng = np.random.default_rng(0)
    sides = [tally(draw(rng, 50, (0.2, 0.3, 0.5), (8, 2))) for _ in range(2)]
    tests = compare(*sides, level=0.01)
    assert [(test.of, test.label) for test in tests] == [
        *(("label share", name) for name in NAMES),
        ("confidence", None),
    ]
    assert sum(test.level for test in tests) == pytest.approx(0.01)


def test_of_two_labels_that_exclude_each_other_one_is_tested() -> None:
    seen = [Observation(frozenset([label]), None, NAMES[:2]) for label in ("bad", "fair", "fair")]
    both = [*seen, Observation(frozenset(NAMES[:2]), None)]
    assert [test.label for test in compare(tally(seen), tally(seen), 0.1)] == ["bad"]
    assert [test.label for test in compare(tally(both), tally(seen), 0.1)] == ["bad", "fair"]


def alerts_of(stream: int, alpha: float, after: Sequence[float], sure: tuple[float, float]) -> list[int]:
    """The windows in which alerts are raised; from window 11 on, labels and confidence are drawn otherwise."""
    rng = np.random.default_rng(stream)
    monitor = Monitor(Rules(WindowSize(texts=50), alpha))
    usual = draw(rng, 500, (0.2, 0.3, 0.5), (8, 2))
    events = feed(monitor, [*usual, *draw(rng, 500, after, sure)])
    return [event["window"] for event in events if event["event"] == "alert"]


def test_false_alerts_are_as_rare_as_promised() -> None:
    """Of 30 streams, at most a share of 0.2 alerts: no more than 13, with a chance of 0.999."""
    alerting = sum(bool(alerts_of(stream, 0.2, (0.2, 0.3, 0.5), (8, 2))) for stream in range(30))
    assert alerting <= 13


@pytest.mark.parametrize(
    ("after", "sure"), [((0.5, 0.3, 0.2), (8, 2)), ((0.2, 0.3, 0.5), (4, 2.5))], ids=["labels", "confidence"]
)
def test_a_real_shift_is_found_soon(after: Sequence[float], sure: tuple[float, float]) -> None:
    found = [alerts_of(100 + stream, 0.05, after, sure) for stream in range(12)]
    assert all(windows and 11 <= windows[0] <= 13 for windows in found), found


# Windows


def test_a_shift_is_told_once_and_when_it_is_over() -> None:
    rng = np.random.default_rng(1)
    monitor = Monitor(Rules(WindowSize(texts=100)))
    for shares in ((0.2, 0.3, 0.5), (0.7, 0.2, 0.1), (0.2, 0.3, 0.5)):
        feed(monitor, draw(rng, 600, shares, (8, 2)))
    windows = monitor.streams[None].history
    assert [one["role"] for one in windows] == ["reference"] * 5 + ["tested"] * 13
    assert [one["window"] for one in windows if "bad" in one["shifted"]] == list(range(7, 13))
    assert [alert["window"] for alert in monitor.alerts if alert["label"] == "bad"] == [7]
    assert monitor.alerts[0]["message"].startswith("share of 'bad' has shifted: 0.")


def test_topics_are_compared_with_themselves() -> None:
    rng = np.random.default_rng(2)
    monitor = Monitor(Rules(WindowSize(texts=50), most_topics=2))
    events = []
    for number in range(8):
        for topic, shares in (("calm", (0.1, 0.1, 0.8)), ("moved", (0.8, 0.1, 0.1) if number < 7 else (0.1, 0.1, 0.8))):
            events += feed(monitor, draw(rng, 50, shares, (8, 2)), topic)
    # All texts together have moved, too.
    assert {event["topic"] for event in events if event["event"] == "alert"} == {"moved", None}
    feed(monitor, draw(rng, 3, (0.1, 0.1, 0.8), (8, 2)), "third")
    assert set(monitor.streams) == {None, "calm", "moved"}
    assert monitor.counts["beyond_most_topics"] == 3


def test_windows_of_time_follow_the_stream_or_the_clock() -> None:
    monitor = Monitor(Rules(read_size("1m")))
    one = Observation(frozenset(["good"]), 0.9, NAMES)
    events = []
    for at in (0, 59, 61, 30, 200):
        events += monitor.add(Message("x", float(at)), one, now=1e9)
    assert monitor.tick(2e9) == []  # the clock says nothing of a stream that brings its own times
    events += monitor.close()
    assert [event["texts"] for event in events] == [2, 2, 1]
    assert events[0]["end"] == "1970-01-01T00:00:59+00:00"
    assert monitor.counts["late"] == 1
    live = Monitor(Rules(read_size("1m")))
    assert live.add(TEXT, one, now=600.0) == [] == live.tick(659.0)
    assert [event["texts"] for event in live.tick(660.0)] == [1]


def test_few_texts_are_counted_and_not_tested() -> None:
    rng = np.random.default_rng(3)
    reference = tally(draw(rng, 300, (0.2, 0.3, 0.5), (8, 2)))
    monitor = Monitor(Rules(WindowSize(texts=10)), reference)
    events = feed(monitor, draw(rng, 10, (1, 0, 0), (8, 2)))
    assert [event["role"] for event in events] == ["too few texts"]
    assert monitor.tested == 0


@pytest.mark.parametrize(("rules", "warned"), [("19", True), ("20", False), ("1m", False)])
def test_windows_that_can_never_alert_are_warned_of_at_the_start(rules: str, warned: bool) -> None:
    events: list[dict[str, Any]] = []
    watch(Stub(), [], events.append, rules=rules, reference="first")
    assert [event["event"] for event in events] == ["begin", *["warning"] * warned, "summary"]
    assert not warned or "cannot alert: a test needs 20" in events[1]["message"]


def test_memory_is_bounded() -> None:
    one = Observation(frozenset(["good"]), 0.9, NAMES)
    counted = tally([one] * (SAMPLE + 500))
    assert (counted.texts, counted.sample.seen, len(counted.confidences)) == (SAMPLE + 500, SAMPLE + 500, SAMPLE)
    monitor = Monitor(Rules(WindowSize(texts=1)))
    feed(monitor, [one] * (KEPT + 50))
    assert len(monitor.streams[None].history) == KEPT
    assert monitor.counts["windows"] == KEPT + 50


@pytest.mark.parametrize("text", ["0", "-5", "1.5h", "soon", "", "5 m"])
def test_windows_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no window"):
        read_size(text)


# Lines


def test_answers_of_every_task_are_read() -> None:
    probabilities = {"a": 0.9, "b": 0.2}
    assert observe({"label": "a", "score": 0.9, "probabilities": probabilities}) == Observation(
        frozenset("a"), 0.9, ("a", "b")
    )
    several = observe({"labels": ["a"], "probabilities": probabilities})
    assert (several.labels, several.confidence) == (frozenset("a"), pytest.approx(0.85))
    words = [{"score": 0.5}, {"score": None}, {"score": 1.0}]
    assert observe({"words": words, "entities": [{"label": "PER"}] * 2}) == Observation(frozenset(["PER"]), 0.75)
    for unread in ([], [{"score": None}]):
        assert observe({"words": unread, "entities": []}) == Observation(frozenset(), None)


def test_lines_with_time_and_topic() -> None:
    line = b'{"text": "caf\xc3\xa9", "timestamp": "1970-01-01T01:00:00+01:00", "topic": 7}\r'
    assert read_line(line, "jsonl", Keys()) == Message("café", 0.0, "7")
    assert read_line(b'{"t": "x", "at": 1.5}', "jsonl", Keys("t", "at")) == Message("x", 1.5)
    assert read_line(b"", "txt", Keys()) is None
    assert read_time("1970-01-02") == 86400.0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"\xff", "is not UTF-8"),
        (b'{"text": ', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"[]", "a JSON object was expected"),
        (b'{"txt": "x"}', "Did you mean 'txt'"),
        (b'{"text": 3}', "not a string"),
        (b'{"text": "\\ud800"}', "stands alone"),
        (b'{"text": "x", "timestamp": "yesterday"}', "ISO 8601"),
        (b'{"text": "x", "timestamp": "0001-01-01T00:00:00+14:00"}', "ISO 8601"),
        (b'{"text": "x", "timestamp": 1e300}', "ISO 8601"),
        (b'{"text": "x", "timestamp": NaN}', "ISO 8601"),
        (b'{"text": "x", "topic": ["a"]}', "the topic is"),
    ],
)
def test_bad_lines_are_told(line: bytes, told: str) -> None:
    with pytest.raises(BadLineError, match=told):
        read_line(line, "jsonl", Keys())


def test_lines_arrive_whole_and_without_waiting() -> None:
    read, write = os.pipe()
    lines = arriving(read, 2, wait=0.01)
    os.write(write, b"one\ntwo\nthree\nha")
    assert [next(lines), next(lines)] == [[b"one", b"two"], [b"three"]]
    assert next(lines) == []
    os.write(write, b"lf\nlast")
    os.close(write)
    assert list(lines) == [[b"half"], [b"last"]]
    os.close(read)


def test_endless_lines_are_passed_over() -> None:
    read, write = os.pipe()

    def send() -> None:
        for block in (b"one\n", *[b"x" * 2**16] * (LONGEST_LINE // 2**16 + 3), b"\ntwo\n", b"y" * 2**16):
            os.write(write, block)
        os.close(write)

    sender = threading.Thread(target=send)
    sender.start()
    assert [line for batch in arriving(read, 9) for line in batch] == [b"one", None, b"two", b"y" * 2**16]
    sender.join()
    os.close(read)


# Watching


class Stub:
    """Answers by the first word."""

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return [{"label": text.split()[0], "score": 0.9, "probabilities": dict.fromkeys(NAMES, 0.3)} for text in texts]


def stream(count: int = 600) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "text": f"{NAMES[number % 3] if number < count // 2 else 'bad'} text",
            "topic": "<b>",
            "timestamp": number,
        }


def test_a_watch_tells_windows_alerts_and_a_summary(tmp_path: Path) -> None:
    lines, page = tmp_path / "trends.jsonl", tmp_path / "trends.html"
    summary = watch(Stub(), [*stream(), {"text": 1}], Output(lines, page), rules="50", reference="first")
    events = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [events[0]["event"], events[-1]] == ["begin", summary]
    assert (summary["texts"], summary["windows"], summary["problems"], summary["stopped"]) == (600, 24, 1, False)
    alerts = {(event["topic"], event["window"], event["label"]) for event in events if event["event"] == "alert"}
    assert alerts == {(topic, 7, label) for topic in (None, "<b>") for label in NAMES}
    html = page.read_text()
    read = read_page(html)
    assert "6 shifts were found" in read.text and "<b>" in read.text and "<b>" not in html
    assert len(read.named("svg")) == 4
    with pytest.raises(DataError, match="--overwrite"):
        watch(Stub(), [], Output(lines))


def test_a_time_in_the_far_future_is_a_problem_and_closes_no_window() -> None:
    begin = int(time.time()) // 60 * 60 - 300
    messages: list[dict[str, Any]] = [{"text": "good text", "timestamp": begin + 10 * step} for step in range(30)]
    messages.insert(6, {"text": "good text", "timestamp": "2126-05-31T12:00:00"})
    events: list[dict[str, Any]] = []
    summary = watch(Stub(), messages, events.append, rules="1m", reference="first")
    problems = [event for event in events if event["event"] == "problem"]
    assert [event["line"] for event in problems] == [7]
    assert "2126-05-31T12:00:00+00:00, more than a window after now" in problems[0]["message"]
    assert "is taken for UTC" in problems[0]["message"]
    assert [event["texts"] for event in events if event["event"] == "window"] == [6] * 5
    assert (summary["texts"], summary["late"]) == (30, 0)


def test_times_ahead_are_taken_as_they_are_where_windows_are_of_texts() -> None:
    messages = [{"text": "good text", "timestamp": "2126-05-31T12:00:00Z"}] * 3
    assert watch(Stub(), messages, lambda event: None, rules="3", reference="first")["problems"] == 0


@pytest.mark.parametrize(
    ("lines", "page", "told"),
    [
        ("in.jsonl", None, "the output is the input file"),
        ("link.jsonl", None, "the output is the input file"),
        ("out.jsonl", "in.jsonl", "the page is the input file"),
        ("reference.txt", None, "the output is the reference file"),
        ("new.html", "./new.html", "the page is the output file"),
    ],
)
def test_a_watch_never_writes_what_it_reads_or_a_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, page: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n')
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    (tmp_path / "reference.txt").write_text("bad\n")
    with pytest.raises(DataError, match=told):
        watch(Stub(), "in.jsonl", Output(lines, page, overwrite=True), reference="reference.txt")
    assert (tmp_path / "in.jsonl").read_text() == '{"text": "good"}\n'
    assert (tmp_path / "reference.txt").read_text() == "bad\n"


RUN_FILES = ["recipe.yaml", "metrics.json", "report.html", "model/model.safetensors", "predictions/adapted.jsonl"]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is left of a run, with its data beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.jsonl", "target.txt", "corpus.txt", *(f"run/{name}" for name in RUN_FILES)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("kept")
    data = {"folder": str(tmp_path), "source": {"train": "train.jsonl"}, "target": {"unlabelled": "target.txt"}}
    stages = [{"name": "pretrain", "corpus": {"path": str(tmp_path / "corpus.txt")}}, "finetune"]
    values = {"name": "x", "model": "m", "task": "sentiment", "data": data, "stages": stages}
    (tmp_path / "run" / "recipe.yaml").write_text(json.dumps(values))
    return tmp_path / "run"


@pytest.mark.parametrize("write", ["watch", "page", "predict"])
@pytest.mark.parametrize(
    ("place", "called"),
    [
        ("target.txt", "data.target.unlabelled"),
        ("train.jsonl", "data.source.train"),
        ("corpus.txt", "stages.0.corpus"),
        *((f"run/{name}", re.escape(name)) for name in RUN_FILES),
    ],
)
def test_what_belongs_to_the_model_is_never_written(place: str, called: str, write: str, finished: Path) -> None:
    content = Path(place).read_text()
    Path("in.txt").write_text("good\n")
    with pytest.raises(DataError, match=rf"the (output|page) is the model's {called} file; name another one"):
        if write == "predict":
            predict_file("run", "in.txt", place, overwrite=True)
        else:
            watch("run", "in.txt", Output(place, None, True) if write == "watch" else Output("new", place, True))
    assert Path(place).read_text() == content


def test_what_lies_beside_a_model_may_be_written(finished: Path) -> None:
    for name in ("run/trends.html", "run/alerts.jsonl"):
        Path(name).write_text("old")
    Output("run/alerts.jsonl", "run/trends.html", overwrite=True).check(belongings("run"))


def test_a_watch_sees_that_standard_input_is_the_output(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "good"}\n')
    with path.open() as given:
        done = subprocess.run(
            [sys.executable, "-m", "nlp_transfer", "watch", "m", "--input", "-", "--output", str(path), "--overwrite"],
            stdin=given, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2 and "the output is the input file" in done.stderr
    assert path.read_text() == '{"text": "good"}\n'


def test_a_page_of_nothing(tmp_path: Path) -> None:
    write_page(tmp_path / "empty.html", Monitor(Rules(WindowSize(texts=5))), {"model": "m"})
    assert "Nothing could be compared yet" in read_page((tmp_path / "empty.html").read_text()).text


def test_references(tmp_path: Path) -> None:
    assert reference_texts("m", "first")[0] is None
    texts, told = reference_texts(str(tmp_path), None)
    assert texts is None and "is no run folder" in told
    with pytest.raises(RunError, match="is no run folder"):
        reference_texts(str(tmp_path), "target")
    (tmp_path / "texts.txt").write_text("\n".join(map(str, range(MOST + 5))))
    texts, _ = reference_texts("m", str(tmp_path / "texts.txt"))
    assert texts is not None and len(set(texts)) == MOST
    for at, content in ((1, b"\n"), (2, b"\xff\n")):
        (tmp_path / f"{at}.txt").write_bytes(content)
        with pytest.raises(DataError, match="no texts" if at == 1 else "not UTF-8"):
            reference_texts("m", str(tmp_path / f"{at}.txt"))


def test_the_target_text_of_a_run_is_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target.jsonl").write_text('{"body": "one", "label": "bad"}\n{"body": "two"}\n')
    data = {"folder": str(tmp_path), "columns": {"text": "body"}, "source": {"train": "x.jsonl"}}
    values = {"name": "x", "model": "m", "task": "sentiment", "data": data | {"target": {"unlabelled": "target.jsonl"}}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    expected = (["one", "two"], f"data.target.unlabelled of {tmp_path}")
    assert reference_texts(str(tmp_path), None) == expected
    for inside in ("model", "onnx-int8"):
        (tmp_path / inside).mkdir()
    for inside in ("model", "onnx-int8"):
        assert reference_texts(str(tmp_path / inside), None) == expected
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert reference_texts(f"~/{tmp_path.name}/model", None)[0] == ["one", "two"]
    monkeypatch.chdir(tmp_path)
    assert reference_texts("user/model", None)[0] is None, "a hub id is no folder of the run that one stands in"
    (tmp_path / "recipe.yaml").write_text("name: [")
    texts, told = reference_texts(str(tmp_path), None)
    assert texts is None and "recipe.yaml" in told


LIVE = """
import sys
sys.path.insert(0, sys.argv[2])
from test_watching import Stub
from nlp_transfer.watching.watch import Output, watch
summary = watch(Stub(), "-", Output("-", sys.argv[1]), rules="4", format="jsonl", reference="first")
"""


@pytest.mark.slow
def test_a_live_watch_flushes_draws_on_request_and_ends_cleanly(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    watching = subprocess.Popen(
        [sys.executable, "-c", LIVE, str(page), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert watching.stdin is not None and watching.stdout is not None
    try:
        assert [json.loads(watching.stdout.readline())["event"] for _ in range(2)] == ["begin", "warning"]
        watching.stdin.write(b'oops\n{"text": "\xff"}\n' + b'{"text": "good"}\n' * 4)
        watching.stdin.flush()
        assert [json.loads(watching.stdout.readline())["event"] for _ in range(3)] == ["problem", "problem", "window"]
        watching.send_signal(signal.SIGUSR1)
        wait_for(page)
        page.unlink()
        watching.stdin.write(b'{"text": "bad"}\n')
        watching.stdin.flush()
        time.sleep(0.5)
        watching.send_signal(signal.SIGINT)
        rest = [json.loads(line) for line in watching.stdout]
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.stdin.close()
        watching.stdout.close()
    assert [event["event"] for event in rest] == ["window", "summary"]
    assert (rest[-1]["texts"], rest[-1]["problems"], rest[-1]["stopped"]) == (5, 2, True)
    read_page(page.read_text())


class Stopping(Stub):
    """Is stopped while it answers for the first time."""

    def __init__(self) -> None:
        self.signals = [signal.SIGINT]

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        if self.signals:
            os.kill(os.getpid(), self.signals.pop())
        return super().__call__(texts)


def test_a_stopped_watch_counts_every_line_that_it_has_read(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("good text\n" * 10_000)
    summary = watch(Stopping(), tmp_path / "in.txt", lambda event: None, rules="1000", reference="first")
    assert (summary["texts"], summary["stopped"]) == (BLOCK // len("good text\n"), True)


def test_a_stopped_watch_counts_every_text_that_it_has_taken() -> None:
    taken = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            taken.append(number)
            if number == 40:
                os.kill(os.getpid(), signal.SIGTERM)
            yield "good text"

    summary = watch(Stub(), texts(), lambda event: None, rules="10", reference="first")
    assert (summary["texts"], summary["stopped"]) == (41, True) and len(taken) == 41


def test_a_watch_that_is_stopped_while_its_model_loads_ends_with_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: str) -> Stub:
        os.kill(os.getpid(), signal.SIGINT)
        return Stub()

    monkeypatch.setattr("nlp_transfer.watching.watch.load_predictor", load)
    (tmp_path / "in.txt").write_text("good text\n")
    summary = watch("model", tmp_path / "in.txt", lambda event: None, reference="first")
    assert (summary["texts"], summary["stopped"]) == (0, True)


def test_a_second_signal_does_not_wait() -> None:
    def silent() -> Iterator[str]:
        yield from ["good text"] * 32
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still waiting")

    before = signal.getsignal(signal.SIGINT)
    summary = watch(Stub(), silent(), lambda event: None, rules="10", reference="first")
    assert (summary["texts"], summary["stopped"]) == (32, True)
    assert signal.getsignal(signal.SIGINT) is before


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < end, "no page"
        time.sleep(0.05)


def test_files_of_the_run_belong_to_the_models_in_it(tmp_path: Path) -> None:
    for name in ("run/recipe.yaml", "run/metrics.json", "run/model/config.json", "run/exports/onnx/model.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    for inside in ("run", "run/model", "run/exports/onnx"):
        assert (tmp_path / "run/metrics.json") in belongings(tmp_path / inside).values()
