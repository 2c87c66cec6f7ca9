"""Reports of whole runs of a tiny model, for every kind of task and recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import transformers
from helpers import data_of, make_recipe, recipe_data, rows_of
from pages import Page, read_page
from typer.testing import CliRunner

from nlp_transfer import METHODS, RunResult, cli, recipe_from, run, write_report
from nlp_transfer.diagnosis.distance import proxy_a_distance
from nlp_transfer.report import measuring
from nlp_transfer.stages import self_train

PRETRAIN = {"name": "pretrain", "block_length": 16, "head_steps": 0, "train": {"max_steps": 2}}
SELF_TRAIN = {"name": "self_train", "rounds": 1, "train": {"max_steps": 2}}


def reported(folder: Path, model: Path, kind: str, roles: list[str], **settings: Any) -> tuple[RunResult, Page]:
    """Run a recipe on some roles of the data, and read the page of its report."""
    values = recipe_data(folder / "run", model, kind, **settings)
    values["data"] = {side: {} for side in ("source", "target")} | {"max_length": 32}
    for role in roles:
        side, name = role.split(".")
        values["data"][side][name] = "memory"
    data = {role: rows for role, rows in data_of(kind, 40).items() if role in roles}
    if "source.dev" in roles:
        data["source.dev"] = rows_of(kind, 36, 2)  # enough texts to measure how far apart the domains are
    result = run(recipe_from(values), data=data)
    return result, read_page(write_report(result.folder).read_text(encoding="utf8"))


ALL = ["source.train", "source.dev", "target.unlabelled", "target.test"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[RunResult, Page]:
    """A run of all three stages, with a method and a twin."""
    stages = [PRETRAIN, "finetune", SELF_TRAIN]
    settings = {"stages": stages, "methods": ("dann",), "source_only": True}
    # So small a model may say one label only, which would end self-training before it begins.
    with mock.patch.object(self_train, "one_class", return_value=None):
        return reported(tmp_path_factory.mktemp("adapted"), tiny_bert, "classification", ALL, **settings)


def test_the_report_of_an_adapted_model(adapted: tuple[RunResult, Page]) -> None:
    result, page = adapted
    gain = result.metrics["gain"]["target.test"]
    assert f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] accuracy over source-only" in page.text
    for role, scores in result.metrics["scores"].items():
        for split in scores.values():
            assert f"{split['interval']['value']:.3f}[{split['interval']['low']:.3f}" in page.text, role
    for stage in ("source-only", "pretrain", "finetune", "self_train"):
        assert f"Losses of stage {stage}" in page.text
    assert "dann_domain" in page.text and "Guard:" in page.text
    assert "one of the domains to measure" in page.text  # the target test holds twelve texts
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["rows"] == {"source.train": 40, "source.dev": 36, "target.unlabelled": 35, "target.test": 12}
    assert environment["data"]["source.train"][:16] in page.text


def test_the_card_tells_what_the_record_holds(adapted: tuple[RunResult, Page]) -> None:
    folder, metrics = adapted[0].folder, adapted[0].metrics
    record = json.loads((folder / "environment.json").read_text())
    stages = [json.loads(line) for line in (folder / "stages.jsonl").read_text().splitlines()]
    domains = json.loads((folder / "domains.json").read_text())
    card = (folder / "README.md").read_text(encoding="utf8")
    for split, sides in metrics["calibration"][metrics["kept"]]["splits"].items():
        assert f"| {split} | {sides['plain']['error']:.3f} | {sides['scaled']['error']:.3f} |" in card
    for role, value in record["data"].items():
        assert f"- {role}: `memory`, {record['rows'][role]} rows, sha256 of the rows {value[:16]}…" in card
    for stage in stages:
        assert f"- {stage['stage']}: {stage['steps']} steps, {stage['seconds']} s" in card
    assert f"- in all: {record['seconds']['total']} s" in card
    for name, version in record["versions"].items():
        assert f"{name} {version}" in card
    for paper in ("Ganin et al. 2016", "Zou et al. 2018", "Gururangan et al. 2020"):
        assert paper in card
    assert "To reproduce: `nlp-transfer run recipe.yaml`" in card
    words = domains["words"]
    assert set(words) == {"source.dev", "target.unlabelled"}
    told = f"{words['target.unlabelled']:.1%} of the running words of target.unlabelled do not occur"
    assert (told in card) == (words["target.unlabelled"] > words["source.dev"])


def test_the_same_folder_gives_the_same_report(adapted: tuple[RunResult, Page]) -> None:
    folder = adapted[0].folder
    first = adapted[0].report.read_bytes()
    adapted[0].report.unlink()
    result = CliRunner().invoke(cli.app, ["report", str(folder)])
    assert (result.exit_code, result.stdout.strip()) == (0, str(folder / "report.html"))
    assert (folder / "report.html").read_bytes() == first
    assert CliRunner().invoke(cli.app, ["report", str(folder / "absent")]).exit_code == 2


def test_nothing_of_this_machine_is_told_but_what_the_recipe_says(adapted: tuple[RunResult, Page]) -> None:
    result, page = adapted
    assert str(result.folder) not in page.text
    assert page.text.count(str(Path.home())) == 0


def test_calibration_is_that_of_the_written_answers(adapted: tuple[RunResult, Page]) -> None:
    result, page = adapted
    for role, found in result.metrics["calibration"].items():
        lines = (result.folder / f"predictions/{role}.target.test.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        sure, right = np.array([(row["score"], row["gold"] == row["label"]) for row in rows]).T
        boxes = np.ceil(sure * 10)
        error = sum(abs((sure - right)[boxes == box].sum()) for box in set(boxes)) / len(rows)
        assert found["splits"]["target.test"]["plain"]["error"] == pytest.approx(error, abs=1e-5)
        assert f"{error:.3f}" in page.text
        # The temperature makes the gold labels of source dev most likely.
        dev = [json.loads(line) for line in (result.folder / f"predictions/{role}.source.dev.jsonl").open()]
        logs = np.log([list(row["probabilities"].values()) for row in dev])
        gold = [list(row["probabilities"]).index(row["gold"]) for row in dev]

        def loss(temperature: float, logs: np.ndarray = logs, gold: list[int] = gold) -> float:
            scaled = logs / temperature
            return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(gold)), gold]).mean())

        grid = np.geomspace(0.5, 20, 2000)
        best = grid[np.argmin([loss(value) for value in grid])]
        assert loss(found["temperature"]) <= loss(best) + 1e-6


def test_the_report_of_entities(tmp_path: Path, tiny_bert: Path) -> None:
    data = data_of("ner")["target.test"]
    result, page = reported(tmp_path, tiny_bert, "ner", ALL, methods=("dann",), source_only=True)
    assert "Words of target.test by gold class" in page.text
    words = sum(map(len, data["words"]))
    assert f"of {words} answers right" in page.text
    types = result.metrics["scores"]["adapted"]["target.test"]["per_type"]
    assert set(types) == {"PER", "ORG", "LOC"} and all(name in page.text for name in types)


def test_the_report_without_target_labels(tmp_path: Path, tiny_bert: Path) -> None:
    roles = ["source.train", "source.dev", "target.unlabelled"]
    result, page = reported(tmp_path, tiny_bert, "multi_label", roles, methods=("dann",), source_only=True)
    assert "No verdict: without labelled target rows (data.target.test) nobody can say" in page.text
    assert "nobody can say what adaptation fixed" in page.text
    domains = json.loads((result.folder / "domains.json").read_text())
    assert domains["splits"] == {"source": "source.dev", "target": "target.unlabelled"}
    assert [view["model"] for view in domains["views"]] == ["source-only", "adapted"]
    assert all(0 <= view["distance"]["value"] <= 2 for view in domains["views"])


def test_the_report_of_a_frozen_encoder_without_a_target(tmp_path: Path, tiny_bert: Path) -> None:
    result, page = reported(tmp_path, tiny_bert, "classification", ["source.train"], tuning="frozen")
    assert not (result.folder / "domains.json").exists()
    assert "The source-only model reaches" in page.text and "on source.dev." in page.text
    assert "there is no target text" in page.text and "There is one model only" in page.text
    assert "rows held out of source.train" in page.text


def test_a_frozen_encoder_is_the_same_before_and_after(tmp_path: Path, tiny_bert: Path) -> None:
    roles = ["source.train", "source.dev", "target.unlabelled"]
    result, page = reported(tmp_path, tiny_bert, "classification", roles, tuning="frozen")
    domains = json.loads((result.folder / "domains.json").read_text())
    assert [view["model"] for view in domains["views"]] == ["frozen"]
    assert "The encoder is frozen: it is the same before and after." in page.text


def test_outputs_that_are_no_numbers_do_not_cost_the_run(tmp_path: Path, tiny_bert: Path) -> None:
    roles = ["source.train", "source.dev", "target.unlabelled"]
    with mock.patch.object(measuring, "text_vectors", return_value=np.full((35, 4), np.nan)):
        result, page = reported(tmp_path, tiny_bert, "classification", roles, tuning="frozen")
    assert not (result.folder / "domains.json").exists()
    assert "a model's outputs are not finite numbers" in page.text


def test_the_report_without_a_twin(tmp_path: Path, tiny_bert: Path) -> None:
    """Before is the pretrained encoder; its vectors are those that a plain encoder gives."""
    roles = ["source.train", "source.dev", "target.unlabelled"]
    result, page = reported(tmp_path, tiny_bert, "sentiment", roles, methods=("dann",))
    assert "without its source-only twin nobody can say whether adaptation helped" in page.text
    assert "trains no source-only twin" in page.text
    domains = json.loads((result.folder / "domains.json").read_text())
    before, after = domains["views"]
    assert (before["model"], after["model"]) == ("pretrained", "adapted")
    dev = [json.loads(line)["text"] for line in (result.folder / "predictions/adapted.source.dev.jsonl").open()]
    texts = [*dev, *data_of("sentiment", 40)["target.unlabelled"]["text"]]
    vectors = first_tokens(tiny_bert, texts)
    domain = np.repeat([0, 1], [len(dev), len(texts) - len(dev)])
    _, group = np.unique([" ".join(text.casefold().split()) for text in texts], return_inverse=True)
    expected = proxy_a_distance(vectors, domain, group, seed=3)
    assert before["distance"]["value"] == pytest.approx(expected.distance.value, abs=1e-6)
    assert [len(before["points"][side]) for side in ("source", "target")] == [len(dev), 35]
    centred = vectors - vectors.mean(0)
    shares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert before["shown"] <= shares[:2].sum() / shares.sum() + 1e-4  # no two directions show more


@pytest.mark.slow
def test_the_report_of_two_sources_and_all_methods(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, "ner", "lora", tuple(METHODS), source_only=True, sources=2)
    result = run(recipe, data=data_of("ner", sources=2))
    page = read_page(write_report(result.folder).read_text(encoding="utf8"))
    assert all(f"{name}_" in page.text for name in METHODS)
    assert "source.0.train" in page.text and "source.1.train" in page.text


def first_tokens(model: Path, texts: list[str]) -> np.ndarray:
    encoder = transformers.AutoModel.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    with torch.no_grad():
        rows = [
            encoder(**tokenizer(text, return_tensors="pt", truncation=True, max_length=32))[0][0, 0] for text in texts
        ]
    return torch.stack(rows).double().numpy()
