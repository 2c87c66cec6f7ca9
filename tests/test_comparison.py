"""A comparison: strategies become recipes, runs are shared out and kept, and the table says how sure it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import Listener, data_of, recipe_data, recipe_for
from pages import read_page

from nlp_transfer import jobs, parts
from nlp_transfer.comparison import runs, search
from nlp_transfer.comparison.compare import Comparison, compare
from nlp_transfer.comparison.gains import _sets_training, regret_of
from nlp_transfer.comparison.plan import spec_of
from nlp_transfer.comparison.results import Result
from nlp_transfer.comparison.statistics import mean_ranks, simultaneous_gains
from nlp_transfer.comparison.summary import _best_run, _gains_at_home, _judges, _means
from nlp_transfer.errors import RecipeError, RunBusyError, RunError
from nlp_transfer.hashing import file_sha256
from nlp_transfer.intervals import Interval, ratio
from nlp_transfer.parts import load_recipe, recipe_from
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.recipe.schema import EvaluateSpec, Part
from nlp_transfer.runfolder import locked
from nlp_transfer.running import RunResult
from nlp_transfer.screen import show_comparison
from nlp_transfer.strategies import strategy_recipe
from nlp_transfer.tasks.base import Score

# Strategies


def test_a_strategy_is_the_recipe_with_other_parts(tmp_path: Path, tiny_bert: Path) -> None:
    pretrain = {"name": "pretrain", "block_length": 16, "train": {"max_steps": 2}}
    recipe = recipe_for(
        tmp_path, tiny_bert, methods=[{"name": "dann", "max_lambda": 0.3}], stages=[pretrain, "finetune"]
    )

    def of(name: str, *overrides: str) -> Any:
        return strategy_recipe(recipe, StrategySpec(name=name, set=list(overrides)), 5, "out")

    plain = of("source_only")
    assert (plain.methods, [stage.name for stage in plain.stages]) == ([], ["finetune"])
    assert (plain.seed, plain.output) == (5, "out")
    both = of("pretrain+dann", "dann.hidden=8", "train.warmup=0.2")
    assert both.methods[0].settings == {"max_lambda": 0.3, "hidden": 8}
    assert both.stages[0].block_length == 16
    assert both.train.warmup == 0.2
    assert both.train.learning_rate == plain.train.learning_rate == 2e-3
    frozen = of("frozen")
    assert frozen.tuning.name == "frozen"
    assert frozen.train.learning_rate is None  # that of full fine-tuning says nothing about a head
    called_so = recipe.model_copy(update={"name": "pretrain"})
    assert frozen == strategy_recipe(called_so, StrategySpec(name="frozen"), 5, "out")
    assert of("lora+dann").train.max_steps == 2
    long = recipe.model_copy(
        update={
            "tuning": Part(name="frozen"),
            "methods": [],
            "train": recipe.train.model_copy(update={"epochs": 20, "max_steps": None, "warmup": 0.3}),
        }
    )
    full = strategy_recipe(long, StrategySpec(name="full+mcc"), 1, "out").train
    assert (full.epochs, full.learning_rate, full.warmup) == (None, None, 0.3)  # 20 epochs are those of a head


@pytest.mark.parametrize(
    ("name", "message"),
    [("dan", "Did you mean 'dann'"), ("frozen+lora", "two tunings"), ("frozen+dann", "never changes them")],
)
def test_strategies_that_cannot_be_are_refused(name: str, message: str, tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        compare(recipe_for(tmp_path, tiny_bert), [name], folder=tmp_path / "c", data=data_of("classification"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("names", "seeds", "where", "message"),
    [
        (["dann", ""], [1], "--strategies", "a strategy without a name in 'dann,'"),
        ([], [1], "--strategies", "no strategy is named"),
        (["dann", "dann"], [1], "compare", "two strategies are called 'dann'"),
        (["dann"], [1, 1], "compare", "seeds holds a number twice"),
        (["dann"], [-1], "compare.seeds.0", "expected a whole number at least 0"),
    ],
)
def test_what_is_compared_is_checked_as_a_recipe_is(
    names: list[str], seeds: list[int], where: str, message: str, tmp_path: Path, tiny_bert: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        spec_of(recipe_for(tmp_path, tiny_bert), names, seeds, parts.METHODS)
    (problem,) = caught.value.problems
    assert (problem.where, message in problem.message) == (where, True), problem


def test_taggers_that_see_other_words_have_no_ensemble(tmp_path: Path, tiny_bert: Path) -> None:
    stages = [{"name": "finetune", "on": "target"}]
    cut = {"name": "dann", "set": ["data.max_length=32"]}
    for picks, told in (({}, None), ({"picks_by": ["ensemble"]}, "compares answers word by word")):
        section = {"strategies": [cut], "seeds": [1, 2]} | picks
        values = recipe_data(tmp_path, tiny_bert, "ner", stages=stages, target_labels=True) | {"compare": section}
        recipe = recipe_from(values)
        if told is None:
            assert spec_of(recipe, None, None, parts.METHODS).picks_by == ["source_dev"]
            continue
        with pytest.raises(RecipeError, match=told):
            spec_of(recipe, None, None, parts.METHODS)


def test_a_recipe_that_says_nothing_to_compare_is_told_what_to_add(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(RecipeError, match="--strategies"):
        compare(recipe_for(tmp_path, tiny_bert))


# Statistics


def test_gains_of_one_strategy_are_those_of_a_plain_bootstrap() -> None:
    draw = np.random.default_rng(0)
    right = draw.random((2, 1, 400)) < np.array([0.8, 0.7])[:, None, None]
    counts = np.stack([right, np.ones_like(right)], -1).astype(float)
    (gain,) = simultaneous_gains(counts[:1], counts[1:], ratio, resamples=4000)
    deltas = []
    for _ in range(4000):
        drawn = right[:, 0, draw.integers(400, size=400)].mean(1)
        deltas.append(drawn[0] - drawn[1])
    estimate = right[0].mean() - right[1].mean()
    reach = np.quantile(np.abs(np.array(deltas) - estimate) / np.std(deltas), 0.95) * np.std(deltas)
    assert gain.value == pytest.approx(estimate)
    assert (gain.low, gain.high) == pytest.approx((estimate - reach, estimate + reach), abs=0.004)


def seeds_that_swing(draw: np.random.Generator, seeds: int, swing: float, rows: int = 400) -> np.ndarray:
    """Counts of a strategy whose share of right answers is 0.7, give or take ``swing`` from seed to seed."""
    right = draw.random((seeds, rows)) < draw.normal(0.7, swing, seeds)[:, None]
    return np.stack([right, np.ones_like(right)], -1).astype(float)[None]


def test_where_seeds_decide_the_interval_is_that_of_a_t_test_over_seeds() -> None:
    from scipy.stats import ttest_1samp

    draw = np.random.default_rng(1)
    counts, base = seeds_that_swing(draw, 4, 0.15, rows=20000), seeds_that_swing(draw, 4, 0.15, rows=20000)
    (gain,) = simultaneous_gains(counts, base, ratio, resamples=400)
    by_seed = (counts[0] - base[0])[..., 0].mean(-1)
    expected = ttest_1samp(by_seed, 0).confidence_interval(0.95)
    # The quantile of the deviations is estimated, too: within a fifth of the width.
    assert (gain.low, gain.high) == pytest.approx(
        (expected.low, expected.high), abs=0.2 * (expected.high - expected.low)
    )


def test_intervals_end_where_gains_do() -> None:
    counts = np.ones((1, 2, 50, 2))
    counts[0, 0, :, 0] = 0.0
    base = np.ones((1, 2, 50, 2))
    base[..., 0] = 0.5
    (gain,) = simultaneous_gains(counts, base, ratio, resamples=50)
    assert (gain.value, gain.low, gain.high) == (0.0, -1.0, 1.0)


@pytest.mark.parametrize("swing", [0.0, 0.1])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_what_they_promise_however_few_the_seeds(seeds: int, swing: float) -> None:
    """Of 120 intervals at 95 %, 106 cover the true gain of 0 with a probability of 99.9 % if they are right."""
    covered = 0
    for trial in range(120):
        draw = np.random.default_rng([trial, seeds])
        counts, base = (seeds_that_swing(draw, seeds, swing) for _ in range(2))
        (gain,) = simultaneous_gains(counts, base, ratio, resamples=200, seed=trial)
        covered += gain.low <= 0 <= gain.high
    assert covered >= 106


def test_intervals_of_many_strategies_hold_at_once() -> None:
    """Of eight strategies without any gain, hardly ever is one called better; unadjusted intervals often do."""
    wrong = {"together": 0, "alone": 0}
    for trial in range(40):
        draw = np.random.default_rng(trial)
        right = draw.random((9, 1, 200)) < 0.8
        counts = np.stack([right, np.ones_like(right)], -1).astype(float)
        base = np.repeat(counts[:1], 8, 0)
        found = simultaneous_gains(counts[1:], base, ratio, resamples=150, seed=trial)
        alone = [simultaneous_gains(counts[n : n + 1], counts[:1], ratio, resamples=150)[0] for n in range(1, 9)]
        wrong["together"] += any(gain.low > 0 or gain.high < 0 for gain in found)
        wrong["alone"] += any(gain.low > 0 or gain.high < 0 for gain in alone)
    assert wrong["together"] <= 6
    assert wrong["alone"] > 2 * wrong["together"]


def test_counts_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same rows"):
        simultaneous_gains(np.zeros((1, 1, 4, 2)), np.zeros((1, 1, 5, 2)), ratio)


def test_mean_ranks_share_ties_and_put_what_is_no_number_last() -> None:
    scores = {"a": {"x": 0.5, "y": 2.0}, "b": {"x": 0.5, "y": float("nan")}, "c": {"x": 0.1, "y": 3.0}}
    assert mean_ranks(scores) == {"a": (1.5 + 2) / 2, "b": (1.5 + 3) / 2, "c": (3 + 1) / 2}


# Runs


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, dict[str, Any], Listener]:
    folder = tmp_path_factory.mktemp("comparison")
    listener = Listener()
    recipe = recipe_for(folder, tiny_bert)
    found = compare(recipe, ["dann", "frozen"], [1, 2], data=data_of("classification"), reporter=listener)
    return found.folder, found.summary, listener


def test_every_strategy_and_seed_has_its_run(compared: tuple[Path, dict[str, Any], Listener]) -> None:
    folder, summary, _ = compared
    assert folder.name == "run-comparison"
    found = {str(path.parent.relative_to(folder / "runs")) for path in folder.glob("runs/*/*/metrics.json")}
    assert found == {f"{name}/{seed}" for name in ("source_only", "dann", "frozen") for seed in (1, 2)}
    assert json.loads((folder / "comparison.json").read_text()) == summary
    assert list(summary["strategies"]) == ["source_only", "dann", "frozen"]


def test_its_report_tells_what_was_found(compared: tuple[Path, dict[str, Any], Listener]) -> None:
    folder, summary, _ = compared
    page = read_page((folder / "report.html").read_text(encoding="utf8"))
    for name, entry in summary["strategies"].items():
        for value in entry["scores"]["target.test"]["values"]:
            assert f"{value:.3f}" in page.text, name
    again = load_recipe(folder / "compare.yaml")
    assert again.compare is not None and again.output is None
    assert ([one.label for one in again.compare.strategies], again.compare.seeds) == (
        list(summary["strategies"]),
        [1, 2],
    )


def test_the_twin_is_trained_once_a_seed(compared: tuple[Path, dict[str, Any], Listener]) -> None:
    folder, _, listener = compared
    assert [title for title in listener.bars if title == "source-only"] == []
    one, other = (
        folder / f"runs/{place}/model.safetensors"
        for place in ("source_only/1/model", "dann/1/stages/source-only/model")
    )
    assert one.read_bytes() == other.read_bytes()


def test_the_table_holds_what_was_measured(compared: tuple[Path, dict[str, Any], Listener]) -> None:
    folder, summary, _ = compared
    entry = summary["strategies"]["dann"]
    metrics = [json.loads((folder / f"runs/dann/{seed}/metrics.json").read_text()) for seed in (1, 2)]
    values = [one["scores"]["adapted"]["target.test"]["interval"]["value"] for one in metrics]
    assert entry["scores"]["target.test"]["values"] == values
    assert entry["scores"]["target.test"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert entry["gain"]["value"] == pytest.approx(np.mean([one["gain"]["target.test"]["value"] for one in metrics]))
    assert entry["gain"]["verdict"] in ("helped", "no evidence", "hurt")
    assert entry["collapsed"] == sum(one["guard"]["collapsed"] for one in metrics)
    assert "gain" not in summary["strategies"]["source_only"]
    assert summary["picked"] in summary["strategies"]
    assert Path(summary["picked_run"]).parent == Path("runs") / summary["picked"]
    tests = {name: one["scores"]["target.test"]["mean"] for name, one in summary["strategies"].items()}
    regret = summary["regret"]
    assert regret["value"] == pytest.approx(max(tests.values()) - tests[summary["picked"]])
    assert regret["low"] <= regret["value"] <= regret["high"]


def test_finished_runs_are_kept_and_others_added(
    compared: tuple[Path, dict[str, Any], Listener], tiny_bert: Path
) -> None:
    folder, _, _ = compared
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/metrics.json")}
    listener = Listener()
    recipe = recipe_for(folder.parent / folder.name.removesuffix("-comparison"), tiny_bert)
    found = compare(
        recipe, ["dann", "frozen"], [1, 2, 3], folder=folder, data=data_of("classification"), reporter=listener
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found.summary["strategies"]["frozen"]["runs"] == 3
    assert [line for line in listener.said if line.startswith("──") and "the mean" not in line] == [
        f"── {name}, seed 3" for name in ("source_only", "dann", "frozen")
    ]


def test_runs_keep_what_is_compared_unless_it_has_collapsed(compared: tuple[Path, dict[str, Any], Listener]) -> None:
    """So the run of what is picked holds its model, whatever single scores would have said of it."""
    folder, _, _ = compared
    for seed in (1, 2):
        metrics = json.loads((folder / f"runs/dann/{seed}/metrics.json").read_text())
        assert metrics["kept"] == ("source-only" if metrics["guard"]["collapsed"] else "adapted")


def test_too_few_models_for_an_ensemble_are_picked_among_by_something_else(tmp_path: Path, tiny_bert: Path) -> None:
    texts, words = (recipe_for(tmp_path, tiny_bert, kind) for kind in ("classification", "ner"))

    def result(strategy: str, collapsed: bool = False, of_others: bool = False) -> Result:
        metrics = {"scores": {"adapted": {}}, "guard": {"collapsed": collapsed}}
        return Result(strategy, 1, metrics, {}, None, None, None, np.ones((1, 4, 2)) / 2, of_others)

    three = [result("source_only"), result("dann"), result("mcc")]
    assert _judges(three, ["ensemble", "dev"], texts) == ["ensemble", "dev"]
    assert _judges([*three[:2], result("mcc", collapsed=True)], ["ensemble", "dev"], texts) == ["class_ami", "dev"]
    assert _judges([*three[:2], result("ensemble", of_others=True)], ["ensemble"], texts) == ["class_ami"]
    assert _judges(three[:2], ["ensemble"], words) == ["source_dev"]


def test_what_picks_where_nothing_is_said(tmp_path: Path, tiny_bert: Path) -> None:
    """Source dev tells of taggers that learn labels of the target what they forget, not what they learn."""
    taught = recipe_data(tmp_path, tiny_bert, "ner", stages=[{"name": "finetune", "on": "target"}], target_labels=True)
    recipes = [recipe_for(tmp_path, tiny_bert, kind) for kind in ("classification", "ner")] + [recipe_from(taught)]
    found = [
        [spec_of(recipe, ["dann"], seeds, parts.METHODS).picks_by for seeds in ([1], [1, 2])] for recipe in recipes
    ]
    assert found == [
        [["class_ami"], ["ensemble"]],
        [["source_dev"], ["source_dev"]],
        [["source_dev"], ["ensemble"]],
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.learning_rate=1e-3", True),
        ("finetune.train.learning_rate=1e-3", True),
        ("stages.0.train.epochs=1", True),
        ("stages=[{name: finetune, train: {epochs: 1}}]", True),
        ("pretrain.train.epochs=1", False),
        ("dann.max_lambda=0.1", False),
        ("data.source.train=other.jsonl", False),
        ("stages=[finetune]", False),
        ("stages=[{name: pretrain, train: {epochs: 1}}, finetune]", False),
        ("stages.0.corpus.path=train.jsonl", False),
        ("anchor.teacher=runs/train/model", False),
    ],
)
def test_which_overrides_change_the_training_of_the_twin(override: str, expected: bool) -> None:
    assert _sets_training(override) == expected


@pytest.mark.slow
def test_a_strategy_with_a_rate_of_its_own_must_beat_source_only_too(tmp_path: Path, tiny_bert: Path) -> None:
    """Its twin with a rate that learns nothing is no measure of what it gains."""
    slow = {"name": "dann", "title": "slow", "set": ["train.learning_rate=1e-9", "train.head_learning_rate=1e-9"]}
    fast = {"train": {"max_steps": 30, "batch_size": 8, "learning_rate": 5e-3}}
    recipe = recipe_for(tmp_path, tiny_bert, compare={"strategies": [slow, "mcc"], "seeds": [1]}, **fast)
    table = compare(recipe, data=data_of("classification")).summary["strategies"]
    assert table["slow"]["over"] == "source_only" and "over" not in table["mcc"]
    scores = {name: table[name]["scores"]["target.test"]["mean"] for name in ("slow", "source_only")}
    assert table["slow"]["gain"]["value"] == pytest.approx(scores["slow"] - scores["source_only"])
    assert table["slow"]["gain"]["value"] < 0


def test_the_run_to_go_on_with_is_the_best_of_the_pick_and_sound() -> None:
    def result(seed: int, agreement: float, collapsed: bool = False) -> Result:
        metrics = {"scores": {"adapted": {}}, "guard": {"collapsed": collapsed}}
        each["dann", seed] = {"ensemble": agreement}
        return Result("dann", seed, metrics, {}, None, None, None)

    each: dict[tuple[str, int], dict[str, float]] = {}
    runs = [result(1, 0.5), result(2, 0.7), result(3, float("nan"), collapsed=True)]
    assert _best_run(runs, each) == "runs/dann/2"
    assert _means([each["dann", seed] for seed in (1, 2, 3)])["ensemble"] == pytest.approx(0.6)


def test_source_dev_favours_what_adapts_only_beyond_chance() -> None:
    def gains(*lows: float | None, among: int = 1) -> bool:
        found = [{} if low is None else {"gain": {"source.dev": {"value": low + 0.01, "low": low}}} for low in lows]
        runs = [Result("dann", seed, gain, {}, None, None, None) for seed, gain in enumerate(found)]
        return _gains_at_home(runs, 0.95, among)

    assert gains(0.001) and not gains(-0.0001)
    assert gains(0.02, -0.01) and not gains(0.02, -0.03)  # on average over seeds
    # Of two strategies, one gains by chance alone twice as often: 2.24 errors are asked for in place of 1.96.
    assert gains(0.0015, among=2) and not gains(0.0014, among=2)
    assert gains(None, None, among=9)  # full, lora, frozen: which is best is all that is asked


def test_the_distance_to_the_best_has_an_interval_that_pays_for_the_choice() -> None:
    def runs(name: str, *right_of_200: int) -> list[Result]:
        found = []
        for seed, right in enumerate(right_of_200):
            counts = np.stack([np.arange(200) < right, np.ones(200)], axis=-1)
            found.append(
                Result(name, seed, {}, {}, counts, None, Score({}, "accuracy", Interval(0, 0, 0), counts, ratio))
            )
        return found

    settings = EvaluateSpec()
    pick, best = runs("pick", 150, 152), runs("best", 160, 166)
    alone = regret_of({"pick": pick, "best": best}, "best", "pick", settings)
    assert alone is not None and alone["value"] == pytest.approx(0.06)  # of 10 and 14 rows of 200
    beside = regret_of({"a": runs("a", 20, 90), "pick": pick, "best": best}, "best", "pick", settings)
    assert beside is not None and beside["value"] == pytest.approx(0.06)
    assert beside["high"] - beside["low"] > alone["high"] - alone["low"]
    # A seed that only one of them has run with says nothing of the two.
    assert regret_of({"pick": pick, "best": best[1:]}, "best", "pick", settings)["value"] == pytest.approx(0.07)
    assert regret_of({"pick": pick, "best": best[1:]}, "best", "pick", settings)["seeds"] == 1
    assert regret_of({"pick": pick[:1], "best": best[1:]}, "best", "pick", settings) is None
    at_best = regret_of({"pick": pick, "best": best}, "pick", "pick", settings)
    assert at_best == {"value": 0, "low": 0, "high": 0, "seeds": 2}


def test_labels_of_the_target_do_not_move_the_pick(tmp_path: Path, tiny_bert: Path) -> None:
    data = data_of("classification")
    label = data["target.test"]["label"][0]
    poisoned = data | {"target.test": data["target.test"].map(lambda row: {"label": label})}
    found = [
        compare(recipe_for(tmp_path, tiny_bert), ["dann", "mcc"], [1], folder=tmp_path / name, data=given).summary
        for name, given in (("clean", data), ("poisoned", poisoned))
    ]
    assert found[0]["picks_by"] == ["ensemble"]
    assert found[0]["picked_run"] == found[1]["picked_run"]
    assert found[0]["strategies"]["dann"]["label_free"] == found[1]["strategies"]["dann"]["label_free"]
    assert found[0]["strategies"]["dann"]["scores"] != found[1]["strategies"]["dann"]["scores"]


def test_ner_counts_are_those_of_the_run(tmp_path: Path, tiny_bert: Path) -> None:
    found = compare(recipe_for(tmp_path, tiny_bert, "ner"), ["dann"], [1], data=data_of("ner"))
    metrics = json.loads((found.folder / "runs/dann/1/metrics.json").read_text())
    assert found.summary["strategies"]["dann"]["gain"]["value"] == pytest.approx(
        metrics["gain"]["target.test"]["value"]
    )
    dev = {name: entry["scores"]["source.dev"]["mean"] for name, entry in found.summary["strategies"].items()}
    assert found.summary["picks_by"] == ["source_dev"]
    assert dev[found.summary["picked"]] == max(dev.values())
    assert metrics["guard"]["evidence"]["class_ami"] is None, "it has no vote where words are labelled"


def test_stages_of_runs_elsewhere_are_copied(
    compared: tuple[Path, dict[str, Any], Listener], tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same source and another target, source-only is the same model."""
    data = data_of("classification")
    other = data | {role: data[role].select(range(1, len(data[role]))) for role in ("target.unlabelled", "target.test")}
    trained: list[str] = []
    train = jobs.train
    monkeypatch.setattr(jobs, "train", lambda job, model: trained.append(job.title) or train(job, model))
    elsewhere = sorted(compared[0].glob("runs/source_only/*"))
    found = compare(recipe_for(tmp_path, tiny_bert), ["mcc"], [1], data=other, reuse=elsewhere)
    assert trained == ["finetune"], "mcc alone"
    for place in ("model/model.safetensors", "stages/1-finetune/done.json"):
        assert file_sha256(found.folder / f"runs/source_only/1/{place}") == file_sha256(
            compared[0] / f"runs/source_only/1/{place}"
        )


