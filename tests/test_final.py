"""The model that a comparison ends with: the mean of the picked runs, beside the mean of their twins."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, recipe_data, recipe_for
from pages import read_page
from safetensors.torch import load_file, save_file

from nlp_transfer import jobs, load_predictor, sequence
from nlp_transfer.card.origins import origin_of
from nlp_transfer.comparison import summary
from nlp_transfer.comparison.compare import Comparison, compare
from nlp_transfer.comparison.final import final_of
from nlp_transfer.comparison.plan import judged
from nlp_transfer.comparison.results import Result, read_result
from nlp_transfer.comparison.runs import Member, members
from nlp_transfer.comparison.summary import is_preferred
from nlp_transfer.conclusions import comparison_words
from nlp_transfer.errors import RecipeError
from nlp_transfer.guard import ADAPTED, TWIN
from nlp_transfer.parts import load_recipe, recipe_from
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.recipe.schema import Part, Recipe
from nlp_transfer.recipe.stages import SoupStage
from nlp_transfer.reporter import Reporter
from nlp_transfer.strategies import made_of as with_models

NAMES, SEEDS = ["source_only", "dann", "mcc", "soup"], [1, 2]
Runs = list[tuple[Member, Result]]


@pytest.fixture(scope="module")
def compared(soups: tuple[Comparison, list[str]], tiny_bert: Path) -> tuple[Comparison, dict[str, Runs]]:
    """A comparison, and the finished runs of each strategy."""
    found, _ = soups
    strategies = [StrategySpec(name=name) for name in NAMES]
    planned = members(judged(recipe_for(found.folder.parent, tiny_bert)), strategies, SEEDS, found.folder)
    return found, {name: [(one, read_result(one)) for one in planned if one.strategy == name] for name in NAMES}


def as_seed_3(run: tuple[Member, Result]) -> tuple[Member, Result]:
    """The run of another strategy in the place of a third seed."""
    member, result = run
    return replace(member, strategy="dann", seed=3), replace(result, seed=3)


def made_of(runs: Runs, folder: Path, reporter: Reporter | None = None, better: bool = True) -> dict[str, Any]:
    return final_of(runs, "small", folder, data_of("classification"), reporter or Reporter(), lambda _: better)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def assert_mean(model: Path, others: list[Path]) -> None:
    each = [weights(other) for other in others]
    for name, value in weights(model).items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in each]).mean(0), rtol=1e-5, atol=1e-7)


def sound(runs: Runs) -> Runs:
    """The runs as if none had collapsed: after two steps of training that is a matter of luck."""
    return [(member, replace(result, metrics=result.metrics | {"guard": {}})) for member, result in runs]


def own_models(folder: Path, *names: str) -> list[Path]:
    return [folder / f"runs/{name}/{seed}/stages/1-finetune/model" for name in names for seed in SEEDS]


def test_a_comparison_ends_with_a_model_to_go_on_with(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    picked = runs[found.summary["picked"]]
    told = found.summary.get("final")
    again = made_of(picked, found.folder).get("final")
    assert told == (again and again | {"advised": told["advised"]}), "made once, and found again"
    place = told["run"] if told and told["advised"] else found.summary["picked_run"]
    assert found.picked == found.folder / place
    assert len(load_predictor(found.picked)(["a good film"])) == 1
    assert f"Go on with {place}, the" in comparison_words(found.summary)[0]
    assert f"Go on with {place}, the" in read_page((found.folder / "report.html").read_text(encoding="utf8")).text


def test_it_stands_beside_the_mean_of_the_twins(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    told = made_of(sound(runs["dann"]), found.folder)["final"]
    folder = found.folder / told["run"]
    assert folder.parent == found.folder / "final/dann" and folder.name.startswith("2-seeds-")
    assert (told["seeds"], told["models"], told["twins"]) == (SEEDS, 2, 2)
    assert_mean(folder / "stages/2-soup/model", own_models(found.folder, "dann"))
    assert_mean(folder / "stages/source-only-2/model", own_models(found.folder, "source_only"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["scores"]) == {ADAPTED, TWIN}
    assert told["scores"]["target.test"] == metrics["scores"][ADAPTED]["target.test"]["interval"]
    assert told["gain"] == metrics["gain"]["target.test"] and told["verdict"] == metrics["verdict"]["verdict"]
    card = (folder / "README.md").read_text()
    assert "\n# small\n" in card, "not that of the strategy"
    assert "- soup: mean of the weights of 2 models" in card and "- twin: mean of the weights of 2 models" in card
    final = {"final": told | {"advised": True}}
    assert (
        f"2 runs: accuracy {told['scores']['target.test']['value']:.3f}" in comparison_words(found.summary | final)[0]
    )
    assert "over the mean of their 2 twins" in comparison_words(found.summary | final)[0]


def test_the_mean_of_soups_is_that_of_all_they_are_made_of(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    whole = [(replace(member, recipe=unsettled(member)), result) for member, result in sound(runs["soup"])]
    told = made_of(whole, found.folder)["final"]
    assert (told["models"], told["twins"]) == (6, 2)
    assert_mean(found.folder / told["run"] / "stages/2-soup/model", own_models(found.folder, *NAMES[:3]))
    said = comparison_words(found.summary | {"final": told | {"advised": True}})[0]
    assert "its 2 runs, 6 models in all" in said and "part of it may come of averaging more models" in said


def unsettled(member: Member) -> Recipe:
    """The recipe of a soup of all others, as if none had collapsed."""
    return with_models(member.recipe, [str(other.own_model) for other in member.others])


def test_where_nothing_adapts_there_is_no_twin_and_no_word_of_adaptation(
    compared: tuple[Comparison, dict[str, Runs]],
) -> None:
    found, runs = compared
    told = made_of(runs["source_only"], found.folder)["final"]
    folder = found.folder / told["run"]
    assert_mean(folder / "model", own_models(found.folder, "source_only"))
    assert "gain" not in told and "twins" not in told
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["kept"], set(metrics["scores"])) == (TWIN, {TWIN})
    card = (folder / "README.md").read_text()
    assert "trained on the source domain only" in card and "domain-adaptation" not in card
    assert origin_of(folder) is not None and origin_of(folder).role == TWIN  # type: ignore[union-attr]


def test_what_has_collapsed_takes_no_part(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    collapsed = {"guard": {"collapsed": True}}
    three = [*runs["dann"], as_seed_3(runs["mcc"][0])]
    marked = [
        (member, replace(result, metrics=result.metrics | (collapsed if result.seed == 2 else {"guard": {}})))
        for member, result in three
    ]
    told = made_of(marked, found.folder)["final"]
    assert told["seeds"] == [1, 3]
    both = [found.folder / f"runs/{name}/1/stages/1-finetune/model" for name in ("dann", "mcc")]
    assert_mean(found.folder / told["run"] / "stages/2-soup/model", both)
    assert made_of(marked[:2], found.folder) == {}, "one run has no mean"


def test_what_a_soup_left_out_is_left_out_here_too(
    compared: tuple[Comparison, dict[str, Runs]], tiny_bert: Path, tmp_path: Path
) -> None:
    """And the same command, given again, finds what it has made."""
    found, _ = compared
    shutil.copytree(found.folder / "runs", tmp_path / "run-comparison/runs")
    for name, seed in (("dann", 1), ("dann", 2), ("mcc", 2), ("soup", 1), ("soup", 2)):
        path = tmp_path / f"run-comparison/runs/{name}/{seed}/metrics.json"
        if name == "soup":
            shutil.rmtree(path.parent)
        else:
            metrics = json.loads(path.read_text())
            path.write_text(json.dumps(metrics | {"guard": metrics["guard"] | {"collapsed": True}}))
    recipe = recipe_for(tmp_path, tiny_bert, compare={"strategies": NAMES, "seeds": SEEDS, "picks_by": ["source_dev"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_gains_at_home", lambda runs, *others: runs[0].strategy == "soup")
        patch.setattr(summary, "mean_ranks", lambda scores: {name: float(name != "soup") for name in scores})
        first, second = (compare(recipe, data=data_of("classification")) for _ in range(2))
    assert first.summary == second.summary and first.summary["picked"] == "soup"
    made = load_recipe(first.folder / first.summary["final"]["run"] / "recipe.yaml")
    averaged = [Path(place).parts[-5:-3] for place in made.stages[-1].models]
    assert averaged == [("mcc", "1"), ("source_only", "2")], "with the first run's own"


def test_it_is_advised_unless_the_best_run_is_preferred(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    for better in (True, False):
        told = made_of(sound(runs["dann"]), found.folder, better=better)["final"]
        assert told["advised"] is better
    bad = found.summary | {"final": told}
    assert Comparison(found.folder, bad).picked == found.folder / bad["picked_run"]
    assert "their mean, final/dann/" in comparison_words(bad)[0] and "not preferred" in comparison_words(bad)[0]


def test_the_scores_that_pick_prefer_one_of_two() -> None:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, 200)

    def run_with(errors: float, source_dev: float, strategy: str = "dann") -> Result:
        answers = np.where(draw.random(200) < errors, 1 - truth, truth)
        metrics = {"scores": {ADAPTED: {"source.dev": {"interval": {"value": source_dev}}}}}
        probabilities = np.eye(2)[answers][None] * 0.8 + 0.1
        return Result(strategy, 1, metrics, {}, None, None, None, probabilities)

    voters = [run_with(0.2, 0.9) for _ in range(5)]
    good, bad = run_with(0.0, 0.5), run_with(0.45, 0.8)
    assert is_preferred(good, bad, voters, ["ensemble"]) and not is_preferred(bad, good, voters, ["ensemble"])
    assert is_preferred(bad, good, voters, ["source_dev"]) and not is_preferred(good, bad, voters, ["source_dev"])
    assert is_preferred(good, good, voters, ["ensemble"]), "of equals the mean"


def test_a_collapsed_mean_is_not_advised(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    both = sound(runs["mcc"])
    told = made_of(both, found.folder)["final"]
    path = found.folder / told["run"] / "metrics.json"
    for collapsed in (True, False):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps(metrics | {"guard": metrics.get("guard", {}) | {"collapsed": collapsed}}))
        assert made_of(both, found.folder)["final"]["advised"] is not collapsed


def test_it_is_made_once_and_anew_of_other_runs(
    compared: tuple[Comparison, dict[str, Runs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, runs = compared
    two = sound(runs["dann"])
    told = made_of(two, found.folder)
    path = found.folder / told["final"]["run"] / "metrics.json"
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(jobs, "train", lambda *_: pytest.fail("something was trained"))
    assert made_of(two, found.folder) == told
    more = made_of(sound([*two, as_seed_3(runs["mcc"][0])]), found.folder)
    assert more["final"]["seeds"] == [1, 2, 3] and more["final"]["run"] != told["final"]["run"]
    done = two[1][0].own_model.parent / "done.json"
    text = done.read_text()
    done.write_text(text.replace(json.loads(text)["fingerprint"], "another training"))
    try:
        assert made_of(two, found.folder)["final"]["run"] != told["final"]["run"]
    finally:
        done.write_text(text)
    assert path.stat().st_mtime_ns == before


def test_where_there_is_none_the_comparison_stands(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    listener = Listener()
    other = data_of("classification")
    other["target.test"] = other["target.test"].select(range(len(other["target.test"]) - 1))
    three = sound([*runs["dann"], as_seed_3(runs["dann"][0])])
    assert final_of(three, "small", found.folder, other, listener, lambda _: True) == {}  # type: ignore[arg-type]
    assert listener.warned == ["no final model: data has changed since the runs were made (target.test)"]
    far = sound(runs["mcc"])[:1] + sound([as_seed_3(runs["mcc"][1])])
    weights_of = far[1][0].own_model / "model.safetensors"
    kept = weights_of.read_bytes()
    save_file({name: torch.randn_like(value) for name, value in load_file(weights_of).items()}, weights_of)
    try:
        assert made_of(far, found.folder, listener) == {}  # type: ignore[arg-type]
    finally:
        weights_of.write_bytes(kept)
    assert "was not fine-tuned from the same pretrained weights" in listener.warned[-1]
    assert listener.warned[-1].startswith("no final model: ")
    frozen = [(with_recipe(member, tuning=Part(name="frozen")), result) for member, result in runs["source_only"]]
    assert made_of(frozen, found.folder) == {}, "its runs have one encoder"
    foreign = SoupStage(models=["some/model"])
    own = [(with_recipe(member, stages=[*member.recipe.stages, foreign]), one) for member, one in runs["source_only"]]
    assert made_of(own, found.folder) == {}, "a mean with models from elsewhere"


def test_a_run_of_other_code_is_not_averaged_as_if_it_were_the_same(
    compared: tuple[Comparison, dict[str, Runs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stage is trained anew, as its fingerprint is another one: that is no mean of the runs any more."""
    found, runs = compared
    listener = Listener()
    settings = sequence._settings
    monkeypatch.setattr(sequence, "_settings", lambda space, part: settings(space, part) | {"default": "of today"})
    three = sound([*runs["dann"], as_seed_3(runs["mcc"][1])])
    assert final_of(three, "other", found.folder, data_of("classification"), listener, lambda _: True) == {}  # type: ignore[arg-type]
    assert listener.warned == ["no final model: another version of the code or of the base model has made the runs"]


