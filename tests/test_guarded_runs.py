"""Selection and guard in whole runs of a tiny model: what is selected, which model is kept, and where it is said."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from helpers import TASKS, Listener, data_of, read_json, recipe_data, same_weights
from huggingface_hub import ModelCard
from samples import sentiment_rows

from nlp_transfer import (
    METHODS,
    Method,
    Sizes,
    Step,
    evaluation,
    load_predictor,
    recipe_from,
    resolve,
    run,
    write_report,
)
from nlp_transfer.errors import RecipeError
from nlp_transfer.recipe import dump
from nlp_transfer.recipe.trust import GuardSpec
from nlp_transfer.screen import score_table, show_run


class Push(Method):
    """Pushes target units towards one class."""

    def __init__(self, sizes: Sizes, *, strength: float = 1.0, **shared: Any):
        super().__init__(**shared)
        self.strength = strength

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        logits = step.logits_UC[step.domain_U == 1]
        wanted = torch.zeros(len(logits), dtype=torch.long)
        return {"push": self.strength * torch.nn.functional.cross_entropy(logits, wanted)}


KNOWN = METHODS | {"push": Push}
LONG = {"max_steps": 24, "learning_rate": 5e-3, "evaluate_every": 6, "schedule": "constant", "dropout": 0.0}


def sentiment_data(target: int = 40) -> dict[str, Any]:
    """Texts that a tiny model learns in a few steps, in both domains."""
    roles = {"source.train": (48, 0), "source.dev": (24, 1), "target.test": (24, 2), "target.unlabelled": (target, 3)}
    return {role: Dataset.from_list(sentiment_rows(*made)) for role, made in roles.items()}


def values(folder: Path, model: Path, strength: float, **changes: Any) -> dict[str, Any]:
    methods = ({"name": "push", "strength": strength},)
    recipe = recipe_data(folder, model, methods=methods, source_only=True, max_grad_norm=0.0, **LONG)
    return recipe | {"task": {"name": "classification"}} | changes


# The guard


@pytest.fixture(scope="module")
def collapsed(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Listener, Any]:
    """A run whose method pushes every target text into one class."""
    recipe = recipe_from(values(tmp_path_factory.mktemp("collapsed"), tiny_bert, 20.0), methods=KNOWN)
    listener = Listener()
    return run(recipe, data=sentiment_data(), reporter=listener, methods=KNOWN), listener, recipe  # type: ignore[arg-type]


def test_a_collapsed_model_is_not_kept(collapsed: Any) -> None:
    result, _, _ = collapsed
    found = result.metrics["guard"]
    assert found["adapted"]["shares"]["negative"] == 1.0 > found["source-only"]["shares"]["negative"] + 0.2
    assert result.metrics["kept"] == found["kept"] == "source-only"
    assert same_weights(result.model, result.folder / "stages/source-only/model")
    assert not same_weights(result.model, result.folder / "stages/1-finetune/model")
    rows = [json.loads(line) for line in (result.folder / "predictions/source-only.target.test.jsonl").open()]
    assert [row["label"] for row in load_predictor(result.folder)([row["text"] for row in rows])] == [
        row["label"] for row in rows
    ]


def test_it_is_said_everywhere(collapsed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result, listener, recipe = collapsed
    reason = "a class has vanished: the adapted model gives 'positive' to 0.0%"
    assert any("the source-only model is kept" in line and reason in line for line in listener.warned)
    card = (result.folder / "README.md").read_text(encoding="utf8")
    assert "trained on the source domain only; the adapted model was not kept" in card
    assert reason in card and "Verdict: adaptation hurt on target.test: -" in card
    show_run(result, recipe)
    shown = capsys.readouterr().out
    assert "source-only (kept)" in shown and "adapted (kept)" not in shown
    assert reason in shown.replace("\n", " ") and "Verdict: adaptation hurt on target.test" in shown
    assert result.metrics == read_json(result.folder / "metrics.json")
    verdict = result.metrics["verdict"]
    assert verdict | {"verdict": "hurt", "split": "target.test"} == verdict
    assert {key: verdict[key] for key in ("value", "low", "high")} == result.metrics["gain"]["target.test"]


def test_the_guard_can_be_switched_off(collapsed: Any, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = recipe_from(values(tmp_path, tiny_bert, 20.0, guard=False), methods=KNOWN)
    result = run(recipe, data=sentiment_data(), methods=KNOWN)
    assert result.metrics["kept"] == "adapted" and "guard" not in result.metrics
    assert same_weights(result.model, collapsed[0].folder / "stages/1-finetune/model")
    assert "No guard looked at it" in (result.folder / "README.md").read_text(encoding="utf8")


def test_identical_models_keep_the_twin(tiny_bert: Path, tmp_path: Path) -> None:
    result = run(recipe_from(values(tmp_path, tiny_bert, 0.0), methods=KNOWN), data=sentiment_data(), methods=KNOWN)
    assert result.metrics["guard"]["agreement"] == 1.0
    assert "There is no difference" in result.metrics["guard"]["reasons"][0]
    assert result.metrics["kept"] == "source-only"
    assert result.metrics["verdict"]["verdict"] == "no evidence"


def test_two_target_rows_without_labels_say_nothing(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = values(tmp_path, tiny_bert, 1.0, selection="class_ami")
    del recipe["data"]["target"]["test"]
    data = {role: rows for role, rows in sentiment_data(2).items() if role != "target.test"}
    result = run(recipe_from(recipe, methods=KNOWN), data=data, methods=KNOWN)
    assert "Only 2 units" in result.metrics["guard"]["reasons"][0] and result.metrics["kept"] == "source-only"
    assert "verdict" not in result.metrics
    assert "nobody can say whether" in (result.folder / "README.md").read_text(encoding="utf8")


def test_target_labels_change_neither_weights_nor_selection_nor_guard(tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("ner")
    test = data["target.test"]
    wrong = [["O"] * len(tags) for tags in test["tags"]]
    poisoned = data | {"target.test": Dataset.from_dict(test.to_dict() | {"tags": wrong})}
    facts, metrics = [], []
    for name, given in (("clean", data), ("poisoned", poisoned)):
        settings = {"max_steps": 4, "evaluate_every": 2, "learning_rate": 5e-3}
        recipe = recipe_data(
            tmp_path / name, tiny_bert, "ner", methods=("dann",), selection="dev", source_only=True, **settings
        )
        metrics.append(run(recipe_from(recipe), data=given).metrics)
        done = read_json(tmp_path / name / "stages/1-finetune/done.json")
        facts.append((done["selected_step"], done["best_target_dev"], done["fingerprint"]))
    assert facts[0] == facts[1]
    for stage in ("1-finetune", "source-only"):
        assert same_weights(*(tmp_path / name / "stages" / stage / "model" for name in ("clean", "poisoned")))
    assert same_weights(tmp_path / "clean/model", tmp_path / "poisoned/model")
    assert metrics[0]["guard"] == metrics[1]["guard"]
    assert metrics[0]["scores"]["source-only"]["target.test"] != metrics[1]["scores"]["source-only"]["target.test"]


# Selection


@pytest.mark.parametrize(
    ("kind", "name", "tuning"),
    [
        ("sentiment", "information_maximisation", "full"),
        pytest.param("multi_label", "bnm", "lora", marks=pytest.mark.slow),
        pytest.param("ner", "dev", "full", marks=pytest.mark.slow),
        ("ner", "class_ami", "frozen"),
        ("classification", "entropy", "full"),
    ],
)
def test_the_label_free_score_selects(kind: str, name: str, tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 8, "evaluate_every": 2, "learning_rate": 5e-3, "keep_checkpoints": 1}
    spec = {"name": name, "max_rows": 12}
    recipe = recipe_data(tmp_path, tiny_bert, kind, tuning, selection=spec, source_only=True, **settings)
    listener = Listener()
    result = run(recipe_from(recipe), data=data_of(kind), reporter=listener)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    ours, twin = ([line for line in lines if line["stage"] == s] for s in ("finetune", "source-only"))
    scores = {line["step"]: line[f"eval_target_{name}"] for line in ours if f"eval_target_{name}" in line}
    assert [*scores] == [2, 4, 6, 8] and len(set(scores.values())) > 1
    done = read_json(result.folder / "stages/1-finetune/done.json")
    assert done[f"best_target_{name}"] == scores[done["selected_step"]] == max(scores.values())
    assert not any(f"eval_target_{name}" in line for line in twin), "the twin's checkpoint is source dev's"
    assert "best_dev" in read_json(result.folder / "stages/source-only/done.json")
    assert result.metrics["selection"] == f"{name} of unlabelled target text"
    assert any(f"target_{name} {max(scores.values()):.4f}" in line for line in listener.said)


def test_a_stopped_run_resumes_with_the_same_selection(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 6, "evaluate_every": 2, "dropout": 0.1}

    def recipe(name: str) -> Any:
        return recipe_from(recipe_data(tmp_path / name, tiny_bert, methods=("dann",), selection="bnm", **settings))

    whole = run(recipe("whole"), data=data_of("classification"))
    with pytest.raises(KeyboardInterrupt):
        run(recipe("cut"), data=data_of("classification"), reporter=Listener("finetune", 5))  # type: ignore[arg-type]
    resumed = run(recipe("cut"), data=data_of("classification"))
    assert same_weights(whole.model, resumed.model)
    assert whole.metrics == resumed.metrics
    done = [read_json(tmp_path / name / "stages/1-finetune/done.json") for name in ("whole", "cut")]
    assert done[0]["best_target_bnm"] == done[1]["best_target_bnm"]


@pytest.mark.parametrize("guard", [False, {"min_gain": 0.99}], ids=["adapted", "twin"])
def test_an_oracle_is_loud(guard: Any, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = recipe_data(tmp_path, tiny_bert, methods=("dann",), selection="oracle", source_only=True)
    plain["data"]["target"]["dev"] = "memory"
    plain["guard"] = guard
    data = data_of("classification")
    listener = Listener()
    recipe = recipe_from(plain)
    result = run(recipe, data=data | {"target.dev": data["source.dev"]}, reporter=listener)  # type: ignore[arg-type]
    show_run(result, recipe)
    shown = capsys.readouterr().out
    card = (result.folder / "README.md").read_text(encoding="utf8")
    page = write_report(result.folder).read_text(encoding="utf8")
    for text in (shown, card, "\n".join(listener.warned), html.unescape(page)):
        assert "ORACLE: the adapted model's checkpoint is selected with the labels of target.dev" in text
    assert "target labels were used for the final scores only" not in card
    named = ModelCard(card).data.eval_results
    marked = ["(checkpoint selected with target labels)" in str(one.metric_name) for one in named]
    assert marked and marked == [guard is False] * len(marked), "the twin's checkpoint is source dev's"
    assert (result.metrics["kept"] == "adapted") == (guard is False)
    assert result.metrics["selection"] == "ORACLE: labels of target.dev"
    done = read_json(result.folder / "stages/1-finetune/done.json")
    assert done["best_oracle_target_dev"] == result.metrics["scores"]["adapted"]["target.dev"]["accuracy"]
    assert "best_oracle_target_dev" not in read_json(result.folder / "stages/source-only/done.json")


# The recipe


def problems(plain: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_from(plain)
    return str(caught.value)


def test_selections_that_lack_their_data_are_refused() -> None:
    plain = recipe_data(Path("x"), Path("x"), selection="bnm")
    del plain["data"]["target"]["unlabelled"]
    assert "selection: 'bnm' scores unlabelled target text. Set data.target.unlabelled" in problems(plain)
    assert "selection: 'oracle' selects with labels of the target. Set data.target.dev" in problems(
        recipe_data(Path("x"), Path("x"), selection="oracle")
    )
    assert "Did you mean 'bnm'" in problems(recipe_data(Path("x"), Path("x"), selection="bmn"))
    assert "max_rows" in problems(recipe_data(Path("x"), Path("x"), selection={"name": "bnm", "max_rows": 1}))


def test_a_guard_that_cannot_work_is_refused() -> None:
    plain = recipe_data(Path("x"), Path("x")) | {"guard": True}
    del plain["data"]["target"]["unlabelled"]
    told = problems(plain)
    assert "a method or stage that adapts, source_only: true, data.target.unlabelled" in told
    assert "unknown key 'max_shares'" in problems(
        recipe_data(Path("x"), Path("x"), methods=("dann",), source_only=True) | {"guard": {"max_shares": 0.9}}
    )


@pytest.mark.parametrize("kind", TASKS)
def test_the_resolved_recipe_shows_the_guard_and_loads_again(kind: str) -> None:
    adapting = recipe_data(Path("x"), Path("x"), kind, methods=("dann",), source_only=True)
    assert resolve(recipe_from(adapting)).guard == GuardSpec()
    assert resolve(recipe_from(adapting | {"guard": {"max_share": 0.9}})).guard == GuardSpec(max_share=0.9)
    assert resolve(recipe_from(adapting | {"guard": False})).guard is False
    assert resolve(recipe_from(adapting | {"source_only": False})).guard is False
    for plain in (adapting, recipe_data(Path("x"), Path("x"), kind)):
        resolved = resolve(recipe_from(plain))
        assert resolve(recipe_from(resolved.model_dump())) == resolved
        assert "guard:" in dump(resolved) and "selection:" in dump(resolved)


def test_the_table_marks_the_model_that_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    from nlp_transfer.screen import show

    interval = {"value": 0.8, "low": 0.7, "high": 0.9}
    scores = {role: {"target.test": {"interval": interval}} for role in ("adapted", "source-only")}
    show(score_table({"headline": "accuracy", "confidence": 0.95, "scores": scores, "kept": "adapted"}))
    shown = capsys.readouterr().out
    assert "adapted (kept)" in shown and "source-only (kept)" not in shown


@pytest.mark.parametrize(("kind", "on"), [("classification", "target"), ("ner", "source"), ("ner", "target")])
def test_what_source_dev_is_judged_for(
    kind: str, on: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of texts, evidence of words; nothing where rows of the target are trained on."""
    asked, decided = [], evaluation.decide

    def decide(*given: Any) -> Any:
        asked.append(given[-2:])
        return decided(*given)

    monkeypatch.setattr(evaluation, "decide", decide)
    stages = [{"name": "finetune", "on": on}]
    few = on == "target"
    recipe = recipe_data(
        tmp_path, tiny_bert, kind, methods=("mcc",), stages=stages, target_labels=few, source_only=True
    )
    data = data_of(kind) | ({"target.train": data_of(kind)["target.test"]} if few else {})
    run(recipe_from(recipe | {"guard": True}), data=data, checked=False)
    silent = {"class_ami", "dev"} if kind == "ner" else {"dev"}
    assert asked == [(silent, "blind" if few else "evidence")]