def test_an_interrupted_comparison_goes_on(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data = recipe_for(tmp_path, tiny_bert), data_of("classification")
    real = runs.run

    def stopped(member: Any, **settings: Any) -> Any:
        if "dann" in member.output:
            raise KeyboardInterrupt
        return real(member, **settings)

    monkeypatch.setattr(runs, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(recipe, ["dann"], [1], data=data)
    monkeypatch.setattr(runs, "run", real)
    listener = Listener()
    compare(recipe, ["dann"], [1], data=data, reporter=listener)
    assert [line for line in listener.said if line.startswith("──")] == ["── dann, seed 1"]


def test_results_of_another_recipe_are_refused_before_anything_trains(
    compared: tuple[Path, dict[str, Any], Listener], tiny_bert: Path
) -> None:
    folder, _, _ = compared
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    listener = Listener()

    def again(strategies: list[Any], **train: Any) -> None:
        recipe = recipe_for(folder.parent, tiny_bert, compare={"strategies": strategies, "seeds": [1, 2]})
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=train)})
        compare(recipe, folder=folder, data=data_of("classification"), reporter=listener)

    with pytest.raises(RunError, match=r"runs/source_only/1, runs/dann/1, runs/source_only/2 and 1 more\.") as error:
        again(["dann"], warmup=0.5)
    assert "There: warmup: 0.0. Here: warmup: 0.5. Give the comparison another folder (--output)" in str(error.value)
    with pytest.raises(RunError, match=r"trained: runs/dann/1, runs/dann/2\. .*another title"):
        again([{"name": "dann", "set": ["dann.max_lambda=0.5"]}])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert listener.said == []


