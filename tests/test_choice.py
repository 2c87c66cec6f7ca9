"""Rows chosen from a corpus: the score is Moore and Lewis' difference, and the rows most like the target are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers import Listener, data_of, make_recipe, recipe_data

from nlp_transfer.data.choice import UNKNOWN, BigramModel, best_rows, score_rows, words_of
from nlp_transfer.errors import RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run

TARGET = ["The screen is slow.", "the app crashed", "slow app, slow screen"]
CORPUS = ["the film was great", "My app crashed: the screen is slow", "parliament voted", "the app", "…", "a film!"] * 5


def entropy_by_hand(train: list[list[str]], words: list[str], vocabulary: int) -> float:
    """−1/|s| Σ log p, by counting in loops."""
    flat = [word for text in train for word in text]
    total = 0.0
    for at, word in enumerate(words):
        p = (sum(other == word for other in flat) + 1) / (len(flat) + vocabulary)
        before = words[at - 1] if at else None
        follows = []
        for text in train:
            for place, other in enumerate(text):
                if (text[place - 1] if place else None) == before:
                    follows.append(other)
        if follows:
            p = 0.5 * follows.count(word) / len(follows) + 0.5 * p
        total += math.log(p)
    return -total / len(words)


def test_words() -> None:
    assert words_of("It's slow, NAÏVE…") == ["it", "'", "s", "slow", ",", "naïve", "…"]
    assert words_of("the slow app", {"app"}) == [UNKNOWN, UNKNOWN, "app"]


def test_model_is_a_distribution() -> None:
    model = BigramModel([["a", "b", "a"], ["b"]], 3)
    for before in (["a"], ["b"], [], ["unseen"]):
        mass = 0.0
        for word in ("a", "b", UNKNOWN):
            of_both = model.cross_entropy([*before, word]) * (len(before) + 1)
            mass += math.exp(-(of_both - (model.cross_entropy(before) if before else 0.0)))
        # A word at the end of all texts is followed by nothing: "a" and "b" are contexts here, "unseen" is none.
        assert mass == pytest.approx(1.0)


def test_scores_are_those_of_the_formula() -> None:
    target = [words_of(text) for text in TARGET]
    known = {word for text in target for word in text}
    seed = 5
    sizes = [len(words_of(text)) for text in CORPUS]
    share = sum(map(len, target)) / sum(sizes)
    assert 0 < share < 1
    drawn = np.random.default_rng(seed).random(len(CORPUS)) < share
    general = [words_of(text, known) for text, one in zip(CORPUS, drawn, strict=True) if one]
    assert general
    scores = score_rows(CORPUS, TARGET, seed)
    for text, score in zip(CORPUS, scores, strict=True):
        words = words_of(text, known)
        expected = entropy_by_hand(target, words, len(known) + 1) - entropy_by_hand(general, words, len(known) + 1)
        assert score == pytest.approx(expected, rel=1e-9)
    assert scores.tolist() == score_rows(CORPUS, TARGET, seed).tolist()
    assert scores[1] < scores[0] < scores[2]


def test_rows_without_words_come_last() -> None:
    scores = score_rows(["slow app", "  ", "a film"], TARGET, 0)
    assert np.isinf(scores).tolist() == [False, True, False]
    assert best_rows(scores, 2).tolist() == [True, False, True]


def test_the_lowest_scores_are_kept_and_among_equals_the_first() -> None:
    assert best_rows(np.array([2.0, 1.0, 2.0, 0.5, 2.0]), 3).tolist() == [True, True, False, True, False]


def stage(**choose: Any) -> dict[str, Any]:
    corpus = {"path": "memory", "choose": choose}
    return {"name": "pretrain", "corpus": corpus, "head_steps": 0, "block_length": 16, "train": {"max_steps": 1}}


@pytest.mark.parametrize(("choose", "kept"), [({"rows": 7}, 7), ({"share": 0.1}, 3), ({"rows": 1000}, 30)])
def test_stage_reads_the_chosen_rows(choose: dict[str, Any], kept: int, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "run", tiny_bert, stages=[stage(**choose), "finetune"], max_steps=1)
    listener = Listener()
    data = data_of("classification") | {"stages.0.corpus": datasets.Dataset.from_dict({"text": CORPUS})}
    result = run(recipe, data=data, reporter=listener)  # type: ignore[arg-type]
    facts = json.loads((result.folder / "stages.jsonl").read_text().splitlines()[0])
    assert facts["texts"] == kept
    assert any(
        f"{kept} of 30 rows of the corpus are kept, those most like the target" in line for line in listener.said
    )


def test_bad_choices_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    def problems(*stages: Any, target: bool = True) -> str:
        values = recipe_data(tmp_path / "run", tiny_bert, stages=[*stages, "finetune"])
        if not target:
            del values["data"]["target"]["unlabelled"]
        with pytest.raises(RecipeError) as error:
            recipe_from(values)
        return str(error.value)

    assert "either with rows (a number) or with share" in problems(stage())
    assert "either with rows (a number) or with share" in problems(stage(rows=3, share=0.5))
    assert "stages.0.corpus.choose: rows like the target cannot be chosen" in problems(stage(rows=3), target=False)
    assert "less than 1" in problems(stage(share=2.0))
