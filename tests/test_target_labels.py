"""A few labelled target rows: which stages train on them, what selects, what is compared, and what is said of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TASKS, Listener, data_of, recipe_data, rows_of, same_weights, saved_weights

from nlp_transfer import check, jobs, parts
from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.pairs import EpochSampler
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.prepare import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.reporter import Reporter
from nlp_transfer.running import run, workspace
from nlp_transfer.screen import score_table
from nlp_transfer.stages.rows import fit_task, labelled_rows, with_unlabelled
from nlp_transfer.units import TARGET, UNKNOWN
from nlp_transfer.workspace import Workspace

BOTH = {"name": "finetune", "on": "both"}
ON_TARGET = {"name": "finetune", "on": "target"}
THEN = ["finetune", ON_TARGET]
"""Source, then target."""


def values(*args: Any, **changes: Any) -> dict[str, Any]:
    """A recipe with labelled target rows, as plain data."""
    return recipe_data(*args, target_labels=True, **changes)


def given(kind: str = "classification") -> dict[str, Any]:
    return data_of(kind) | {"target.train": rows_of(kind, 9, 6)}


def renamed(kind: str, old: str, new: str) -> Any:
    """Labelled target rows, one of whose labels the source has not."""
    if kind == "ner":
        return rows_of(kind, 9, 6).map(lambda row: {"tags": [tag.replace(old, new) for tag in row["tags"]]})
    return rows_of(kind, 9, 6).map(lambda row: {"label": row["label"].replace(old, new)})


def facts_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "stages.jsonl").read_text(encoding="utf8").splitlines()
    return {facts["stage"]: facts for facts in map(json.loads, lines)}


def space_of(recipe: Any, data: dict[str, Any]) -> Workspace:
    recipe = resolve(recipe)
    return workspace(recipe, load_splits(recipe, data), Path("x"), Reporter())


# --- rows --------------------------------------------------------------------------------------------------------


def test_both_draws_the_target_with_its_share(tiny_bert: Path, tmp_path: Path) -> None:
    for share in (0.25, None):
        stage = BOTH | ({} if share is None else {"target_share": share})
        space = space_of(recipe_from(values(tmp_path, tiny_bert, stages=[stage])), given())
        rows = labelled_rows(space, space.recipe.finetunes[0])
        assert rows.target_labels == 9
        origins = np.asarray([row["origin"] for row in rows.labelled.features])
        assert np.bincount(origins + 1).tolist() == [9, 24]
        order = rows.order
        picks = list(EpochSampler(order.lengths, 8, 3, mixture=order.mixture))
        drawn = origins[[pick.source for pick in picks]] == TARGET
        assert rows.drawn == round(24 / (1 - (share or 0.5)))
        assert drawn.mean() == pytest.approx(share or 0.5)
        # Every batch, too: no step is all source or all target.
        assert all(batch.mean() == pytest.approx(share or 0.5) for batch in drawn.reshape(-1, 8))
        assert all(row["label"] != UNKNOWN for row in rows.labelled.features)


@pytest.mark.parametrize(("on", "domains"), [("source", [4, 4]), ("both", [2, 6]), ("target", [4, 8])])
def test_methods_see_both_domains_whatever_the_labels_are_from(
    on: str, domains: list[int], tiny_bert: Path, tmp_path: Path
) -> None:
    """Labelled rows, target text beside each; where no labelled row is the source's, source text, too."""
    space = space_of(recipe_from(values(tmp_path, tiny_bert, stages=[{"name": "finetune", "on": on}])), given())
    stage = space.recipe.finetunes[0]
    for name in ("dann", "mcc"):
        rows = with_unlabelled(space, labelled_rows(space, stage), stage, [parts.METHODS[name]])
        order = rows.order
        sampler = EpochSampler(order.lengths, 4, 3, order.target_lengths, True, order.mixture, order.text_lengths)
        data, picks = rows.pairs(), list(sampler)
        batch = PairCollator(0)([data[pick] for pick in picks[:4]])
        wanted = domains if name == "dann" or on != "target" else [0, 8]
        assert torch.bincount(batch["domain"], minlength=2).tolist() == wanted
        labelled = batch["labels"] != UNKNOWN
        assert labelled.sum() == 4
        assert set(batch["domain"][labelled].tolist()) == {"source": {0}, "target": {1}, "both": {0, 1}}[on]


def test_source_text_goes_on_where_the_last_epoch_stopped() -> None:
    sampler = EpochSampler([5] * 8, 4, 3, [4] * 6, text_lengths=[3] * 16)
    seen = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        seen += [pick.text for pick in sampler]
    assert sorted(seen[:16]) == list(range(16)) == sorted(seen[16:])
    assert all(pick.text == -1 for pick in EpochSampler([5] * 8, 4, 3, [4] * 6))


