"""A whole diagnosis on tiny models: what is measured, what is skipped and why, and that target labels have no part."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from conftest import build_model
from helpers import data_of, make_recipe, recipe_data, rows_of, shown
from samples import plain_classifier, recipe_values, write_data
from typer.testing import CliRunner

from nlp_transfer import cli, diagnose, errors, finding, models, recipe_from
from nlp_transfer.data.windows import Limits, windows_of_texts
from nlp_transfer.diagnosis import diagnose as diagnose_module
from nlp_transfer.diagnosis import features, measured
from nlp_transfer.diagnosis.advice import Evidence, advise, comparisons
from nlp_transfer.diagnosis.diagnose import usable
from nlp_transfer.diagnosis.fluency import hidden_one_by_one, masked_log_probabilities, pseudo_perplexity
from nlp_transfer.diagnosis.result import Diagnosis, Skipped
from nlp_transfer.intervals import Interval
from nlp_transfer.parts import METHODS
from nlp_transfer.recipe.comparing import StrategySpec
from nlp_transfer.strategies import strategy_recipe


def steady(found: Diagnosis) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {key: value for key, value in found.to_dict().items() if key not in ("time", "seconds")}


@pytest.fixture(scope="module")
def plain(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any], Diagnosis]:
    recipe = make_recipe(tmp_path_factory.mktemp("diagnosis") / "run", tiny_bert)
    data = data_of("classification", 60)
    return recipe, data, diagnose(recipe, data)


def test_everything_is_measured(plain: Any) -> None:
    recipe, _, found = plain
    assert set(found.splits) == {"source.train", "source.dev", "target.unlabelled"}
    assert found.splits["target.unlabelled"].rows == 55
    assert not isinstance(found.a_distance["features"], Skipped)
    assert isinstance(found.perplexity, Skipped) and "no masked-LM head" in found.perplexity.skipped
    assert found.classifier.unit == "texts"
    assert {one.strategy for one in found.time} == {
        *("frozen", "source_only", "dann", "cdan", "mmd", "coral", "mcc", "l2sp", "anchor"),
        *("pretrain", "joint_mlm", "pretrain+joint_mlm", "self_train"),
    }
    assert all(one.seconds > 0 and one.run_seconds >= one.seconds for one in found.time)
    assert found.models == []
    json.dumps(found.to_dict())
    assert not Path(recipe.output).exists()


def test_the_same_seed_gives_the_same_answer_and_target_labels_have_no_part(plain: Any) -> None:
    """Poisoned labels, labels that training does not have, and files that are not there change nothing."""
    recipe, data, found = plain
    rows = data["target.test"]
    poison = [["good", "unheard of"][number % 2] for number in range(len(rows))]
    poisoned = datasets.Dataset.from_dict({"text": rows["text"][:], "label": poison})
    assert steady(diagnose(recipe, data | {"target.test": poisoned, "target.dev": poisoned})) == steady(found)
    without = {role: one for role, one in data.items() if role != "target.test"}
    assert steady(diagnose(recipe, without)) == steady(found)


def test_labelled_rows_do_not_take_the_place_of_unlabelled_text(plain: Any) -> None:
    recipe, data, _ = plain
    few = data["target.test"].select(range(5))
    text = recipe.data.target.model_copy(update={"unlabelled": "text.jsonl", "train": "few.jsonl"})
    both = recipe.model_copy(update={"data": recipe.data.model_copy(update={"target": text})})
    _, given = diagnose_module._without_target_labels(both, data | {"target.train": few})
    assert given["target.unlabelled"] is data["target.unlabelled"] and "target.train" not in given
    files = {role: rows for role, rows in data.items() if role != "target.unlabelled"}
    bare, given = diagnose_module._without_target_labels(both, files | {"target.train": few})
    assert "target.unlabelled" not in given and bare.data.target.unlabelled.path == "text.jsonl"


def test_labels_in_the_unlabelled_file_have_no_part(plain: Any) -> None:
    recipe, data, found = plain
    rows = data["target.unlabelled"]
    other = datasets.Dataset.from_dict({"text": rows["text"][:], "label": ["good"] * len(rows)})
    again = steady(diagnose(recipe, data | {"target.unlabelled": other}))
    assert again.pop("notes") != []
    assert again == {key: value for key, value in steady(found).items() if key != "notes"}


def test_the_screen_shows_numbers_reasons_and_commands(plain: Any) -> None:
    text = shown(plain[2])
    for part in ("A-distance", "held-out source", "Estimated time", "What to try", "1. first: source_only", "because"):
        assert part in text
    assert "nlp-transfer compare RECIPE --strategies source_only" in text
    assert "Labels of the target were not read" in text


@pytest.mark.parametrize("kind", ["multi_label", "sentiment", "ner"])
def test_every_task(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of(kind, 45) | {"source.dev": rows_of(kind, 40, 2)}
    found = diagnose(make_recipe(tmp_path / "run", tiny_bert, kind), data, max_rows=40)
    assert found.classifier.unit == {"multi_label": "decisions", "sentiment": "texts", "ner": "words"}[kind]
    shift = found.label_shift
    assert not isinstance(shift, Skipped)
    names = {"multi_label": {"bad", "good", "poor"}, "sentiment": {"negative", "positive"}}
    assert set(shift.target) == names.get(kind, {"O", "PER", "ORG", "LOC"})
    assert ("word features" in found.a_distance) == (kind == "ner")
    assert found.splits["source.train"].rows <= 40
    if kind != "multi_label":
        assert math.isclose(sum(shift.source.values()), 1)
        assert math.isclose(sum(one.value for one in shift.target.values()), 1)
    assert "What to try" in shown(found)


def test_a_target_that_is_the_source_is_near(tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("classification", 200)
    texts = datasets.Dataset.from_dict({"text": data["source.train"]["text"][:]})
    found = diagnose(make_recipe(tmp_path / "run", tiny_bert), data | {"target.unlabelled": texts})
    distance = found.a_distance["features"]
    assert not isinstance(distance, Skipped) and distance.distance.value < 0.4
    assert not isinstance(found.mmd, Skipped) and found.mmd.p_value > 0.5
    assert not isinstance(found.overlap, Skipped) and found.overlap.unseen == 0
    assert [item.verdict for item in found.advice] == ["first", "avoid"]


def test_no_target_text_and_two_rows(tiny_bert: Path, tmp_path: Path) -> None:
    two = {role: rows_of("classification", 2, seed) for seed, role in enumerate(("source.train", "source.dev"))}
    values = recipe_data(tmp_path / "run", tiny_bert)
    del values["data"]["target"]
    alone = diagnose(recipe_from(values), two)
    assert isinstance(alone.overlap, Skipped) and "data.target.unlabelled" in alone.overlap.skipped
    assert [one.strategy for one in alone.time] == ["frozen", "source_only"]
    assert alone.advice[-1].strategy == "collect target text"
    assert alone.classifier.predicted_accuracy is None
    assert "not estimated" in shown(alone)

    data = two | {"target.unlabelled": rows_of("classification", 2, 5)}
    small = diagnose(make_recipe(tmp_path / "run", tiny_bert), data)
    for one in (*small.a_distance.values(), small.mmd, small.label_shift):
        assert isinstance(one, Skipped) and "at least 20" in one.skipped
    assert small.advice[-1].strategy.startswith("label target texts")
    assert "at least 20" in shown(small)


def test_what_a_run_refuses_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert)
    one_class = datasets.Dataset.from_dict({"text": ["good film", "bad film"], "label": ["a", "a"]})
    with pytest.raises(errors.DataError, match="two labels"):
        diagnose(recipe, data_of("classification") | {"source.train": one_class, "source.dev": one_class})
    with pytest.raises(errors.DataError, match=r"Did you mean 'target.unlabelled'"):
        diagnose(recipe, data_of("classification") | {"target.unlabeled": one_class})
    with pytest.raises(errors.ModelError, match="no such folder"):
        diagnose(recipe, data_of("classification"), models=[str(tmp_path / "absent")])


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_strategies_follow_the_tuning(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    """Frozen features refuse adaptation; its strategies are then those of full tuning, and the advice says so."""
    recipe = make_recipe(tmp_path / "run", tiny_bert, tuning=tuning)
    found = diagnose(recipe, data_of("classification", 30), max_rows=25)
    assert {"source_only", "dann", "pretrain"} <= {one.strategy for one in found.time}
    assert set(usable(recipe, METHODS)) >= {"pretrain", *METHODS}


def test_an_oracle_is_set_aside_and_said_so(tiny_bert: Path, tmp_path: Path) -> None:
    data = data_of("classification", 30)
    values = recipe_data(tmp_path / "run", tiny_bert, selection="oracle")
    values["data"]["target"]["dev"] = "memory"
    found = diagnose(recipe_from(values), data | {"target.dev": data["target.test"]}, max_rows=25)
    plain = diagnose(make_recipe(tmp_path / "run", tiny_bert), data, max_rows=25)
    assert {one.strategy for one in found.time} == {one.strategy for one in plain.time}  # in the order of their times
    assert any("oracle" in note for note in found.notes) and not any("oracle" in note for note in plain.notes)


@pytest.mark.parametrize("tuning", ["full", "frozen"])
def test_advice_can_be_run(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, tuning=tuning)
    far = Interval(1.9, 1.8, 2.0)
    seen = Evidence(target_rows=1000, target_tokens=1e6, a_distance=far, unseen_gap=0.2, frozen=tuning == "frozen")
    found = advise(seen, usable(recipe, METHODS))
    named = [name for names in comparisons(found) for name in names.split(",")]
    assert len(named) > 1 and ("soup" in named) == (tuning == "full")
    for name in named:
        strategy_recipe(recipe, StrategySpec(name=name), 1, str(tmp_path / "other"), others=["one", "other"])


# Times


@pytest.fixture
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond for each padded token, whatever is done with it; it is done all the same."""

    def timed(work: Any, batch: dict[str, torch.Tensor]) -> float:
        work(batch)
        return batch["input_ids"].numel() / 1000

    monkeypatch.setattr(measured, "_timed", timed)


