"""Every run, and every push, makes sure that a fresh process gets from the saved model what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import data_of, make_recipe
from safetensors.torch import load_file, save_file

from nlp_transfer import running
from nlp_transfer.errors import RunError
from nlp_transfer.inference import load_predictor
from nlp_transfer.reloading import check
from nlp_transfer.reloading.examples import examples_of, read_examples

LORA = {"name": "lora", "rank": 4}


@pytest.fixture(scope="module")
def finished(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an adapter whose head has learnt something."""
    recipe = make_recipe(tmp_path_factory.mktemp("run") / "lora", tiny_bert, "ner", LORA, learning_rate=0.05)
    return running.run(recipe, data=data_of("ner")).folder


def check_examples(folder: Path) -> None:
    """Check that a run's examples are what its model gives in fp32."""
    examples = read_examples(folder)
    assert examples is not None
    assert len(examples) == 4
    again = examples_of(load_predictor(folder, precision="fp32").model, [one["input_ids"] for one in examples])
    for one, other in zip(examples, again, strict=True):
        assert np.allclose(one["logits"], other["logits"], atol=1e-5)


def test_examples_are_what_the_trained_model_gave(finished: Path) -> None:
    check_examples(finished)


def test_examples_are_in_fp32_after_training_in_bf16(tiny_bert: Path, tmp_path: Path) -> None:
    """Training in bf16 leaves autocast inside the model's forward, where nothing around it switches it off."""
    recipe = make_recipe(tmp_path / "run", tiny_bert, "classification", LORA, precision="bf16", learning_rate=0.05)
    check_examples(running.run(recipe, data=data_of("classification")).folder)


def test_a_run_checks_its_model_unless_told_not_to(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Any] = []
    monkeypatch.setattr(running, "check_reload", lambda *given: checked.append(given) or 0.0)
    data = data_of("classification")
    result = running.run(make_recipe(tmp_path / "run", tiny_bert), data=data)
    assert checked == [(result.model, read_examples(result.folder), tiny_bert)]
    running.run(make_recipe(tmp_path / "other", tiny_bert), data=data, checked=False)
    assert len(checked) == 1


def test_a_model_that_fails_the_check_is_no_finished_run(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> float:
        raise RunError("not the model that was trained")

    monkeypatch.setattr(running, "check_reload", fails)
    with pytest.raises(RunError):
        running.run(make_recipe(tmp_path / "run", tiny_bert), data=data_of("classification"))
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [(0.5, "not the model that was trained"), (float("nan"), "not the model"), (None, r"gives \(1,\) logits")],
)
def test_other_logits_are_refused(
    change: float | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [[1.0]] if change is None else [[1.0 + change, 2.0]]
    monkeypatch.setattr(check, "_in_fresh_process", lambda *args: given)
    with pytest.raises(RunError, match=message):
        check.check_reload(tmp_path, [{"input_ids": [1], "logits": [1.0, 2.0]}])


@pytest.mark.slow
def test_a_head_that_was_not_saved_is_seen_by_a_fresh_process(finished: Path, tiny_bert: Path, tmp_path: Path) -> None:
    examples = read_examples(finished)
    assert examples is not None
    assert check.check_reload(finished / "model", examples, tiny_bert) < 1e-5
    folder = tmp_path / "model"
    shutil.copytree(finished / "model", folder)
    weights = load_file(folder / "adapter_model.safetensors")
    kept = {name: value for name, value in weights.items() if "classifier" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "adapter_model.safetensors")
    with pytest.raises(RunError, match=r"not the model that was trained|does not load in a fresh process"):
        check.check_reload(folder, examples, tiny_bert)
    assert torch.random.initial_seed() != check.SEED