def test_class_weights_follow_what_is_drawn(tiny_bert: Path, tmp_path: Path) -> None:
    data = values(tmp_path, tiny_bert, stages=[BOTH | {"target_share": 0.75}])
    data["task"] = {"name": "classification", "class_weights": "balanced"}
    rows = given() | {"target.train": rows_of("classification", 9, 6).filter(lambda row: row["label"] == "good")}
    space = space_of(recipe_from(data), rows)
    fit_task(space, space.recipe.finetunes[0])
    shares = np.array([0.25 / 3, 0.25 / 3 + 0.75, 0.25 / 3])  # the source has as many rows of each label
    assert space.task.weights_C.numpy() == pytest.approx(1 / (3 * shares))  # type: ignore[attr-defined]


def test_the_text_of_labelled_rows_is_target_text_where_there_is_no_other(tiny_bert: Path, tmp_path: Path) -> None:
    data, rows = values(tmp_path, tiny_bert, methods=("dann",)), given()
    data["data"]["target"] = {"train": "memory"}
    del rows["target.unlabelled"], rows["target.test"]
    splits = load_splits(resolve(recipe_from(data)), rows)
    assert splits.unlabelled is not None
    assert splits.unlabelled.rows.column_names == ["text"]
    assert splits.unlabelled.rows["text"][:] == rows["target.train"]["text"][:]
    assert any("the text of target.train is the target text" in note for note in splits.notes)
    assert any("no stage trains on its labels" in note for note in splits.notes)
    assert resolve(recipe_from(data | {"source_only": True})).guard


def test_labels_are_those_of_both_in_alphabetical_order(tiny_bert: Path, tmp_path: Path) -> None:
    rows = given() | {"target.train": renamed("classification", "poor", "odd")}
    unused = load_splits(resolve(recipe_from(values(tmp_path, tiny_bert))), rows)
    assert unused.labels == ["bad", "good", "poor"]
    used = load_splits(resolve(recipe_from(values(tmp_path, tiny_bert, stages=THEN))), rows)
    assert used.labels == ["bad", "good", "odd", "poor"]
    assert any("target.train has labels that no source row has: odd" in note for note in used.notes)


def test_scored_texts_that_are_trained_on_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    rows = given() | {"target.train": rows_of("classification", 12, 4)}
    splits = load_splits(resolve(recipe_from(values(tmp_path, tiny_bert, stages=THEN))), rows)
    assert any("target.test: 12 of its texts are in target.train" in note for note in splits.notes)


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


@pytest.mark.parametrize(("plan", "kind", "tuning", "method"), cases(), ids=map("-".join, cases()))
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


def test_a_stage_continues_the_one_before(tiny_bert: Path, tmp_path: Path) -> None:
    """At a rate of almost nothing, the second stage leaves what the first has learned."""
    still = ON_TARGET | {"train": {"learning_rate": 1e-9, "head_learning_rate": 1e-9}}
    for tuning in ("full", "lora"):
        data = values(tmp_path / tuning, tiny_bert, tuning=tuning, stages=["finetune", still])
        result = run(recipe_from(data), data=given())
        first, second = (saved_weights(result.folder / "stages" / name / "model") for name in
                         ("1-finetune", "2-finetune"))  # fmt: skip
        assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


