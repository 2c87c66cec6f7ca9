"""Source domains with shares of their own: the recipe, what is drawn, what follows from it, what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import recipe_data, rows_of, text_rows
from target_labels import BOTH, space_of

from nlp_transfer.card.making import source_lines
from nlp_transfer.comparison.claims import check_claims, text_of
from nlp_transfer.data.mixture import Mixture
from nlp_transfer.data.pairs import EpochSampler
from nlp_transfer.diagnosis.timing import _repeats
from nlp_transfer.errors import RecipeError, RunError, TrainingError
from nlp_transfer.parts import recipe_from
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.report.record import Record
from nlp_transfer.sequence import _depends_on
from nlp_transfer.stages.rows import fit_task, labelled_rows
from nlp_transfer.units import TARGET

SHARES = (0.75, 0.25)
BALANCED = {"name": "classification", "class_weights": "balanced"}


def values(shares: Any = SHARES, model: Path | str = "x", **changes: Any) -> dict[str, Any]:
    """A recipe of several sources with shares, as plain data; None: it says none."""
    data = recipe_data(Path("run"), Path(model), target_labels=True, **changes)
    shares = (None, None) if shares is None else shares
    files = {"train": "memory", "dev": "memory"}
    data["data"]["source"] = [files if share is None else files | {"share": share} for share in shares]
    return data


def given() -> dict[str, Any]:
    """Unlike labels in each domain; texts of the second are long: several windows each."""
    rows = {
        "source.0.train": rows_of("classification", 24, 1),
        "source.1.train": text_rows(12, 5, ("bad", "bad", "good"), 90),
    }
    rows |= {"target.train": text_rows(9, 6, ("good", "good", "poor"))}
    rows |= {f"source.{number}.dev": rows_of("classification", 6, 7 + number) for number in (0, 1)}
    return rows | {"target.unlabelled": rows_of("classification", 8, 3), "target.test": rows_of("classification", 6, 4)}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.5, None), "data.source.0.share is set, but not data.source.1.share. Set the share of every source, or of"),
        ((0.5, 0.3), "data.source.0.share (0.5), data.source.1.share (0.3) add up to 0.8. They must add up to 1"),
        ((0.5, 0.5, 0.5), "add up to 1.5. They must add up to 1"),
        ((0.0, 1.0), "data.source.0.share: expected a number greater than 0 and less than 1"),
    ],
)
def test_shares_that_do_not_fit_are_refused_with_their_key_paths(shares: Any, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(values(shares))
    assert told in str(caught.value)


def test_one_source_has_nothing_to_share() -> None:
    data = values()
    data["data"]["source"] = {"train": "memory", "share": 0.5}
    with pytest.raises(RecipeError, match=r"data\.source\.share divides batches among several sources"):
        recipe_from(data)


@pytest.mark.parametrize(
    ("shares", "stage", "expected"),
    [
        (SHARES, "finetune", {0: 0.75, 1: 0.25}),
        (None, "finetune", {0: 0.5, 1: 0.5}),
        (SHARES, BOTH | {"target_share": 0.2}, {0: 0.6, 1: 0.2, TARGET: 0.2}),
        (None, BOTH | {"target_share": 0.2}, {0: 0.4, 1: 0.4, TARGET: 0.2}),
    ],
)
def test_rows_are_drawn_and_classes_weighed_by_the_shares(
    shares: Any, stage: Any, expected: dict[int, float], tiny_bert: Path
) -> None:
    """Weights are those of scikit-learn's formula over what the sampler draws, window by window."""
    space = space_of(recipe_from(values(shares, tiny_bert, stages=[stage]) | {"task": BALANCED}), given())
    rows = labelled_rows(space, space.recipe.finetunes[0])
    assert len(rows.labelled.windows) > rows.labelled.rows
    assert rows.mixture is not None
    assert rows.mixture.shares == pytest.approx(expected)
    order, drawn, labels = rows.order, np.zeros(3), np.zeros(3)
    sampler = EpochSampler(order.lengths, 8, 3, mixture=order.mixture)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        for pick in sampler:
            row = rows.labelled.features[pick.source]
            drawn[int(row["origin"])] += 1
            labels[int(row["label"])] += row["weight"]
    assert drawn / drawn.sum() == pytest.approx([expected.get(place, 0) for place in (0, 1, TARGET)], abs=0.01)
    fit_task(space, space.recipe.finetunes[0], rows)
    weights: Any = space.task.weights_C  # type: ignore[attr-defined]
    assert weights == pytest.approx(labels.sum() / (3 * labels), rel=0.03)


def test_an_epoch_too_short_for_a_share_is_told() -> None:
    mixture = Mixture([0] * 20 + [1], {0: 0.99, 1: 0.01})
    with pytest.raises(TrainingError, match=r"21 rows, an epoch, are too few to hold .*0\.99, 0\.01.*data\.source"):
        mixture.draw(len(mixture), 0, 1)


def test_a_changed_share_is_another_stage_and_none_is_the_stage_of_before(tiny_bert: Path) -> None:
    settings = []
    for shares in (None, SHARES, (0.5, 0.5)):
        space = space_of(recipe_from(values(shares, tiny_bert)), given())
        settings.append(_depends_on(space, space.recipe.stages[0], {})[0])
    stage = space.recipe.stages[0].model_dump(exclude={"adapt"})
    assert settings[0] == [stage, [], ["bad", "good", "poor"]]
    assert settings[1][:3] == settings[2][:3] == settings[0]
    assert settings[1] != settings[2] != settings[0]


def test_what_is_estimated_and_told(tiny_bert: Path) -> None:
    """An epoch is one pass over the largest domain: 24 rows, which are a quarter of it."""
    for shares, times, told in (
        (
            (0.25, 0.75),
            96 / 36,
            "with their shares of the source rows of every batch: 0 (24 rows, share 0.25), 1 (12 r",
        ),
        (None, 48 / 36, "each with the same share of every batch: 0 (24 rows), 1 (12 rows)"),
    ):
        space = space_of(recipe_from(values(shares, tiny_bert)), given())
        assert _repeats(space.splits.train, space.recipe.data.source_shares) == pytest.approx(times)
        rows = {"source.0.train": 24, "source.1.train": 12}
        (line,) = source_lines(Record(Path("x"), space.recipe, {}, {"rows": rows}, [], [], None))
        assert told in line


def test_a_folder_of_before_there_were_shares_is_this_recipes(tmp_path: Path) -> None:
    recipe = resolve(recipe_from(values(None)))
    text = "".join(line for line in text_of(recipe).splitlines(keepends=True) if "share: null" not in line)
    assert text != text_of(recipe)
    (tmp_path / "recipe.yaml").write_text(text)
    check_claims([(tmp_path, recipe)], tmp_path)
    with pytest.raises(RunError, match="another recipe"):
        check_claims([(tmp_path, recipe.model_copy(update={"seed": 77}))], tmp_path)
