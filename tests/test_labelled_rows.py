"""Labelled target rows in the data: which rows a stage draws, what lies beside them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import rows_of
from target_labels import BOTH, ON_TARGET, THEN, given, renamed, space_of, values

from nlp_transfer.data.batching import PairCollator
from nlp_transfer.data.pairs import EpochSampler
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.recipe.schema import Part
from nlp_transfer.running import run
from nlp_transfer.stages.rows import fit_task, labelled_rows, with_unlabelled
from nlp_transfer.units import TARGET, UNKNOWN


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
        rows = with_unlabelled(space, labelled_rows(space, stage), stage, [Part(name=name)])
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
    fit_task(space, space.recipe.finetunes[0], labelled_rows(space, space.recipe.finetunes[0]))
    shares = np.array([0.25 / 3, 0.25 / 3 + 0.75, 0.25 / 3])  # the source has as many rows of each label
    assert space.task.weights_C == pytest.approx(1 / (3 * shares))  # type: ignore[attr-defined]


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


def test_thresholds_that_no_source_row_can_tune_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    new = rows_of("multi_label", 9, 6).map(lambda row: {"labels": [*row["labels"], "odd"]})
    rows = given("multi_label") | {"target.train": new}
    away = "source.dev: thresholds are tuned on these rows, though the last 'finetune' trains on target rows alone"
    for stages, told in ((["finetune"], False), ([BOTH], False), (THEN, True)):
        recipe = resolve(recipe_from(values(tmp_path, tiny_bert, "multi_label", stages=stages)))
        notes = load_splits(recipe, rows).notes
        assert any(note.startswith(away) for note in notes) == told
        lacking = "source.dev: no row has the labels ['odd']. Thresholds are tuned on these rows, so theirs stay 0.5."
        assert (lacking in notes) == (stages != ["finetune"])
    single = resolve(recipe_from(values(tmp_path, tiny_bert, stages=THEN)))
    assert not any("hresholds" in note for note in load_splits(single, given()).notes)


def test_scored_texts_that_are_trained_on_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    rows = given() | {"target.train": rows_of("classification", 12, 4)}
    splits = load_splits(resolve(recipe_from(values(tmp_path, tiny_bert, stages=THEN))), rows)
    assert any("target.test: 12 of its texts are in target.train" in note for note in splits.notes)


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
    text = with_unlabelled(space, labelled_rows(space, stage), stage, [Part(name="dann")]).text
    assert text is not None
    assert {row["origin"] for row in text.features} == {0, 1}
    assert run(alone, data=rows).metrics["selection"] == "last step"


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
        (
            {"stages": [BOTH, "self_train"], "data": {"source": {"train": "a"}, "target": {"train": "b"}}},
            ("stages.1", "Set data.target.unlabelled"),
        ),
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
