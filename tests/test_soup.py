"""The mean of the weights of several models: the stage, and the strategy that averages all others of its comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, recipe_data, recipe_for
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from nlp_transfer import finding, jobs, load_predictor, models, parts
from nlp_transfer.comparison.compare import Comparison, compare
from nlp_transfer.comparison.runs import members
from nlp_transfer.errors import ModelError, RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.report.record import read_record
from nlp_transfer.running import run
from nlp_transfer.stages.soup import average

NAMES = ["source_only", "dann", "mcc", "soup"]


def bert(seed: int, layers: int = 1) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, num_labels=3, **sizes))


def moved(model: Any, seed: int) -> Any:
    """A copy with slightly other weights, as fine-tuning leaves them."""
    other, draw = bert(0), torch.Generator().manual_seed(seed)
    other.load_state_dict(model.state_dict())
    for parameter in other.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=draw)
    return other


# The mean


def test_every_weight_is_the_mean() -> None:
    first = bert(0)
    others = [moved(first, seed) for seed in (1, 2, 3)]
    weights = [{name: value.clone() for name, value in one.state_dict().items()} for one in (first, *others)]
    average(first, [(str(number), one) for number, one in enumerate(others)])
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in weights]).mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(others[0].state_dict(), weights[1], rtol=0, atol=0)


def test_models_without_a_mean_are_refused() -> None:
    with pytest.raises(ModelError, match="'b' was not fine-tuned from the same pretrained weights"):
        average(bert(0), [("a", moved(bert(0), 1)), ("b", bert(1))])
    with pytest.raises(ModelError, match="'c' has other layers"):
        average(bert(0), [("c", bert(0, layers=2))])


# The stage


def merged(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a run's model, with its adapter merged."""
    resolved = finding.resolve(str(folder))
    labels = models.label_names(resolved) or []
    token = "TokenClassification" in (models.read_config(resolved).architectures or [""])[0]
    kind = "AutoModelForTokenClassification" if token else "AutoModelForSequenceClassification"
    return models.load_model(kind, resolved, models.read_config(resolved, num_labels=len(labels))).model.state_dict()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Any:
    """Runs of one kind and tuning with other seeds, made once."""
    known: dict[tuple[str, str], list[Path]] = {}

    def of(kind: str, tuning: str) -> list[Path]:
        if (kind, tuning) not in known:
            folder = tmp_path_factory.mktemp(f"{kind}-{tuning}")
            known[kind, tuning] = [
                run(
                    recipe_from(recipe_data(folder / str(seed), tiny_bert, kind, tuning) | {"seed": seed}),
                    data=data_of(kind),
                    checked=False,
                ).model
                for seed in (1, 2)
            ]
        return known[kind, tuning]

    return of


@pytest.mark.parametrize(
    ("kind", "tuning"),
    [
        ("classification", "full"),
        pytest.param("multi_label", "full", marks=pytest.mark.slow),
        pytest.param("sentiment", "top_layers", marks=pytest.mark.slow),
        pytest.param("ner", "full", marks=pytest.mark.slow),
        ("ner", "lora"),
    ],
)
def test_a_run_leaves_the_mean_of_its_model_and_of_others(
    kind: str, tuning: str, made: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    others = made(kind, tuning)
    stages = ["finetune", {"name": "soup", "models": [str(place) for place in others]}]
    values = recipe_data(tmp_path / "run", tiny_bert, kind, tuning, stages=stages, source_only=True)
    # Reloaded in a fresh process, too.
    result = run(recipe_from(values | {"guard": False}), data=data_of(kind))
    own = result.folder / "stages/1-finetune/model"
    each = [merged(place) for place in (own, *others)]
    found = load_file(result.model / "model.safetensors")
    assert set(found) <= set(each[0])
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in each]).mean(0), rtol=1e-5, atol=1e-6)
    assert {"adapted", "source-only"} <= set(result.metrics["scores"])
    facts = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text().splitlines()]
    (told,) = (one for one in facts if one["stage"] == "soup")
    assert (told["models"], told["steps"]) == (3, 0)
    assert len(load_predictor(result.model)(["a good film", "Anna visited Oslo"])) == 2
    card = (result.folder / "README.md").read_text()
    assert "mean of the weights of 3 models (Wortsman et al. 2022" in card
    assert str(others[0]) not in card


