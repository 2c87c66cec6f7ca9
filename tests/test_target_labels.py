"""A few labelled target rows: which stages train on them, what selects, what is compared, and what is said of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TASKS, Listener, rows_of, same_weights, saved_weights
from target_labels import BOTH, ON_TARGET, THEN, given, renamed, values

from nlp_transfer import check, compare, diagnose, jobs, parts
from nlp_transfer.conclusions import comparison_words
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run
from nlp_transfer.screen import score_table


def facts_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "stages.jsonl").read_text(encoding="utf8").splitlines()
    return {facts["stage"]: facts for facts in map(json.loads, lines)}


# --- runs --------------------------------------------------------------------------------------------------------


def cases() -> list[tuple[str, str, str, str]]:
    """Each task with each tuning, on both and on the target after the source; dann with every second of these."""
    found = []
    for (p, plan), (i, kind), (k, tuning) in itertools.product(
        enumerate(("both", "then")), enumerate(TASKS), enumerate(parts.TUNINGS)
    ):
        moves = parts.TUNINGS[tuning].moves_features
        found.append((plan, kind, tuning, "dann" if moves and (p + i + k) % 2 else ""))
    return found


def marked(case: tuple[str, str, str, str]) -> Any:
    """Every tuning with both sides' rows; with the target's after the source's where the encoder's weights move."""
    slow = case[0] == "then" and case[2] in ("frozen", "top_layers")
    return pytest.param(*case, id="-".join(case), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("plan", "kind", "tuning", "method"), [marked(case) for case in cases()])
def test_run(plan: str, kind: str, tuning: str, method: str, tiny_bert: Path, tmp_path: Path) -> None:
    tuned = {"name": tuning, **({"n": 1} if tuning == "top_layers" else {})}
    stages = [BOTH] if plan == "both" else THEN
    methods = (method,) if method else ()
    result = run(recipe_from(values(tmp_path / "run", tiny_bert, kind, tuned, methods, stages)), data=given(kind))
    dropped = kind == "sentiment"  # every third row has three stars, which mean nothing
    rows = {"source_rows": 16 if dropped else 24, "target_rows": 6 if dropped else 9}
    facts = list(facts_of(result.folder).values())
    wanted = [("both", rows)] if plan == "both" else [
        ("source", rows | {"target_rows": 0}), ("target", rows | {"source_rows": 0})]  # fmt: skip
    assert [(one["on"], {key: one[key] for key in rows}) for one in facts] == wanted
    assert facts[-1]["selection"] == result.metrics["selection"] == ("source dev" if plan == "both" else "last step")
    told = {"rows": rows["target_rows"], "stages": [one["on"] for one in facts]}
    assert result.metrics["target_labels"] == told
    logged = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    losses = [line for line in logged if "loss_task" in line]
    assert {line["stage"] for line in losses} == {one["stage"] for one in facts}
    assert all(np.isfinite(line["loss"]) for line in losses)
    if method:
        # With one domain only, the loss would be 0.
        assert all(line["loss_dann_domain"] > 0.1 for line in losses)
    (scores,) = result.metrics["scores"].values()
    assert 0 <= scores["target.test"]["interval"]["value"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("method", parts.METHODS)
def test_every_method_works_on_labelled_target_rows(method: str, tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"joint_mlm": {"head_steps": 2}, "mmd": {"class_conditional": True}, "cdan": {"balance": True}}
    taught = parts.METHODS[method].needs_teacher
    named = ({"name": method, **settings.get(method, {})},)
    tuning = "lora" if method == "joint_mlm" else "full"  # whose head reads an encoder with merged adapters
    data = values(tmp_path / "run", tiny_bert, "classification", tuning, named, THEN, source_only=taught)
    result = run(recipe_from(data), data=given())
    logged = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    last = [line for line in logged if line["stage"] == "finetune-2" and "loss_task" in line][-1]
    assert [key for key, value in last.items() if key.startswith(f"loss_{method}_") and abs(value) > 1e-9]


@pytest.mark.parametrize(("kind", "tuning"), [("classification", "full"), ("ner", "lora"), ("ner", "frozen")])
def test_a_stage_starts_from_the_one_before(
    kind: str, tuning: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trained weight, bit for bit; of the head also the rows of a label that no stage before had rows of."""
    starts: list[dict[str, torch.Tensor]] = []
    train = jobs.train

    def spied(job: Any, model: Any) -> Any:
        starts.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        return train(job, model)

    monkeypatch.setattr(jobs, "train", spied)
    old, new = ("PER", "WHO") if kind == "ner" else ("poor", "odd")
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, kind, tuning, stages=THEN, learning_rate=0.1))
    result = run(recipe, data=given(kind) | {"target.train": renamed(kind, old, new)})
    labels = list(json.loads((result.model / "config.json").read_text())["id2label"].values())
    assert sum(new in label for label in labels) == (2 if kind == "ner" else 1)
    saved = saved_weights(result.folder / "stages/1-finetune/model")
    # PEFT leaves the adapter's name out where it saves weights.
    own = {name.replace(".default", "").replace(".modules_to_save", ""): value for name, value in starts[1].items()}
    # A frozen encoder is not in the model while it trains: its states were computed before.
    compared = [name for name in saved if tuning != "frozen" or not name.startswith("bert.")]
    assert [len(saved[name]) for name in compared if name.endswith("classifier.weight")] == [len(labels)]
    assert all(torch.equal(own[name], saved[name]) for name in compared)
    assert not all(torch.equal(starts[0][name], value) for name, value in starts[1].items())