def times_of(recipe: Any, data: dict[str, Any], **options: Any) -> dict[str, float]:
    return {one.strategy: one.seconds for one in diagnose(recipe, data, **options).time}


def pretraining_time(folder: Path, model: Path, *stages: dict[str, Any], **data: Any) -> float:
    """Seconds that the pretrain stages of a recipe add: two epochs, without a head that is fitted first."""
    train = {"max_steps": None, "epochs": 2, "batch_size": 1}
    own = [{"name": "pretrain", "head_steps": 0, "train": train} | one for one in stages]
    times = times_of(make_recipe(folder, model, stages=[*own, "finetune"]), data_of("classification", 60) | data)
    return times["pretrain"] - times["source_only"]


def test_times_of_methods_are_in_proportion(tiny_bert: Path, tmp_path: Path, steady_clock: None) -> None:
    recipe, data = make_recipe(tmp_path / "run", tiny_bert, max_steps=None, epochs=3), data_of("classification", 120)
    apart = [f"crash crash {text}" for text in data["target.unlabelled"]["text"]]
    data |= {"target.unlabelled": datasets.Dataset.from_dict({"text": apart})}
    found = diagnose(recipe, data)
    assert "source_only,dann,mcc,soup" in [item.compare for item in found.advice], found.advice
    times = {one.strategy: one for one in found.time}
    twin, dann, mcc = (times[name].seconds for name in ("source_only", "dann", "mcc"))
    assert 1.5 * twin < dann < 2.5 * twin
    soup = times["soup"]
    assert soup.seconds == soup.run_seconds == pytest.approx(twin + dann + mcc)
    assert "whose weights it averages" in soup.basis
    assert "compare RECIPE --strategies source_only,dann,mcc,soup --seeds 3" in shown(found)
    # Of half of the rows it says the same of all.
    half = times_of(recipe, data, max_rows=60)
    assert half["source_only"] == pytest.approx(twin, rel=0.2)
    longer = times_of(make_recipe(tmp_path / "run", tiny_bert, max_steps=None, epochs=6), data)
    assert longer["source_only"] == pytest.approx(2 * twin, rel=0.05)


