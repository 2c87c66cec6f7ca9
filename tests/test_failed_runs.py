"""A comparison in which the training of some strategies fails: the others are compared, and nothing is hidden."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Listener, data_of, recipe_data
from pages import read_page

from nlp_transfer.comparison import runs
from nlp_transfer.comparison.compare import Comparison, compare
from nlp_transfer.comparison.failures import failed_words
from nlp_transfer.comparison.results import Result
from nlp_transfer.comparison.statistics import simultaneous_gains
from nlp_transfer.comparison.summary import summarise
from nlp_transfer.errors import ModelError, RunError, TrainingError
from nlp_transfer.intervals import ratio
from nlp_transfer.methods.base import Method
from nlp_transfer.parts import METHODS, recipe_from
from nlp_transfer.recipe.comparing import CompareSpec
from nlp_transfer.recipe.yaml import read_text
from nlp_transfer.screen import show_comparison
from nlp_transfer.units import Sizes

DATA = data_of("classification")


class Brittle(Method):
    """Diverges at the first step, where it is told to."""

    broken = False

    def __init__(self, sizes: Sizes, **shared: Any):
        super().__init__(**shared)

    def terms(self, step: Any) -> dict[str, torch.Tensor]:
        return {"term": self.nothing(step) * (float("nan") if Brittle.broken else 1.0)}


KNOWN = METHODS | {"brittle": Brittle}
WHY = "step 0: loss_brittle_term is not a finite number. Lower the learning rate"


@pytest.fixture
def break_where(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], bool]], None]:
    """Says of which runs the training fails."""
    real = runs.run

    def set_rule(rule: Callable[[Any], bool]) -> None:
        def run(recipe: Any, **settings: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(Brittle, "broken", rule(recipe))
                return real(recipe, **settings)

        monkeypatch.setattr(runs, "run", run)

    return set_rule


def compared(
    folder: Path, base: Path, names: list[str], seeds: list[int], listener: Listener | None = None, **tune: Any
) -> Comparison:
    values = recipe_data(folder / "run", base)
    values.pop("source_only")
    values["compare"] = {"strategies": names, "seeds": seeds} | ({"tune": tune} if tune else {})
    return compare(recipe_from(values, (), KNOWN), data=DATA, reporter=listener, methods=KNOWN)


def begun(listener: Listener) -> list[str]:
    return [line for line in listener.said if line.startswith("──")]


def averaged(soup: Path) -> list[str]:
    values, _ = read_text((soup / "recipe.yaml").read_text(), "recipe")
    return [Path(place).parts[-5] for place in values["stages"][-1]["models"]]


@pytest.mark.slow
def test_a_strategy_that_fails_with_one_seed_is_judged_by_the_others(
    tmp_path: Path, tiny_bert: Path, break_where: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names, listener = ["brittle", "mcc", "soup"], Listener()
    break_where(lambda recipe: recipe.seed == 2)
    found = compared(tmp_path, tiny_bert, names, [1, 2], listener)
    failed = found.summary["failed"]
    assert list(failed) == ["brittle"] and list(failed["brittle"]) == ["2"]
    assert failed["brittle"]["2"].startswith(WHY)
    assert json.loads((found.folder / "comparison.json").read_text()) == found.summary
    assert found.report.is_file()
    assert {name: one["runs"] for name, one in found.summary["strategies"].items()} == {
        "source_only": 2,
        "brittle": 1,
        "mcc": 2,
        "soup": 2,
    }
    first = json.loads((found.folder / "runs/brittle/1/metrics.json").read_text())
    entry = found.summary["strategies"]["brittle"]
    assert entry["scores"]["target.test"]["values"] == [first["scores"]["adapted"]["target.test"]["interval"]["value"]]
    assert entry["gain"]["value"] == pytest.approx(first["gain"]["target.test"]["value"])
    assert listener.warned == [f"brittle, seed 2: training has failed. {failed['brittle']['2']}"]
    told = f"Training of brittle has failed with seed 2, so that it is judged by 1 of 2 seeds. {failed['brittle']['2']}"
    show_comparison(found)
    page = " ".join(read_page(found.report.read_text(encoding="utf8")).text.split())
    assert told in " ".join(capsys.readouterr().out.split()) and told in page
    assert f"brittle {entry['scores']['target.test']['values'][0]:.3f} failed mcc" in page
    assert [averaged(found.folder / f"runs/soup/{seed}") for seed in (1, 2)] == [["brittle", "mcc"], ["mcc"]]

    again = Listener()
    assert compared(tmp_path, tiny_bert, names, [1, 2], again).summary == found.summary
    assert begun(again) == ["── brittle, seed 2"], "it is tried again, once"

    break_where(lambda recipe: False)
    with pytest.raises(RunError, match=r"what another recipe has trained: runs/soup/2\. "):
        compared(tmp_path, tiny_bert, names, [1, 2])
    shutil.rmtree(found.folder / "runs/soup/2")
    whole = compared(tmp_path, tiny_bert, names, [1, 2]).summary
    assert "failed" not in whole and whole["strategies"]["brittle"]["runs"] == 2
    assert averaged(found.folder / "runs/soup/2") == ["brittle", "mcc"]
    assert not list(found.folder.rglob("failed.json"))


def test_a_strategy_that_never_comes_to_an_end_is_left_out_and_told(
    tmp_path: Path, tiny_bert: Path, break_where: Any
) -> None:
    break_where(lambda recipe: True)
    summary = compared(tmp_path, tiny_bert, ["brittle", "mcc"], [1, 2]).summary
    assert list(summary["strategies"]) == ["source_only", "mcc"]
    assert sorted(one["mean_rank"] for one in summary["strategies"].values())[-1] <= 2
    assert list(summary["failed"]["brittle"]) == ["1", "2"]
    (told,) = failed_words(summary)
    assert told.startswith(
        f"Training of brittle has failed with seeds 1, 2, so that it is in no table, not ranked and not picked. {WHY}"
    )


def test_a_model_that_a_stage_cannot_use_ends_its_strategy_alone(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terms(self: Any, step: Any) -> Any:
        raise ModelError("its tokenizer has no mask token")

    monkeypatch.setattr(Brittle, "terms", terms)
    summary = compared(tmp_path, tiny_bert, ["brittle", "mcc"], [1]).summary
    assert list(summary["strategies"]) == ["source_only", "mcc"]
    assert summary["failed"] == {"brittle": {"1": "its tokenizer has no mask token"}}


def test_without_source_only_there_is_nothing_to_compare(tmp_path: Path, tiny_bert: Path, break_where: Any) -> None:
    listener = Listener()

    def rule(recipe: Any) -> bool:
        if recipe.name == "source_only":
            raise TrainingError("step 5: loss_task is not a finite number.")
        return False

    break_where(rule)
    message = (
        r"^source_only, seed 1: training has failed, and nothing can be compared without it\. step 5: loss_task is not"
    )
    (tmp_path / "run-comparison/runs/source_only/1").mkdir(parents=True)
    with pytest.raises(TrainingError, match=message):
        compared(tmp_path, tiny_bert, ["mcc"], [1, 2], listener)
    assert begun(listener) == ["── source_only, seed 1"]


def test_what_fails_in_another_process_is_not_tried_by_this_one(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = recipe_data(tmp_path / "run", tiny_bert)
    member, looks = runs.Member("dann", 1, recipe_from(values)), []
    member.folder.mkdir()

    def fail_elsewhere(times: int) -> None:
        (member.folder / "failed.json").write_text(json.dumps({"error": "step 3", "times": times}))

    def busy(*args: Any, **settings: Any) -> Any:
        looks.append(1)
        fail_elsewhere(2)
        raise runs.RunBusyError("in use")

    fail_elsewhere(1)
    monkeypatch.setattr(runs, "run", busy)
    monkeypatch.setattr(runs, "WAIT", 0.0)
    runs.run_all([member])
    assert len(looks) == 1 and member.failure == "step 3"


@pytest.mark.slow
def test_a_search_of_which_no_trial_ends_leaves_its_strategy_out(
    tmp_path: Path, tiny_bert: Path, break_where: Any
) -> None:
    break_where(lambda recipe: True)
    space = {"train.warmup": {"low": 0.01, "high": 0.1}}
    found = compared(tmp_path, tiny_bert, ["brittle"], [1, 2], trials=2, space=space)
    assert "brittle failed failed" in " ".join(read_page(found.report.read_text(encoding="utf8")).text.split())
    assert list(found.summary["strategies"]) == list(found.summary["tuned"]) == ["source_only"]
    why = found.summary["failed"]["brittle"]
    assert list(why) == ["1", "2"]
    assert why["1"].startswith(f"no trial of its search came to an end (2 were tried); the first: {WHY}")
    listener = Listener()
    assert compared(tmp_path, tiny_bert, ["brittle"], [1, 2], listener, trials=2, space=space).summary == found.summary
    assert begun(listener) == [], "the trials have had their turn"


@pytest.mark.parametrize(("failed", "picked"), [([], "dann"), ([3], "dann"), ([2, 3], "source_only")])
def test_what_has_failed_with_half_of_the_seeds_is_not_picked(failed: list[int], picked: str) -> None:
    spec = CompareSpec.model_validate(
        {"strategies": ["source_only", "dann"], "seeds": [1, 2, 3], "picks_by": ["source_dev"]}
    )
    cost = {"seconds": 1.0, "steps": 2, "peak_mib": None}

    def result(name: str, seed: int, value: float) -> Result:
        scores = {"source-only": {"source.dev": {"interval": {"value": value}}}}
        return Result(name, seed, {"scores": scores, "headline": "accuracy"}, cost, None, None, None)

    results = [result("source_only", seed, 0.5) for seed in spec.seeds]
    results += [result("dann", seed, 0.9) for seed in spec.seeds if seed not in failed]
    why = {"dann": {str(seed): "step 0" for seed in failed}} if failed else {}
    summary = summarise(results, spec, recipe_from(recipe_data(Path("run"), Path("model"))), why)
    assert summary["picked"] == picked
    assert summary.get("failed", {}) == why


# Statistics


def test_a_gain_is_that_over_the_seeds_with_which_a_strategy_has_run() -> None:
    draw = np.random.default_rng(0)
    right = draw.random((4, 2, 400)) < np.array([0.8, 0.8, 0.7, 0.7])[:, None, None]
    counts = np.stack([right, np.ones_like(right)], -1).astype(float)
    own, base = counts[:2], counts[2:]
    own[1, 1] = 0.0  # whatever stands there
    ran = np.array([[True, True], [True, False]])
    both, one = simultaneous_gains(own, base, ratio, resamples=2000, ran_MS=ran)
    assert one.value == pytest.approx(right[1, 0].mean() - right[3, 0].mean())
    (alone,) = simultaneous_gains(own[1:, :1], base[1:, :1], ratio, resamples=2000)
    ratio_of_widths = (one.high - one.low) / (alone.high - alone.low)
    assert 1 < ratio_of_widths < 1.3, "wider by as much as two are looked at"
    (other,) = simultaneous_gains(own[:1], base[:1], ratio, resamples=2000)
    assert both.value == pytest.approx(other.value)


@pytest.mark.parametrize("missing", [1, 2])
def test_intervals_hold_what_they_promise_where_seeds_are_missing(missing: int) -> None:
    """Of 120 pairs of intervals at 95 %, 106 cover both gains of 0 with a probability of 99.9 % if they are right."""
    covered, ran = 0, np.ones((2, 3), dtype=bool)
    ran[1, :missing] = False
    for trial in range(120):
        draw = np.random.default_rng([trial, missing])
        right = draw.random((4, 3, 400)) < 0.7
        counts = np.stack([right, np.ones_like(right)], -1).astype(float)
        gains = simultaneous_gains(counts[:2], counts[2:], ratio, resamples=200, seed=trial, ran_MS=ran)
        covered += all(gain.low <= 0 <= gain.high for gain in gains)
    assert covered >= 106
