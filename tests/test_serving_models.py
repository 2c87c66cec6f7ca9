"""The service with real (tiny) models: answers as the predictor gives them, explanations that add up, the twin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
import torch
from conftest import build_model, byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import PLAIN, plain_classifier
from schemathesis.specs.openapi.checks import positive_data_acceptance
from services import Running, running, wait_until

from nlp_transfer import load_predictor
from nlp_transfer.data.spans import words as split_words
from nlp_transfer.data.windows import Limits
from nlp_transfer.errors import ModelError
from nlp_transfer.exporting.predictor import OnnxPredictor
from nlp_transfer.predictor import Predictor
from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.attribution import Target, attribute, word_weights
from nlp_transfer.serving.explaining import Explainer, NotExplained, Question, explainable
from nlp_transfer.serving.server import prepare
from nlp_transfer.serving.settings import TOKEN_VARIABLE, ServiceLimits
from nlp_transfer.serving.twin import Lazy, twin_folder
from nlp_transfer.tasks.classification import Classification

TEXT_HEAD, TOKEN_HEAD = "AutoModelForSequenceClassification", "AutoModelForTokenClassification"
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SENTENCE = "the film was great, and Anna visited the river Nile."
LONG = " ".join(PLAIN * 3)
"""Several windows of the tiny models' 64 tokens."""


def classifier(folder: Path, head: str = TEXT_HEAD, tokenizer: Any = None, labels: Any = None, **config: Any) -> Path:
    made = wordpiece_tokenizer() if tokenizer is None else tokenizer
    names = labels or (["bad", "good", "so-so"] if head == TEXT_HEAD else TAGS)
    return plain_classifier(folder, made, head, names, **config)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "label": classifier(folder / "label"),
        "labels": classifier(folder / "labels", problem_type="multi_label_classification"),
        "entities": classifier(folder / "entities", TOKEN_HEAD),
        "byte-level": classifier(folder / "byte", TOKEN_HEAD, byte_level_tokenizer()),
        "sentencepiece": classifier(folder / "piece", TEXT_HEAD, sentencepiece_tokenizer()),
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Path:
    """What a run leaves, as far as the service reads it: another model is its twin."""
    folder = tmp_path_factory.mktemp("run") / "reviews"
    (folder / "stages/source-only").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: reviews\n")
    (folder / "metrics.json").write_text(json.dumps({"kept": "adapted"}))
    (folder / "model").symlink_to(models["label"])
    classifier(folder / "stages/source-only/model", seed=5)
    return folder


@pytest.fixture(scope="module")
def service(run_folder: Path) -> Iterator[tuple[Running, httpx.Client]]:
    app = build_app(prepare(run_folder), ServiceLimits(explain_characters=1500))
    with running(app) as found, httpx.Client(base_url=found.url, timeout=60) as client:
        yield found, client


# Answers