def test_times_of_pretraining_go_by_the_text_and_the_stages(
    tiny_bert: Path, tmp_path: Path, steady_clock: None
) -> None:
    def added(*stages: dict[str, Any], **data: Any) -> float:
        return pretraining_time(tmp_path / "run", tiny_bert, *stages, **data)

    target, source, both = (added({"text": text}) for text in ("target", "source", "both"))
    assert target == pytest.approx(55 / 60 * source, rel=0.15)
    assert both == pytest.approx(target + source, rel=0.1)
    twice = added(*[{"text": text} for text in ("source", "target")])
    assert twice == pytest.approx(target + source, rel=0.01)
    rows = rows_of("classification", 240, 9).select_columns("text")
    corpus = {"path": "memory.jsonl"}
    whole = added({"corpus": corpus}, **{"stages.0.corpus": rows})
    assert whole == pytest.approx(4 * source, rel=0.15)
    chosen = {"corpus": corpus | {"choose": {"share": 0.5}}}
    assert added(chosen, **{"stages.0.corpus": rows}) == pytest.approx(whole / 2, rel=0.05)


@pytest.mark.parametrize("objective", ["tsdae", "simcse"])
def test_times_of_pretraining_are_those_of_the_objective(
    objective: str, tiny_bert: Path, tmp_path: Path, steady_clock: None
) -> None:
    """They read every text by itself, twice, and fit no head."""
    stage = {"name": "pretrain", "objective": objective, "train": {"batch_size": 4, "max_steps": None, "epochs": 2}}
    recipe = make_recipe(tmp_path / "run", tiny_bert, stages=[stage, "finetune"], max_steps=None)
    found = diagnose(recipe, data_of("classification", 60))
    (told,) = [one.basis for one in found.time if one.strategy == "pretrain"]
    # 55 texts, four of them in a step, two epochs.
    assert told == f"{objective} step, 28 of them"
    times = {one.strategy: one.seconds for one in found.time}
    tokens = sum(
        len(ids)
        for ids in transformers.AutoTokenizer.from_pretrained(tiny_bert)(
            data_of("classification", 60)["target.unlabelled"]["text"][:]
        )["input_ids"]
    )
    assert times["pretrain"] - times["source_only"] == pytest.approx(2 * 2 * tokens / 1000, rel=0.35)