def test_both_trains_new_labels_from_the_beginning(tiny_bert: Path, tmp_path: Path) -> None:
    """There source dev knows nothing of the new label, so the last step is kept."""
    listener = Listener()
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, stages=[BOTH, ON_TARGET], early_stopping=1))
    rows = given() | {"target.train": renamed("classification", "poor", "odd")}
    result = run(recipe, data=rows, reporter=listener)  # type: ignore[arg-type]
    for facts in facts_of(result.folder).values():
        assert facts["selection"] == "last step"
        assert facts["selected_step"] == facts["steps"] == 2
        assert "best_dev" not in facts
    assert any("finetune: train.early_stopping has no effect" in line for line in listener.warned)
    # What selects nothing is not scored on the way, which would take longer than a few steps do.
    logged = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert not any(key.startswith("eval_") for line in logged for key in line)
    assert 0 <= result.metrics["scores"]["source-only"]["source.dev"]["interval"]["value"] <= 1


@pytest.mark.parametrize("selection", ["bnm", "oracle"])
def test_other_selections_choose_among_the_steps_on_the_target(selection: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = values(tmp_path / "run", tiny_bert, stages=[ON_TARGET], selection=selection, evaluate_every=1, max_steps=3)
    data["data"]["target"]["dev"] = "memory"
    rows = given() | {"target.dev": rows_of("classification", 12, 8)}
    facts = facts_of(run(recipe_from(data), data=rows).folder)["finetune"]
    name = "oracle_target_dev" if selection == "oracle" else "target_bnm"
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line[f"eval_{name}"] for line in logged if f"eval_{name}" in line}
    assert len(scores) == 3
    assert facts[f"best_{name}"] == max(scores.values()) == scores[facts["selected_step"]]
    assert ("ORACLE" in facts["selection"]) == (selection == "oracle")


def test_the_twin_goes_through_the_same_stages_with_the_same_rows(tiny_bert: Path, tmp_path: Path) -> None:
    """So it is the very model that the recipe without methods gives."""
    alone = run(recipe_from(values(tmp_path / "alone", tiny_bert, stages=THEN, dropout=0.1)), data=given())
    data = values(tmp_path / "run", tiny_bert, "classification", "full", ("dann",), THEN, source_only=True, dropout=0.1)
    result = run(recipe_from(data), data=given())
    for one, other in (("1-finetune", "source-only"), ("2-finetune", "source-only-2")):
        assert same_weights(alone.folder / "stages" / one / "model", result.folder / "stages" / other / "model")
    facts = facts_of(result.folder)
    assert facts["source-only-2"]["steps"] == facts["finetune-2"]["steps"]
    assert facts["source-only-2"]["target_rows"] == 9
    scores = result.metrics["scores"]
    assert scores["source-only"] == alone.metrics["scores"]["source-only"]
    # A comparison trains it once: its stages have the same fingerprints.
    for name in ("fingerprint", "on"):
        other = facts_of(alone.folder)
        assert [other[stage][name] for stage in ("finetune", "finetune-2")] == [
            facts[stage][name] for stage in ("source-only", "source-only-2")
        ]