@pytest.mark.parametrize(("kind", "tuning"), [("classification", "full"), ("ner", "lora"), ("ner", "frozen")])
def test_rows_of_labels_that_no_stage_before_has_seen_start_anew(
    kind: str, tuning: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are those of the stage before, bit for bit."""
    starts: list[torch.Tensor] = []
    train = jobs.train

    def spied(job: Any, model: Any) -> Any:
        names = [name for name, value in model.named_parameters() if "classifier" in name and value.requires_grad]
        starts.append(model.get_parameter(next(name for name in names if name.endswith("weight"))).detach().clone())
        return train(job, model)

    monkeypatch.setattr(jobs, "train", spied)
    old, new = ("PER", "WHO") if kind == "ner" else ("poor", "odd")
    listener = Listener()
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, kind, tuning, stages=THEN, learning_rate=0.1))
    result = run(recipe, data=given(kind) | {"target.train": renamed(kind, old, new)}, reporter=listener)  # type: ignore[arg-type]
    labels = json.loads((result.model / "config.json").read_text())["id2label"].values()
    rows = [number for number, label in enumerate(labels) if new in label]
    saved = saved_weights(result.folder / "stages/1-finetune/model")
    before = next(value for name, value in saved.items() if name.endswith("classifier.weight"))
    others = [number for number in range(len(before)) if number not in rows]
    assert torch.equal(starts[1][others], before[others])
    assert starts[1][rows].abs().max() < 0.1 < before[rows].abs().max()
    fresh = "B-WHO, I-WHO" if kind == "ner" else "odd"
    assert f"finetune-2: labels that no stage before was trained on start anew: {fresh}." in listener.said


def test_both_trains_new_labels_from_the_beginning(tiny_bert: Path, tmp_path: Path) -> None:
    """There source dev knows nothing of the new label, so the last step is kept."""
    listener = Listener()
    recipe = recipe_from(values(tmp_path / "run", tiny_bert, stages=[BOTH, ON_TARGET], early_stopping=1))
    rows = given() | {"target.train": renamed("classification", "poor", "odd")}
    result = run(recipe, data=rows, reporter=listener)  # type: ignore[arg-type]
    assert not [line for line in listener.said if "start anew" in line]
    for facts in facts_of(result.folder).values():
        assert facts["selection"] == "last step"
        assert facts["selected_step"] == facts["steps"] == 2
        assert "best_dev" not in facts
    assert any("finetune: train.early_stopping has no effect" in line for line in listener.warned)
    # Source dev is scored on the way all the same.
    logged = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in logged if "eval_accuracy" in line} == {"finetune", "finetune-2"}


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


def test_several_sources_share_what_the_target_leaves(tiny_bert: Path, tmp_path: Path) -> None:
    data = values(tmp_path / "run", tiny_bert, "classification", "full", ("dann",), [BOTH | {"target_share": 0.25}])
    maps: list[dict[str, Any]] = [{"label_map": {"poor": "bad"}}, {}]
    data["data"] |= {"source": [{"train": "memory", "dev": "memory"} | one for one in maps]}
    rows = {name: value for name, value in given().items() if name.startswith("target.")}
    rows |= {
        f"source.{n}.{role}": rows_of("classification", 12 + 12 * n, n) for n in (0, 1) for role in ("train", "dev")
    }
    space = space_of(recipe_from(data), rows)
    assert set(space.splits.sources[0].train.rows["label"][:]) == {"bad", "good"}
    assert set(space.splits.sources[1].train.rows["label"][:]) == {"bad", "good", "poor"}
    mixture = labelled_rows(space, space.recipe.finetunes[0]).mixture
    assert mixture is not None
    assert mixture.shares == {TARGET: 0.25, 0: 0.375, 1: 0.375}
    assert run(recipe_from(data), data=rows).metrics["target_labels"]["rows"] == 9
    # On the target alone, the other domains are those of both sources.
    alone = recipe_from(data | {"stages": [ON_TARGET], "output": str(tmp_path / "alone")})
    space = space_of(alone, rows)
    stage = space.recipe.finetunes[0]
    text = with_unlabelled(space, labelled_rows(space, stage), stage, [parts.METHODS["dann"]]).text
    assert text is not None
    assert {row["origin"] for row in text.features} == {0, 1}
    assert run(alone, data=rows).metrics["selection"] == "last step"


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
        assert "over unadapted" in text
        assert "source-only" not in text.split("## How it was made")[0]
    assert "finetune, finetune on target" in card
    assert "The checkpoint is that of the last step; target labels other than those trained on" in card
    console = Console(width=200, record=True)
    console.print(score_table(result.metrics))
    assert "unadapted" in console.export_text()


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


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts_of_message"),
    [
        ({"stages": [{"name": "finetune", "target_share": 0.5}]}, ("stages.0", "on: source")),
        ({"stages": [ON_TARGET | {"target_share": 0.5}]}, ("stages.0", "on: target")),
        ({"stages": [BOTH | {"target_share": 1.0}]}, ("stages.0.target_share", "less than 1")),
        ({"stages": [{"name": "finetune", "on": "tagret"}]}, ("stages.0.on", "Did you mean 'target'?")),
        ({"stages": [BOTH, BOTH]}, ("stages.1", "the same rows", "on: both")),
        ({"stages": ["finetune", "pretrain", ON_TARGET]}, ("stages", "any 'pretrain' before it")),
        ({"stages": [{"name": "finetune", "adapt": False}], "methods": ["dann"]}, ("methods", "adapt: false")),
    ],
)
def test_stages_that_make_no_sense(changes: dict[str, Any], parts_of_message: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(values(tmp_path, tmp_path) | changes)
    assert all(part in str(caught.value) for part in parts_of_message), str(caught.value)


@pytest.mark.parametrize("stage", [BOTH, ON_TARGET])
def test_labelled_target_rows_must_be_named(stage: dict[str, Any], tmp_path: Path) -> None:
    data = values(tmp_path, tmp_path, stages=[stage])
    del data["data"]["target"]["train"]
    with pytest.raises(RecipeError, match=r"stages\.0\.on: on: (both|target) trains on labelled target rows"):
        recipe_from(data)


def test_o_is_no_entity_type(tmp_path: Path) -> None:
    data = values(tmp_path, tmp_path, "ner")
    data["data"]["source"]["label_map"] = {"PER": "O"}
    with pytest.raises(RecipeError, match=r"data\.source\.label_map\.PER: 'O' is what words outside.*null"):
        recipe_from(data)


def test_target_rows_of_one_class_are_not_enough_alone(tiny_bert: Path, tmp_path: Path) -> None:
    rows = given() | {"target.train": rows_of("classification", 9, 6).filter(lambda row: row["label"] == "good")}
    with pytest.raises(DataError, match="every row has the label 'good'"):
        run(recipe_from(values(tmp_path / "run", tiny_bert, stages=THEN)), data=rows)
    run(recipe_from(values(tmp_path / "both", tiny_bert, stages=[BOTH])), data=rows)