def test_a_fresh_head_is_fitted_once(tiny_bert: Path, tmp_path: Path, steady_clock: None) -> None:
    stages = [{"name": "pretrain", "text": text} for text in ("source", "target")]
    found = diagnose(make_recipe(tmp_path / "run", tiny_bert, stages=[*stages, "finetune"]), data_of("classification"))
    (told,) = [one.basis for one in found.time if one.strategy == "pretrain"]
    assert told == "masked-LM step, 2 of them and 200 for the head; masked-LM step, 2 of them"
    times = {one.strategy: one.seconds for one in found.time}
    before, beside = (times[name] - times["source_only"] for name in ("pretrain", "joint_mlm"))
    both = times["pretrain+joint_mlm"] - times["source_only"]
    assert max(before, beside) < both < before + beside


# Candidate models


def test_candidates_are_compared(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    headed = plain_classifier(tmp_path / "headed", tokenizer, "AutoModelForSequenceClassification", ["x", "y", "z"])
    recipe = make_recipe(tmp_path / "run", tiny_bert)
    found = diagnose(recipe, data_of("classification", 30), models=[str(headed), str(tiny_bert)])
    assert [one.logme for one in found.models] == sorted((one.logme for one in found.models), reverse=True)
    by_id = {one.model: one for one in found.models}
    assert set(by_id) == {str(tiny_bert), str(headed)}
    assert isinstance(by_id[str(tiny_bert)].leep, Skipped)
    assert isinstance(by_id[str(headed)].leep, float) and by_id[str(headed)].leep < 0
    assert "LEEP needs a head" in shown(found)


def test_candidates_are_judged_by_the_same_rows(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever cuts the texts into more tokens, and whichever is the recipe's own."""
    tiny_roberta = build_model(tmp_path / "roberta", "roberta")
    monkeypatch.setattr(features, "MAX_TOKENS", 150)
    counted: dict[str, list[int]] = {}
    judge = diagnose_module.suitability

    def suitability(space: Any, probe: Any) -> Any:
        counted.setdefault(str(space.base.id), []).append(len(probe.features["source.train"]))
        return judge(space, probe)

    monkeypatch.setattr(diagnose_module, "suitability", suitability)
    for own, other in ((tiny_bert, tiny_roberta), (tiny_roberta, tiny_bert)):
        diagnose(make_recipe(tmp_path / "run", own), data_of("classification", 30), models=[str(other)])
    (rows,) = {tuple(counts) for counts in counted.values()}
    assert rows[0] == rows[1] < 30
    assert len(counted) == 2


def test_leep_reads_a_tagging_head(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    headed = plain_classifier(tmp_path / "headed", tokenizer, "AutoModelForTokenClassification", ["O", "B-X", "I-X"])
    recipe = make_recipe(tmp_path / "run", headed, "ner")
    found = diagnose(recipe, data_of("ner", 24), models=[str(tiny_bert)])
    by_id = {one.model: one.leep for one in found.models}
    assert isinstance(by_id[str(headed)], float)
    assert isinstance(by_id[str(tiny_bert)], Skipped)


# Masked language model


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("masked") / "model", head="AutoModelForMaskedLM")


def test_pseudo_perplexity_masks_one_token_at_a_time(masked: Path) -> None:
    """Against plain forward passes of one text at a time, with the head on every position."""
    base = finding.resolve(str(masked))
    tokenizer = models.load_tokenizer(base)
    model = models.load_model("AutoModelForMaskedLM", base, models.read_config(base)).model.eval()
    windows = windows_of_texts(tokenizer, ["the film was good", "crash", "a great plot and cast"], Limits(32, 4))
    special = frozenset(tokenizer.all_special_ids)
    copies, positions, tokens, texts = hidden_one_by_one(windows, tokenizer.mask_token_id, special, seed=1)
    assert set(texts.tolist()) == {0, 1, 2}
    assert max(np.bincount(texts)) <= 4
    logs = masked_log_probabilities(model, copies, positions, tokens, tokenizer.pad_token_id, batch_tokens=20)
    expected = []
    for copy, position, token, text in zip(copies, positions, tokens, texts, strict=True):
        original = windows[text].input_ids
        assert [at for at, (new, old) in enumerate(zip(copy, original, strict=True)) if new != old] == [position]
        assert original[position] == token and token not in special
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([copy])).logits[0, position]
        expected.append(float(logits.log_softmax(-1)[token]))
    assert logs == pytest.approx(expected, abs=1e-4)
    found = pseudo_perplexity(logs, texts)
    assert found.value == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-4)
    assert found.low <= found.value <= found.high


def test_a_masked_lm_head_is_used_where_there_is_one(masked: Path, tmp_path: Path) -> None:
    found = diagnose(make_recipe(tmp_path / "run", masked), data_of("classification", 30), max_rows=25)
    assert not isinstance(found.perplexity, Skipped)
    assert set(found.perplexity) == {"source", "target"}
    assert "pseudo-perplexity, target" in shown(found)


# The command


def test_the_command_prints_and_writes_json(tiny_bert: Path, tmp_path: Path) -> None:
    values = recipe_values(write_data(tmp_path / "data"), tiny_bert)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(json.dumps(values), encoding="utf8")
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(cli.app, ["diagnose", str(recipe), "--json", "--rows", "20"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["label_shift"]["skipped"]
    assert found["advice"][0]["strategy"] == "source_only"
    assert sorted(tmp_path.rglob("*")) == before
    done = CliRunner().invoke(cli.app, ["diagnose", str(recipe), "--rows", "20", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "What to try" in done.stdout
    written = json.loads((tmp_path / "diagnosis.json").read_text(encoding="utf8"))
    assert written["advice"] == found["advice"]
    bad = CliRunner().invoke(cli.app, ["diagnose", str(recipe), "--set", "tsak=ner"])
    assert bad.exit_code == 2