def test_the_card_tells_what_the_training_of_the_others_warned_of(made: Any, tiny_bert: Path, tmp_path: Path) -> None:
    place = tmp_path / "comparison/runs/dann/2/stages/1-finetune"
    shutil.copytree(made("classification", "full")[0].parent / "stages/1-finetune", place)
    lines = [
        {"stage": "source-only", "step": 4, "warning": "mcc: of the twin."},
        {"stage": "finetune", "step": 3, "loss": 1.0},
        {"stage": "finetune", "step": 4, "warning": "dann: weak."},
    ]
    (place.parents[1] / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    soup = {"name": "soup", "models": [str(place / "model")]}
    recipe = recipe_for(tmp_path / "run", tiny_bert, stages=["finetune", soup], methods=["coral"])
    result = run(recipe.model_copy(update={"guard": False}), data=data_of("classification"), checked=False)
    assert read_record(result.folder).warnings == ["dann/2, finetune, step 4: dann: weak."]
    card = (result.folder / "README.md").read_text(encoding="utf8")
    assert "- Warned in training (dann/2, finetune, step 4: dann: weak)." in card


def test_it_is_made_anew_when_one_of_the_models_is_another(made: Any, tiny_bert: Path, tmp_path: Path) -> None:
    first, second = (shutil.copytree(place, tmp_path / place.parent.name) for place in made("classification", "full"))
    stages = ["finetune", {"name": "soup", "models": [str(first)]}]
    recipe = recipe_from(recipe_data(tmp_path / "run", tiny_bert, stages=stages))
    folder = run(recipe, data=data_of("classification"), checked=False).folder
    (folder / "metrics.json").unlink()
    done, weights = folder / "stages/2-soup/done.json", folder / "stages/2-soup/model/model.safetensors"
    before, old = done.stat().st_mtime_ns, load_file(weights)
    run(recipe, data=data_of("classification"), checked=False)
    assert done.stat().st_mtime_ns == before, "what is done stays"
    (folder / "metrics.json").unlink()
    shutil.copyfile(second / "model.safetensors", first / "model.safetensors")
    run(recipe, data=data_of("classification"), checked=False)
    assert not torch.equal(load_file(weights)["classifier.weight"], old["classifier.weight"])


def test_what_does_not_go_with_the_run_is_told_before_training(
    made: Any, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = made("ner", "full")[0]
    monkeypatch.setattr(jobs, "train", lambda *_: pytest.fail("something was trained"))
    for place, told in ((other, "has the labels"), (tmp_path / "nowhere", "nowhere")):
        stages = ["finetune", {"name": "soup", "models": [str(place)]}]
        with pytest.raises(ModelError, match=told):
            run(recipe_from(recipe_data(tmp_path / "run", tiny_bert, stages=stages)), data=data_of("classification"))


# The strategy


@pytest.fixture
def compared(soups: tuple[Comparison, list[str]]) -> tuple[Path, dict[str, Any], list[str]]:
    found, trained = soups
    return found.folder, found.summary, trained


def test_a_soup_is_made_of_the_own_models_of_its_seed(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, summary, trained = compared
    assert list(summary["strategies"]) == ["source_only", "dann", "mcc", "soup", "ensemble"]
    for seed in (1, 2):
        each = [
            load_file(folder / f"runs/{name}/{seed}/stages/1-finetune/model/model.safetensors") for name in NAMES[:3]
        ]
        found = load_file(folder / f"runs/soup/{seed}/stages/2-soup/model/model.safetensors")
        for name, value in found.items():
            torch.testing.assert_close(value, torch.stack([one[name] for one in each]).mean(0))
        metrics = json.loads((folder / f"runs/soup/{seed}/metrics.json").read_text())
        assert {"adapted", "source-only"} <= set(metrics["scores"]), "it stands beside a twin"
    assert not [place for place in trained if "runs/soup" in place]
    assert {"gain", "mean_rank"} <= set(summary["strategies"]["soup"])
    student = parts.load_recipe(folder / "runs/ensemble/1/recipe.yaml")
    assert not [place for place in student.methods[0].settings["teacher"] if "runs/soup" in place]


def test_a_soup_has_no_vote_in_the_ensemble(compared: tuple[Path, dict[str, Any], list[str]], tiny_bert: Path) -> None:
    folder, summary, _ = compared
    found = compare(
        recipe_for(folder.parent, tiny_bert), NAMES[:3], [1, 2], folder=folder, data=data_of("classification")
    )
    for name in NAMES[:3]:
        assert found.summary["strategies"][name]["label_free"] == summary["strategies"][name]["label_free"]
    assert summary["strategies"]["soup"]["label_free"]["ensemble"] is not None


def test_its_cost_is_that_of_all_that_it_is_made_of(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, summary, _ = compared
    strategies = summary["strategies"]
    assert [strategies[name]["steps"] for name in (*NAMES, "ensemble")] == [2, 2, 2, 6, 8]
    seconds = [json.loads((folder / f"runs/{name}/1/cost.json").read_text())["seconds"] for name in NAMES]
    other = [json.loads((folder / f"runs/{name}/2/cost.json").read_text())["seconds"] for name in NAMES]
    assert strategies["soup"]["seconds"] == pytest.approx(np.mean([sum(seconds), sum(other)]), abs=0.06)
    assert strategies["soup"]["peak_mib"] >= strategies["dann"]["peak_mib"]


def test_collapsed_models_are_left_out(
    compared: tuple[Path, dict[str, Any], list[str]], tiny_bert: Path, tmp_path: Path
) -> None:
    folder, _, _ = compared
    shutil.copytree(folder / "runs", tmp_path / "runs")
    for name, seeds in (("dann", (1, 2)), ("mcc", (2,))):
        for seed in seeds:
            path = tmp_path / f"runs/{name}/{seed}/metrics.json"
            metrics = json.loads(path.read_text())
            path.write_text(json.dumps(metrics | {"guard": metrics["guard"] | {"collapsed": True}}))
    specs = [StrategySpec(name=name) for name in NAMES]
    soups = [one for one in members(recipe_for(folder.parent, tiny_bert), specs, [1, 2], tmp_path) if one.others]
    averaged = [[Path(place).parts[-5] for place in one.recipe.stages[-1].models] for one in soups]
    assert averaged == [["mcc"], ["source_only"]], "with itself where nothing else is left"


def test_soups_that_cannot_be_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, tiny_bert)
    with pytest.raises(RecipeError, match="soup stands alone"):
        compare(recipe, ["dann", "mcc", "soup+mmd"], [1], data=data_of("classification"))
    with pytest.raises(RecipeError, match="at least two strategies beside source_only"):
        compare(recipe, ["dann", "soup"], [1], data=data_of("classification"))


def test_a_finished_comparison_with_a_soup_trains_nothing_more(
    compared: tuple[Path, dict[str, Any], list[str]], tiny_bert: Path
) -> None:
    folder, summary, _ = compared
    recipe, listener = recipe_for(folder.parent, tiny_bert), Listener()
    named = [*NAMES, "ensemble"]
    found = compare(recipe, named, [1, 2], folder=folder, data=data_of("classification"), reporter=listener)
    assert found.summary == summary
    assert listener.said == []