def test_a_stage_without_methods_is_the_twins(tiny_bert: Path, tmp_path: Path) -> None:
    """Trained once, and copied."""
    stages = [{"name": "finetune", "adapt": False}, ON_TARGET]
    data = values(tmp_path / "run", tiny_bert, "classification", "full", ("dann",), stages, source_only=True)
    listener = Listener()
    result = run(recipe_from(data), data=given(), reporter=listener)  # type: ignore[arg-type]
    assert listener.bars == ["source-only", "source-only-2", "finetune-2"]
    facts = facts_of(result.folder)
    assert facts["finetune"]["fingerprint"] == facts["source-only"]["fingerprint"]
    assert facts["finetune-2"]["fingerprint"] != facts["source-only-2"]["fingerprint"]


def test_strategies_are_compared_on_the_same_stages(tiny_bert: Path, tmp_path: Path) -> None:
    data = values(tmp_path / "run", tiny_bert, stages=THEN, source_only=True)
    both = {"name": "source_only", "title": "both", "set": ["stages=[{name: finetune, on: both}]"]}
    data["compare"] = {"strategies": ["dann", both], "seeds": [1]}
    found = compare(recipe_from(data), data=given())
    table = found.summary["strategies"]
    assert found.summary["target_labels"] == {"source_only": 9, "dann": 9, "both": 9}
    assert table["dann"]["steps"] == table["source_only"]["steps"] == 4
    assert set(table["both"]["gain"]) == set(table["dann"]["gain"])
    assert "Labelled target rows that were trained on: source_only 9, dann 9, both 9." in comparison_words(
        found.summary
    )
    runs = found.folder / "runs"
    for one, other in (("1-finetune", "source-only"), ("2-finetune", "source-only-2")):
        assert same_weights(runs / "source_only/1/stages" / one / "model", runs / "dann/1/stages" / other / "model")


def test_a_diagnosis_reads_no_target_labels(tiny_bert: Path, tmp_path: Path) -> None:
    data = values(tmp_path / "run", tiny_bert, stages=THEN)
    data["task"] = {"name": "classification", "labels": ["bad", "good", "odd", "poor"]}
    data["data"]["target"] |= {"unlabelled": None, "label_map": {"nothing": "odd"}}
    rows = given() | {"target.train": rows_of("classification", 30, 6).remove_columns("label")}
    del rows["target.unlabelled"]
    found = diagnose(recipe_from(data), rows)
    assert found.splits["target.unlabelled"].total == 30
    assert any("the labels of target.train are not looked at" in note for note in found.notes)
    assert {estimate.strategy for estimate in found.time} >= {"source_only", "dann"}