def with_recipe(member: Member, **changes: Any) -> Member:
    return replace(member, recipe=member.recipe.model_copy(update=changes))


def test_twins_need_a_twin(tiny_bert: Path, tmp_path: Path) -> None:
    stages = ["finetune", {"name": "soup", "models": ["a"], "twins": ["b"]}]
    with pytest.raises(RecipeError, match=r"stages\.1\.twins: .*source_only: false leaves out"):
        recipe_from(recipe_data(tmp_path, tiny_bert, stages=stages, source_only=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "strategy"),
    [("ner", "lora+mcc"), ("multi_label", "mcc"), ("classification", "pretrain"), ("sentiment", "self_train")],
)
def test_every_kind_of_run_has_a_mean(kind: str, strategy: str, tiny_bert: Path, tmp_path: Path) -> None:
    model: dict[str, Any] = {"id": str(tiny_bert)}
    model |= {"extend_vocabulary": {"tokens": 2}} if strategy == "pretrain" else {}
    pretrain = {"name": "pretrain", "block_length": 16, "train": {"max_steps": 2}}
    recipe = recipe_for(tmp_path, tiny_bert, kind, model=model, stages=[pretrain, "finetune"])
    found = compare(recipe, [strategy], SEEDS, data=data_of(kind))
    planned = members(judged(recipe), [StrategySpec(name=n) for n in ("source_only", strategy)], SEEDS, found.folder)
    runs = sound([(one, read_result(one)) for one in planned if one.strategy == strategy])
    listener = Listener()
    told = final_of(runs, "small", found.folder, data_of(kind), listener, lambda _: True)  # type: ignore[arg-type]
    assert listener.warned == []
    assert {"gain", "twins", "advised"} <= set(told["final"])
    assert len(load_predictor(found.folder / told["final"]["run"])(["Anna visited Oslo"])) == 1