def test_the_service_answers_as_the_predictor_and_as_the_twin(
    run_folder: Path, service: tuple[Running, httpx.Client]
) -> None:
    texts = [SENTENCE, "", LONG, "北京 🙂"]
    found = {}
    for path, folder in (("/predict", run_folder), ("/twin", run_folder / "stages/source-only/model")):
        found[path] = service[1].post(path, json={"texts": texts}).json()["answers"]
        for answer, wanted in zip(found[path], load_predictor(folder)(texts), strict=True):
            assert answer.keys() == wanted.keys()
            assert answer["text"] == wanted["text"]
            assert list(answer["probabilities"].values()) == pytest.approx(
                list(wanted["probabilities"].values()), abs=0.01
            )
    assert found["/predict"] != found["/twin"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("ab ._'\x00\u200d北é🙂", max_size=200)


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
def test_any_text_is_answered(service: tuple[Running, httpx.Client], texts: list[str]) -> None:
    reply = service[1].post("/predict", json={"texts": texts})
    assert reply.status_code == 200
    assert [answer["text"] for answer in reply.json()["answers"]] == texts


@pytest.fixture(scope="module")
def services(models: dict[str, Path]) -> dict[str, Service]:
    return {kind: prepare(models[kind]) for kind in ("labels", "entities")}


@pytest.mark.parametrize("kind", ["labels", "entities"])
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
def test_any_text_is_answered_by_the_other_kinds(kind: str, services: dict[str, Service], texts: list[str]) -> None:
    answers = services[kind].predict(texts)
    assert [answer["text"] for answer in answers] == texts
    for text, answer in zip(texts, answers, strict=True):
        services[kind].kind.model_validate(answer)
        for found in answer.get("words", []):
            assert text[found["start"] : found["end"]] == found["word"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("kind", ["label", "labels", "entities"])
def test_models_answer_as_the_service_is_described(
    kind: str, path: str, mode: schemathesis.GenerationMode, models: dict[str, Path]
) -> None:
    # That a text has no entity, or that a label is no label of this model, no description can tell.
    untold = [positive_data_acceptance] if path == "/explain" else []
    limits = ServiceLimits(max_texts=3, max_characters=60, explain_characters=40)
    with running(build_app(prepare(models[kind]), limits)) as found:
        described = schemathesis.openapi.from_url(f"{found.url}/openapi.json")

        @settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=described[path]["POST"].as_strategy(mode))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(timeout=30, excluded_checks=untold)

        ask()


@pytest.mark.parametrize("kind", ["labels", "entities"])
def test_other_kinds_of_answers_are_described_as_they_are(kind: str, models: dict[str, Path]) -> None:
    service = prepare(models[kind])
    assert service.labels == (["bad", "good", "so-so"] if kind == "labels" else ["LOC", "PER"])
    for answer in service.predict([SENTENCE, "", LONG]):
        assert service.kind.model_validate(answer).model_dump(exclude_unset=True) == answer
    assert set(build_app(service).openapi()["paths"]) == {"/predict", "/explain", "/health", "/metrics"}


# Explanations


def test_an_explanation_over_http_adds_up(service: tuple[Running, httpx.Client]) -> None:
    reply = service[1].post("/explain", json={"text": SENTENCE})
    found = reply.json()
    assert found["label"] == service[1].post("/predict", json={"texts": [SENTENCE]}).json()["answers"][0]["label"]
    assert [SENTENCE[word["start"] : word["end"]] for word in found["words"]] == [
        word["word"] for word in found["words"]
    ]
    total = sum(word["weight"] for word in found["words"]) + found["rest"] + found["gap"]
    assert total == pytest.approx(found["log_odds"] - found["base_log_odds"], abs=1e-4)
    assert abs(found["gap"]) < 0.05 * max(1, abs(found["log_odds"] - found["base_log_odds"]))


def test_explanations_beyond_their_limits_are_refused(service: tuple[Running, httpx.Client]) -> None:
    for body, says in (
        ({"text": "x" * 1501}, "text"),
        ({"text": "x", "label": "best"}, "'best' is none of the labels: bad, good, so-so"),
        ({"text": "x", "label": "l" * 1001}, "label"),
        ({"text": "x", "at": -1}, "at"),
        ({"texts": ["x"]}, "text"),
    ):
        reply = service[1].post("/explain", json=body)
        assert (reply.status_code, reply.json()["error"].startswith(says)) == (422, True), reply.text


def test_a_label_that_is_no_text_is_refused(service: tuple[Running, httpx.Client]) -> None:
    content = b'{"text": "x", "label": "\\ud800"}'
    reply = service[1].post("/explain", content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422 and reply.json()["error"]


def log_odds(logits_C: np.ndarray, label: int) -> float:
    """Of a softmax, by its definition."""
    probabilities = np.exp(logits_C - logits_C.max())
    share = probabilities[label] / probabilities.sum()
    return float(np.log(share / (1 - share)))


@pytest.mark.parametrize("kind", ["label", "labels", "sentencepiece"])
@pytest.mark.parametrize("text", [SENTENCE, LONG], ids=["short", "long"])
def test_weights_add_up_to_the_difference_in_log_odds(kind: str, text: str, models: dict[str, Path]) -> None:
    predictor = load_predictor(models[kind], precision="fp32")
    found = Explainer(predictor)(Question(text, label="good"))
    import datasets

    # Masking every word by hand, in the text itself, is the other end of the path.
    masked = " ".join([predictor.tokenizer.mask_token] * len(predictor.tokenizer.tokenize(text)))
    texts = [text, masked] if text == SENTENCE else [text]
    rows = predictor.logits(datasets.Dataset.from_dict({"text": texts}))
    ends = [float(row[1]) if kind == "labels" else log_odds(row, 1) for row in rows]
    assert found["log_odds"] == pytest.approx(ends[0], abs=1e-4)
    if text == SENTENCE and kind != "sentencepiece":  # which puts a space of its own before a mask
        assert found["base_log_odds"] == pytest.approx(ends[1], abs=1e-4)
    total = sum(word["weight"] for word in found["words"]) + found["rest"]
    difference = found["log_odds"] - found["base_log_odds"]
    assert abs(total - difference) < 0.05 * max(1, abs(difference))
    assert found["gap"] == pytest.approx(difference - total, abs=1e-4)
    assert abs(difference) > 0.01  # else the test would show little
    assert "at" not in found


@pytest.mark.parametrize("kind", ["entities", "byte-level"])
def test_the_tag_of_a_word_is_explained(kind: str, models: dict[str, Path]) -> None:
    predictor = load_predictor(models[kind], precision="fp32")
    explain = Explainer(predictor)
    for text in (SENTENCE, LONG + " Oslo"):
        at = text.rindex(" ") + 1
        found = explain(Question(text, at=at + 1))
        [answer] = predictor([text])
        word = next(word for word in answer["words"] if word["start"] == at)
        assert (found["at"], found["label"]) == (at, word["tag"])
        share = word["score"]
        assert found["log_odds"] == pytest.approx(np.log(share / (1 - share)), abs=1e-2)
        total = sum(one["weight"] for one in found["words"]) + found["rest"] + found["gap"]
        assert total == pytest.approx(found["log_odds"] - found["base_log_odds"], abs=1e-4)
        assert len(found["words"]) == len(split_words(text))


def test_words_that_cannot_be_explained_are_named(models: dict[str, Path]) -> None:
    explain = Explainer(load_predictor(models["entities"]))
    for question, says in (
        (Question("", at=0), "no word at character 0"),
        (Question("good film", at=4), "no word at character 4"),
        (Question("good film", label="B-ORG", at=0), "none of the labels"),
        (Question(""), "no entity"),
    ):
        with pytest.raises(NotExplained, match=says):
            explain(question)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert"])
def test_every_architecture_is_explained(kind: str, tmp_path: Path) -> None:
    predictor = load_predictor(build_model(tmp_path / kind, kind, TEXT_HEAD), precision="fp32")
    found = Explainer(predictor)(Question(SENTENCE))
    [answer] = predictor([SENTENCE])
    assert found["log_odds"] == pytest.approx(np.log(answer["score"] / (1 - answer["score"])), abs=1e-3)
    assert abs(found["gap"]) < 0.05


def test_a_linear_model_is_explained_exactly() -> None:
    """Where log-odds are linear in the embeddings, a token's weight is its own share: w · (x − x')."""

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(9, 4)
            self.head = torch.nn.Linear(4, 2)

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.words

        def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            class Output:
                logits = (self.head(inputs_embeds) * attention_mask[..., None]).sum(1)

            return Output

    class Tokenizer:
        pad_token_id, mask_token_id = 0, 1

    class Window:
        def __init__(self, *ids: int):
            self.input_ids = list(ids)

    torch.manual_seed(0)
    model = Linear()
    windows: Any = [Window(2, 4, 5, 3), Window(2, 6, 3)]
    spans = [np.array([[0, 0], [0, 2], [2, 5], [0, 0]]), np.array([[0, 0], [5, 6], [0, 0]])]
    found = attribute(model, Tokenizer(), windows, spans, Target(1, [0.5, 0.5]))
    direction = (model.head.weight[1] - model.head.weight[0]).detach().double()
    table = model.words.weight.detach().double()
    for window, weights in zip(windows, found.weights, strict=True):
        wanted = [0.5 * float(direction @ (table[token] - table[1])) for token in window.input_ids[1:-1]]
        assert weights == pytest.approx([0.0, *wanted, 0.0], abs=1e-5)
    assert abs(found.gap) < 1e-5


def test_pieces_become_words() -> None:
    bounds = [(0, 4), (5, 7), (7, 9)]
    spans = [np.array([[0, 0], [0, 2], [2, 4], [4, 9], [9, 10], [0, 0]]), np.array([[0, 0], [5, 7], [0, 0]])]
    weights = [np.array([9.0, 1.0, 2.0, 4.0, 8.0, 9.0]), np.array([9.0, 0.5, 9.0])]
    # The third piece covers two words; the fourth and the added tokens belong to none.
    assert word_weights(bounds, spans, weights).tolist() == [3.0, 2.5, 2.0]
    assert word_weights([], spans, weights).tolist() == []


def test_explaining_disturbs_no_answer(models: dict[str, Path]) -> None:
    """Both work on one model at the same time, in two threads."""
    predictor = load_predictor(models["label"], precision="fp32")
    explain = Explainer(predictor)
    wanted, reason = predictor([SENTENCE, LONG]), explain(Question(SENTENCE))
    reasons: list[Any] = []
    thread = threading.Thread(target=lambda: reasons.extend(explain(Question(SENTENCE)) for _ in range(3)))
    thread.start()
    answers = []
    while thread.is_alive():
        answers.append(predictor([SENTENCE, LONG]))
    thread.join()
    assert answers and all(answer == wanted for answer in answers)
    assert reasons == [reason] * 3
    assert all(parameter.grad is None for parameter in predictor.model.parameters())


def test_a_damaged_record_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x")
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ModelError, match=r"metrics\.json"):
        twin_folder(tmp_path)


def test_only_pytorch_can_be_explained() -> None:
    assert not explainable(object())
    task = Classification(["bad", "good"])
    exported = OnnxPredictor(object(), wordpiece_tokenizer(), task, Limits(64))  # its model is a session, no module
    assert not explainable(exported)
    assert explainable(Predictor(torch.nn.Linear(1, 1), exported.tokenizer, task, exported.limits))


# The twin


def test_the_twin_of_a_run(tmp_path: Path) -> None:
    assert twin_folder(tmp_path) is None
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    (tmp_path / "metrics.json").write_text('{"kept": "adapted"}')
    assert twin_folder(tmp_path) is None
    for name in ("source-only", "source-only-2", "source-only-10", "1-finetune"):
        (tmp_path / "stages" / name / "model").mkdir(parents=True)
    assert twin_folder(tmp_path) == tmp_path / "stages/source-only-10/model"
    (tmp_path / "metrics.json").write_text('{"kept": "source-only"}')
    assert twin_folder(tmp_path) is None  # it is what is served


def test_the_twin_is_loaded_once_and_only_when_asked() -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return lambda texts: [{"text": text} for text in texts]

    lazy = Lazy(make)
    assert made == []
    assert lazy(["a"]) + lazy(["b"]) == [{"text": "a"}, {"text": "b"}]
    assert made == [1]


# The command


@pytest.mark.slow
def test_the_command_serves_and_ends_when_told_to(run_folder: Path) -> None:
    command = [sys.executable, "-m", "nlp_transfer", "serve", str(run_folder), "--port", "0"]
    environment = os.environ | {TOKEN_VARIABLE: "s3cret"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        found = (re.search(r"Serving .* on (http://127\.0\.0\.1:\d+)", line) for line in process.stderr)
        url = next(match[1] for match in found if match)
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer s3cret"}, timeout=60) as client:
            wait_until(lambda: listens(client), 60)
            assert client.post("/predict", json={"texts": ["private words"]}).json()["answers"][0]["label"]
            assert client.post("/predict", content=b"private", headers={"Content-Type": "application/json"}).is_error
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert "POST /predict" in logged and "Finished server process" in logged
    assert "Traceback" not in logged
    for secret in ("s3cret", "private"):
        assert secret not in logged


def listens(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.ConnectError:
        return False
