"""The model that a comparison ends with: the mean of the picked runs, beside the mean of their twins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Listener, data_of, recipe_for
from safetensors.torch import load_file

from nlp_transfer import jobs, load_predictor
from nlp_transfer.comparison import final
from nlp_transfer.comparison.compare import Comparison
from nlp_transfer.comparison.final import final_of
from nlp_transfer.comparison.plan import judged
from nlp_transfer.comparison.results import Result, read_result
from nlp_transfer.comparison.runs import Member, members
from nlp_transfer.conclusions import comparison_words
from nlp_transfer.errors import ModelError, RunError
from nlp_transfer.guard import ADAPTED, TWIN
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.reporter import Reporter

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


def made_of(runs: Runs, folder: Path, reporter: Reporter | None = None) -> dict[str, Any]:
    return final_of(runs, folder, data_of("classification"), reporter or Reporter())


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def assert_mean(model: Path, others: list[Path]) -> None:
    each = [weights(other) for other in others]
    for name, value in weights(model).items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in each]).mean(0), rtol=1e-5, atol=1e-7)


def sound(runs: Runs) -> Runs:
    """The runs as if none had collapsed: after two steps of training that is a matter of luck."""
    return [(member, replace(result, metrics=result.metrics | {"guard": {}})) for member, result in runs]


def test_a_comparison_ends_with_the_mean_of_the_picked_runs(
    compared: tuple[Comparison, dict[str, Runs]], tiny_bert: Path
) -> None:
    found, runs = compared
    told, picked = found.summary["final"], found.summary["picked"]
    own = [member for member, result in runs[picked] if not result.collapsed]
    assert told["run"] == f"final/{picked}/{'-'.join(str(one.seed) for one in own)}"
    metrics = json.loads((found.folder / told["run"] / "metrics.json").read_text())
    assert told["scores"]["target.test"] == metrics["scores"][ADAPTED]["target.test"]["interval"]
    assert found.picked == found.folder / (told["run"] if told["advised"] else found.summary["picked_run"])
    assert len(load_predictor(found.picked)(["a good film"])) == 1
    assert any(
        f"Go on with {found.picked.relative_to(found.folder)}," in line for line in comparison_words(found.summary)
    )
    assert f"{told['run']}, the mean" in (found.folder / "report.html").read_text() or not told["advised"]


def test_it_stands_beside_the_mean_of_the_twins(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    told = made_of(sound(runs["dann"]), found.folder)["final"]
    folder = found.folder / told["run"]
    assert (told["run"], told["seeds"], told["models"]) == ("final/dann/1-2", SEEDS, 2)
    assert_mean(
        folder / "stages/2-soup/model", [found.folder / f"runs/dann/{seed}/stages/1-finetune/model" for seed in SEEDS]
    )
    assert_mean(
        folder / "stages/source-only-2/model", [found.folder / f"runs/source_only/{seed}/model" for seed in SEEDS]
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["scores"]) == {ADAPTED, TWIN}
    assert metrics["steps"][ADAPTED] == metrics["steps"][TWIN] == 2, "both are means of as many"
    assert told["gain"] == metrics["gain"]["target.test"] and told["verdict"] == metrics["verdict"]["verdict"]
    assert "adapted to a target domain" in (folder / "README.md").read_text() or metrics["kept"] == TWIN


def test_the_mean_of_soups_is_that_of_all_they_are_made_of(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    whole = [(replace(member, recipe=_unsettled(member)), result) for member, result in sound(runs["soup"])]
    told = made_of(whole, found.folder)["final"]
    assert told["models"] == 6
    each = [found.folder / f"runs/{name}/{seed}/stages/1-finetune/model" for name in NAMES[:3] for seed in SEEDS]
    assert_mean(found.folder / told["run"] / "stages/2-soup/model", each)


def _unsettled(member: Member) -> Any:
    from nlp_transfer.strategies import made_of as with_models

    return with_models(member.recipe, [str(other.own_model) for other in member.others])


def test_nothing_adapted_has_no_twin_and_says_so(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    told = made_of(runs["source_only"], found.folder)["final"]
    folder = found.folder / told["run"]
    assert_mean(folder / "model", [found.folder / f"runs/source_only/{seed}/model" for seed in SEEDS])
    assert "gain" not in told and set(json.loads((folder / "metrics.json").read_text())["scores"]) == {ADAPTED}
    assert "trained without any text of a target domain" in (folder / "README.md").read_text()


def test_what_has_collapsed_takes_no_part(compared: tuple[Comparison, dict[str, Runs]]) -> None:
    found, runs = compared
    collapsed = {"guard": {"collapsed": True}}
    three = [*runs["dann"], as_seed_3(runs["mcc"][0])]
    marked = [
        (member, replace(result, metrics=result.metrics | (collapsed if result.seed == 2 else {"guard": {}})))
        for member, result in three
    ]
    told = made_of(marked, found.folder)["final"]
    assert (told["run"], told["seeds"]) == ("final/dann/1-3", [1, 3])
    assert made_of(marked[:2], found.folder) == {}, "one run has no mean"


def test_it_is_advised_unless_it_is_worse_at_home_than_every_run(
    compared: tuple[Comparison, dict[str, Runs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, runs = compared
    for value, advised in ((0.0, True), (1.1, False)):
        monkeypatch.setattr(Result, "value", lambda self, split, value=value: value)
        told = made_of(runs["source_only"], found.folder)["final"]
        assert told["advised"] is advised
    summary = found.summary | {"final": told}
    assert Comparison(found.folder, summary).picked == found.folder / summary["picked_run"]
    assert "worse on source dev than each of them" in comparison_words(summary)[0]


def test_it_is_made_once_and_again_for_more_seeds(
    compared: tuple[Comparison, dict[str, Runs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, runs = compared
    two = sound(runs["dann"])
    told = made_of(two, found.folder)
    assert told["final"]["run"] == "final/dann/1-2"
    path = found.folder / "final/dann/1-2/metrics.json"
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(jobs, "train", lambda *_: pytest.fail("something was trained"))
    assert made_of(two, found.folder) == told
    three = sound([*two, as_seed_3(runs["mcc"][0])])
    assert made_of(three, found.folder)["final"]["run"] == "final/dann/1-2-3"
    assert path.stat().st_mtime_ns == before
    other = [(replace(member, recipe=member.recipe.model_copy(update={"seed": 9})), result) for member, result in two]
    with pytest.raises(RunError, match="another recipe has trained: final/dann/1-2"):
        made_of(other, found.folder)


def test_runs_without_a_mean_are_told(
    compared: tuple[Comparison, dict[str, Runs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, runs = compared
    listener = Listener()

    def refused(*_: Any) -> None:
        raise ModelError("too far apart")

    with monkeypatch.context() as patch:
        patch.setattr(final, "run_all", refused)
        assert made_of(runs["source_only"], found.folder, listener) == {}  # type: ignore[arg-type]
    assert listener.warned == ["the picked runs have no mean: too far apart"]
    frozen = [
        (
            replace(
                member,
                recipe=member.recipe.model_copy(
                    update={"tuning": member.recipe.tuning.model_copy(update={"name": "frozen"})}
                ),
            ),
            result,
        )
        for member, result in runs["source_only"]
    ]
    assert made_of(frozen, found.folder) == {}, "its runs have one encoder"