def test_a_comparison_may_be_moved_but_not_be_of_different_rows(
    compared: tuple[Path, dict[str, Any], Listener], tiny_bert: Path, tmp_path: Path
) -> None:
    folder, summary, _ = compared
    shutil.copytree(folder, tmp_path / "elsewhere")
    recipe = recipe_for(folder.parent, tiny_bert)
    found = compare(recipe, ["dann", "frozen"], [1, 2], folder=tmp_path / "elsewhere", data=data_of("classification"))
    assert found.summary == summary
    record = tmp_path / "elsewhere/runs/frozen/2/environment.json"
    whole = record.read_text()
    for split in ("target.test", "target.unlabelled", "source.train"):
        record.write_text(whole.replace(f'"{split}": "', f'"{split}": "0'))
        with pytest.raises(
            RunError, match=f"runs/source_only/1 and runs/frozen/2 are of different rows, as {split} has"
        ):
            compare(recipe, ["dann", "frozen"], [1, 2], folder=tmp_path / "elsewhere", data=data_of("classification"))


def test_rows_held_out_are_the_same_for_every_seed(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = recipe_for(tmp_path, tiny_bert)
    recipe.data.source.dev = None
    data = {role: rows for role, rows in data_of("classification").items() if role != "source.dev"}
    found = compare(recipe, ["source_only"], [1, 2], folder=tmp_path / "compared", data=data)
    assert len(found.summary["strategies"]["source_only"]["scores"]["source.dev"]["values"]) == 2


def test_a_run_that_another_process_works_on_is_told_once(
    compared: tuple[Path, dict[str, Any], Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = compared[0] / "runs/dann/1"
    recipe = recipe_for(compared[0], compared[0]).model_copy(update={"output": str(compared[0] / "elsewhere")})
    member, listener, looks = runs.Member("dann", 1, recipe), Listener(), []

    def busy(*args: Any, **settings: Any) -> Any:
        looks.append(1)
        if len(looks) < 4:
            raise RunBusyError("in use")
        shutil.copytree(finished, member.folder)
        return RunResult(member.folder, {})

    monkeypatch.setattr(runs, "run", busy)
    monkeypatch.setattr(runs, "WAIT", 0.0)
    runs.run_all([member], reporter=listener)  # type: ignore[arg-type]
    assert len(looks) == 4
    assert listener.said == ["── dann, seed 1", "another process is busy with it"]
    shutil.rmtree(member.folder)


def test_a_run_whose_twin_another_process_is_training_comes_after_those_that_have_theirs(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, order = recipe_for(tmp_path, tiny_bert), []
    names = [StrategySpec(name=name) for name in ("source_only", "dann", "mcc")]
    planned = runs.members(recipe, names, [1, 2], tmp_path / "c")
    held = {planned[0].folder}

    def run(member: Any, *others: Any) -> bool:
        if member.folder in held:
            held.clear()  # it is done when it is looked at the next time
            return False
        order.append(str(member))
        member.folder.mkdir(parents=True)
        (member.folder / "cost.json").write_text("{}")
        return True

    monkeypatch.setattr(runs, "_run_one", run)
    monkeypatch.setattr(runs, "WAIT", 0.0)
    runs.run_all(planned, needed="source_only")
    second, first = ([f"{name}, seed {seed}" for name in ("source_only", "dann", "mcc")] for seed in (2, 1))
    assert order == [*second, *first[1:], first[0]]


# Search


def test_a_search_gives_every_strategy_the_same_trials_and_never_sees_the_test(tmp_path: Path, tiny_bert: Path) -> None:
    space = {"train.learning_rate": {"low": 1e-5, "high": 1e-2}, "dann.max_lambda": {"low": 0.01, "high": 1.0}}
    section = {
        "strategies": ["source_only", "dann"],
        "seeds": [1],
        "tune": {"trials": 2, "objective": "bnm", "space": space},
    }
    recipe, data = recipe_for(tmp_path, tiny_bert, compare=section), data_of("classification")
    listener = Listener()
    found = compare(recipe, data=data, reporter=listener)
    # The trials of dann find their twins among those of source-only, and the table all of its models among the trials.
    assert (listener.bars.count("source-only"), listener.bars.count("finetune")) == (0, 4)
    for name, keys in (("source_only", ["train.learning_rate"]), ("dann", ["train.learning_rate", "dann.max_lambda"])):
        trials = list(found.folder.glob(f"search/{name}/*/runs/{name}/1/metrics.json"))
        assert len(trials) == 2
        assert all("target.test" not in path.read_text() for path in trials)
        assert [text.split("=")[0] for text in found.summary["tuned"][name]] == keys
    again = compare(recipe, data=data)
    assert again.summary == found.summary
    best = max(
        json.loads(path.read_text())["label_free"]["adapted"]["bnm"]
        for path in found.folder.glob("search/dann/*/runs/dann/1/metrics.json")
    )
    run = json.loads((found.folder / "runs/dann/1/metrics.json").read_text())
    assert run["label_free"]["adapted"]["bnm"] == pytest.approx(best)
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"warmup": 0.5})})
    with pytest.raises(RunError, match=r"another recipe has trained: search/source_only, search/dann\. There: warmup"):
        compare(other, data=data)