def test_self_training_goes_on_with_the_rows_of_the_last_stage(tiny_bert: Path, tmp_path: Path) -> None:
    stages = ["finetune", BOTH, {"name": "self_train", "rounds": 1, "share": 1.0, "train": {"max_steps": 2}}]
    data = values(tmp_path / "run", tiny_bert, "ner", "frozen", (), stages, source_only=True, epochs=1, max_steps=None)
    result = run(recipe_from(data), data=given("ner"))
    facts = facts_of(result.folder)
    # 48 rows of both in batches of 8, and the two steps of the round.
    assert facts["finetune-2"]["steps"] == 6
    assert facts["source-only-2"]["steps"] == 8
    assert facts["source-only"]["steps"] == facts["finetune"]["steps"] == 3
    assert facts["self_train"]["selection"] == "source dev"
    on_target = [ON_TARGET, stages[2] | {"mean_teacher": {}}]
    data = values(tmp_path / "second", tiny_bert, "classification", "lora", ("dann",), on_target)
    assert run(recipe_from(data), data=given()).metrics["selection"] == "last step"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "tuning", "stages", "title"),
    [
        ("classification", "full", [BOTH], "finetune"),
        ("ner", {"name": "lora", "dropout": 0.1}, THEN, "finetune-2"),
        ("classification", "full", THEN, "source-only-2"),
    ],
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    kind: str, tuning: Any, stages: list[Any], title: str, tiny_bert: Path, tmp_path: Path
) -> None:
    settings = {"max_steps": 5, "evaluate_every": 2, "dropout": 0.1, "source_only": title.startswith("source")}
    rows = given(kind) | ({"target.train": renamed(kind, "PER", "WHO")} if kind == "ner" else {})
    whole, cut = (
        recipe_from(values(tmp_path / name, tiny_bert, kind, tuning, ("dann",), stages, **settings))
        for name in ("whole", "cut")
    )
    first = run(whole, data=rows)
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=rows, reporter=Listener(title, 3))  # type: ignore[arg-type]
    listener = Listener()
    second = run(cut, data=rows, reporter=listener)  # type: ignore[arg-type]
    assert any(f"{title}: resuming from" in line for line in listener.said)
    assert same_weights(first.model, second.model)
    assert first.metrics == second.metrics


def test_settings_and_rows_of_a_stage_are_part_of_its_fingerprint(tiny_bert: Path, tmp_path: Path) -> None:
    prints = []
    share = BOTH | {"target_share": 0.3}
    for number, (stage, rows) in enumerate(
        [(BOTH, 9), (share, 9), (BOTH, 8), (ON_TARGET, 9), ("finetune", 9), ("finetune", 8)]
    ):
        data = given() | {"target.train": rows_of("classification", rows, 6)}
        result = run(recipe_from(values(tmp_path / str(number), tiny_bert, stages=[stage])), data=data)
        prints.append(facts_of(result.folder)["finetune"]["fingerprint"])
    # Rows that are not trained on change nothing.
    assert len(set(prints)) == 5
    assert prints[4] == prints[5]


# --- what is said ------------------------------------------------------------------------------------------------


def test_everything_says_that_target_labels_were_trained_on(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from nlp_transfer.screen import show_check, show_run

    data = values(tmp_path / "run", tiny_bert, methods=("dann",), stages=THEN, source_only=True)
    recipe, rows = recipe_from(data), given()
    show_check(check(recipe, data=True, given=rows))
    shown = capsys.readouterr().out
    assert "stage finetune on target (trains on the labels of data.target.train)" in shown
    assert "9 labelled target rows are trained on" in shown
    result = run(recipe, data=rows)
    show_run(result, recipe)
    shown, card = capsys.readouterr().out, (result.folder / "README.md").read_text(encoding="utf8")
    for text in (shown, card):
        assert "9 labelled target rows were trained on (finetune on source, then target)" in text
        assert "over labels-only" in text
        assert "source-only" not in text.split("## How it was made")[0]
    assert "finetune, finetune on target" in card
    assert "The checkpoint is that of the last step; target labels other than those trained on" in card
    console = Console(width=200, record=True)
    console.print(score_table(result.metrics))
    assert "labels-only" in console.export_text()


def test_the_card_names_what_was_trained_on_and_which_labels_were_renamed(tiny_bert: Path, tmp_path: Path) -> None:
    for number, (stages, told) in enumerate([
        (["finetune"], "trained on the source domain only"),
        ([ON_TARGET], "trained on labelled rows of the target domain"),
        ([BOTH], "trained on the source domain and labelled rows of the target"),
    ]):  # fmt: skip
        data = values(tmp_path / str(number), tiny_bert, stages=stages)
        data["data"]["target"]["label_map"] = {"poor": "bad"}
        card = (run(recipe_from(data), data=given()).folder / "README.md").read_text(encoding="utf8")
        assert told in card
        assert "- labels of target renamed: poor → bad" in card
        assert ("labelled target rows were trained on" in card) == (number > 0)