def test_a_strategy_that_another_process_searches_for_is_left_for_later(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {"strategies": ["source_only", "dann"], "seeds": [1], "tune": {"trials": 1}}
    recipe, listener = recipe_for(tmp_path, tiny_bert, compare=section), Listener()
    folder = tmp_path / "compared"
    busy = folder / "search/source_only"
    busy.mkdir(parents=True)
    other = locked(busy)
    searched_meanwhile = []

    def end_of_the_other(seconds: float) -> None:
        searched_meanwhile.extend(path.parent.name for path in folder.glob("search/*/study.log"))
        other.__exit__(None, None, None)

    monkeypatch.setattr(search, "time", SimpleNamespace(sleep=end_of_the_other))
    other.__enter__()
    found = compare(recipe, folder=folder, data=data_of("classification"), reporter=listener)
    assert searched_meanwhile == ["dann"]
    assert [text for text in listener.said if "another process" in text] == [
        "source_only: another process searches for it"
    ]
    assert list(found.summary["tuned"]) == ["source_only", "dann"]


def test_runs_without_a_search_are_refused_before_the_search(
    compared: tuple[Path, dict[str, Any], Listener], tiny_bert: Path
) -> None:
    folder, _, _ = compared
    listener = Listener()
    section = {"strategies": ["source_only", "dann"], "seeds": [1], "tune": {"trials": 1}}
    recipe = recipe_for(folder.parent, tiny_bert, compare=section)
    with pytest.raises(RunError, match="holds runs of source_only, dann that were not tuned"):
        compare(recipe, folder=folder, data=data_of("classification"), reporter=listener)
    assert listener.said == [] and not (folder / "search").exists()


def test_a_search_without_a_budget_is_refused(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(RecipeError, match="needs a budget"):
        recipe_for(tmp_path, tiny_bert, compare={"strategies": ["dann"], "tune": {"objective": "bnm"}})


# On the screen


def test_the_command_prints_a_line_a_strategy_and_the_pick(
    compared: tuple[Path, dict[str, Any], Listener], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, summary, _ = compared
    show_comparison(Comparison(folder, summary))
    printed = capsys.readouterr().out
    assert "simultaneous 95% intervals" in printed
    assert all(name in printed for name in ("source_only", "dann", "frozen"))
    assert f"{summary['picked']} ←" in printed
    place = Comparison(folder, summary).picked
    assert f"): {summary['picked']}. Go on with {place.relative_to(folder)}, the" in printed
    assert summary["strategies"]["dann"]["gain"]["verdict"] in printed
    assert f"Folder: {folder}" in printed and f"predict {place} --input" in printed


# What a recipe holds for its own run and a strategy has no use for


def test_the_twin_that_a_method_learns_from_is_part_of_its_cost(tmp_path: Path, tiny_bert: Path) -> None:
    table = compare(recipe_for(tmp_path, tiny_bert), ["anchor", "coral"], [1], data=data_of("classification")).summary
    steps = {name: one["steps"] for name, one in table["strategies"].items()}
    assert steps == {"source_only": 2, "anchor": 4, "coral": 2}


def test_guard_selection_and_vocabulary_stay_with_what_adapts(tmp_path: Path, tiny_bert: Path) -> None:
    model = {"id": str(tiny_bert), "extend_vocabulary": {"tokens": 2}}
    pretrain = {"name": "pretrain", "block_length": 16, "train": {"max_steps": 2}}
    recipe = recipe_for(
        tmp_path, tiny_bert, model=model, selection="bnm", guard=True, methods=["dann"], stages=[pretrain, "finetune"]
    )
    made = {
        name: strategy_recipe(recipe, StrategySpec(name=name), 1, "out")
        for name in ("source_only", "lora", "dann", "pretrain", "lora+pretrain")
    }
    assert {name for name, one in made.items() if one.adapts} == {"dann", "pretrain", "lora+pretrain"}
    assert {name for name, one in made.items() if one.selection.name == "bnm"} == {"dann", "pretrain", "lora+pretrain"}
    assert {name for name, one in made.items() if one.model.extend_vocabulary} == {"pretrain", "lora+pretrain"}
    frozen = recipe.model_copy(update={"tuning": Part(name="top_layers")})
    assert strategy_recipe(frozen, StrategySpec(name="pretrain"), 1, "out").model.extend_vocabulary is None


def test_rates_of_a_stage_do_not_follow_into_another_tuning(tmp_path: Path, tiny_bert: Path) -> None:
    finetune = {"name": "finetune", "train": {"learning_rate": 5e-5, "warmup": 0.2}}
    recipe = recipe_for(tmp_path, tiny_bert, stages=[finetune])
    lora = strategy_recipe(recipe, StrategySpec(name="lora"), 1, "out")
    assert lora.stages[0].train == {"warmup": 0.2}
    assert strategy_recipe(recipe, StrategySpec(name="dann"), 1, "out").stages[0].train["learning_rate"] == 5e-5


def test_gains_are_measured_from_the_plain_source_only(tmp_path: Path, tiny_bert: Path) -> None:
    slow = {"name": "source_only", "title": "slow", "set": ["train.learning_rate=1e-6"]}
    recipe = recipe_for(tmp_path, tiny_bert, compare={"strategies": [slow, "source_only"], "seeds": [1]})
    table = compare(recipe, data=data_of("classification")).summary["strategies"]
    assert list(table) == ["source_only", "slow"]
    assert "gain" in table["slow"]
    assert "gain" not in table["source_only"]


def test_without_target_text_source_dev_picks(tmp_path: Path, tiny_bert: Path) -> None:
    data = {role: rows for role, rows in data_of("classification").items() if role.startswith("source")}
    recipe = recipe_for(tmp_path, tiny_bert, data={"source": {"train": "memory", "dev": "memory"}, "max_length": 32})
    summary = compare(recipe, ["frozen"], [1], data=data).summary
    dev = {name: entry["scores"]["source.dev"]["mean"] for name, entry in summary["strategies"].items()}
    assert summary["picks_by"] == ["source_dev"]
    assert dev[summary["picked"]] == max(dev.values())
    assert "NaN" not in (tmp_path / "run-comparison/comparison.json").read_text()


def test_strategies_of_the_section_are_asked_for_by_title(tmp_path: Path, tiny_bert: Path) -> None:
    gentle = {"name": "dann", "title": "gentle", "set": ["dann.max_lambda=0.03"]}
    recipe = recipe_for(tmp_path, tiny_bert, compare={"strategies": [gentle, "mcc"], "seeds": [1]})
    fixed = recipe_for(tmp_path, tiny_bert, compare={"strategies": [{"name": "dann", "set": gentle["set"]}]})
    assert spec_of(fixed, ["dann"], None, parts.METHODS).strategies[-1].set == gentle["set"]
    found = {
        one.label: (one.name, one.set) for one in spec_of(recipe, ["gentle", "coral"], None, parts.METHODS).strategies
    }
    assert found == {
        "source_only": ("source_only", []),
        "gentle": ("dann", ["dann.max_lambda=0.03"]),
        "coral": ("coral", []),
    }
    with pytest.raises(RecipeError, match="brisk"):
        spec_of(recipe, ["brisk"], None, parts.METHODS)


def test_an_oracle_compares_nothing(tmp_path: Path, tiny_bert: Path) -> None:
    data = recipe_data(tmp_path, tiny_bert)["data"]
    data["target"]["dev"] = "memory"
    recipe = recipe_for(tmp_path, tiny_bert, data=data, methods=["dann"], selection="oracle")
    with pytest.raises(RecipeError, match="without target labels"):
        compare(recipe, ["dann"], [1], data=data_of("classification"))
