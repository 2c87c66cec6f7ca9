"""A saved model is the trained model: in a fresh process, merged, and from one stage to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import build_model
from helpers import data_of, make_recipe, recipe_data, saved_weights
from reload_models import load, logits_of

from nlp_transfer.inference import load_predictor
from nlp_transfer.last_layer import read_first_token
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run
from nlp_transfer.stages import base as stages
from nlp_transfer.stages.weights import adopt_encoder

pytestmark = pytest.mark.slow
"""Every run ends with this check of its own model; here are all architectures and tunings."""

ARCHITECTURES = ["bert", "distilbert", "roberta", "deberta-v2", "electra", "albert", "mpnet", "modernbert"]
MASKED_FIRST = ["pretrain", "finetune"]
LORA = {"name": "lora", "rank": 4}

# Name: (architecture, task, tuning, stages)
CASES: dict[str, tuple[str, str, Any, list[str]]] = {
    **{f"lora-{kind}": (kind, "classification", LORA, ["finetune"]) for kind in ARCHITECTURES},
    "lora-without-pooler": ("bert-mlm", "classification", LORA, ["finetune"]),
    "lora-ner": ("modernbert", "ner", LORA, ["finetune"]),
    "full": ("bert", "classification", "full", ["finetune"]),
    "frozen-albert": ("albert", "classification", "frozen", ["finetune"]),
    "full-after-mlm": ("bert", "classification", "full", MASKED_FIRST),
    **{f"lora-after-mlm-{kind}": (kind, "classification", LORA, MASKED_FIRST) for kind in ("bert", "deberta-v2")},
    **{name: ("bert", "multi_label", LORA | {"variant": name}, ["finetune"]) for name in ("rslora", "dora")},
}


@pytest.fixture(scope="module")
def bases(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    made = {kind: build_model(folder / kind, kind) for kind in ARCHITECTURES}
    # A masked-LM checkpoint holds no pooler: a classifier on it starts with a random one, which must be saved.
    return made | {"bert-mlm": build_model(folder / "bert-mlm", "bert", "AutoModelForMaskedLM")}


@pytest.fixture(scope="module")
def trained(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Model folders, and the logits that each model gave in memory just before it was saved."""
    folder = tmp_path_factory.mktemp("trained")
    made: dict[str, tuple[Path, np.ndarray]] = {}
    kept: list[np.ndarray] = []
    save = stages.save_model

    def spy(model: Any, *args: Any) -> None:
        kept.append(logits_of(model))
        save(model, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "save_model", spy)
        for name, (kind, task, tuning, order) in CASES.items():
            plan = [{"name": "pretrain", "head_steps": 1} if stage == "pretrain" else stage for stage in order]
            recipe = make_recipe(folder / name, bases[kind], task, tuning, stages=plan, learning_rate=0.01)
            made[name] = (run(recipe, data=data_of(task)).model, kept[-1])
    return made


@pytest.fixture(scope="module")
def reloaded(trained: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Logits of all models in one fresh process with another seed."""
    folder = tmp_path_factory.mktemp("reloaded")
    names = {str(path): name for name, (path, _) in trained.items()}
    command = [sys.executable, str(Path(__file__).parent / "reload_models.py"), *names]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    with np.load(folder / "logits.npz") as found:
        return {names[path]: found[path] for path in found.files}


@pytest.mark.parametrize("name", CASES)
def test_fresh_process_gives_the_same_logits(name: str, trained: dict[str, Any], reloaded: dict[str, Any]) -> None:
    folder, expected = trained[name]
    assert np.abs(reloaded[name] - expected).max() < 1e-6
    # To the last bit where both last layers compute the same tokens: the trained one's may be the first alone.
    narrow = load(folder)
    read_first_token(narrow)
    assert np.array_equal(reloaded[name], expected) or np.array_equal(logits_of(narrow), expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] not in ("full", "frozen")])
def test_merged_adapter_gives_the_same_logits(name: str, trained: dict[str, Any]) -> None:
    folder, expected = trained[name]
    adapted = load(folder)
    assert any("lora_A" in key for key in adapted.state_dict())
    with adapted.disable_adapter():
        assert np.abs(logits_of(adapted) - expected).max() > 1e-4  # the adapter does something
    assert np.abs(logits_of(adapted.merge_and_unload()) - expected).max() < 1e-5
    assert np.abs(logits_of(load_predictor(folder).model) - expected).max() < 1e-5


def test_variants_are_what_they_say(trained: dict[str, Any]) -> None:
    assert any("lora_magnitude_vector" in key for key in saved_weights(trained["dora"][0]))
    assert not any("lora_magnitude_vector" in key for key in saved_weights(trained["rslora"][0]))
    rslora = load(trained["rslora"][0]).peft_config["default"]
    assert rslora.use_rslora
    assert rslora.lora_alpha == 8


def test_adapter_is_small_and_names_its_base(bases: dict[str, Path], trained: dict[str, Any]) -> None:
    import json

    for name, (kind, _, tuning, _) in CASES.items():
        if tuning in ("full", "frozen"):
            continue
        folder = trained[name][0]
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(bases[kind])
        assert not (folder / "model.safetensors").exists()
        assert not [key for key in saved_weights(folder) if "embeddings" in key]


# From a pretrain stage to the next


def chained(bases: dict[str, Path], folder: Path, kind: str, tuning: Any) -> Path:
    """Pretrain in earnest, then fine-tune at a rate that moves nothing, with the source-only twin."""
    plan = [{"name": "pretrain", "head_steps": 1, "train": {"max_steps": 3, "batch_size": 4, "learning_rate": 0.01}}]
    data = recipe_data(folder, bases[kind], tuning=tuning, stages=[*plan, {"name": "finetune"}], learning_rate=1e-12)
    run(recipe_from(data | {"source_only": True}), data=data_of("classification"))
    return folder / "stages"


def plain_names(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items()}


@pytest.mark.parametrize(("kind", "prefix"), [("bert", "bert."), ("modernbert", "model."), ("albert", "albert.")])
def test_encoder_of_the_pretrain_stage_is_adopted(
    kind: str, prefix: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    made = chained(bases, tmp_path / "run", kind, "full")
    base = saved_weights(bases[kind])
    masked = plain_names(saved_weights(made / "1-pretrain/model"), prefix)
    final = plain_names(saved_weights(made / "2-finetune/model"), prefix)
    twin = plain_names(saved_weights(made / "source-only/model"), prefix)
    inside = [name for name in base if "pooler" not in name]
    assert len(inside) > 10
    for name in inside:
        assert torch.allclose(final[name], masked[name], atol=1e-9), name
        assert torch.allclose(twin[name], base[name], atol=1e-9), name
    moved = [name for name in inside if not torch.allclose(final[name], base[name], atol=1e-4)]
    assert len(moved) > 0.8 * len(inside)
    for name in (name for name in base if "pooler" in name):
        assert name not in masked
        assert torch.allclose(final[name], base[name], atol=1e-9), "the pretrained pooler was lost"


def test_adapters_of_the_pretrain_stage_are_adopted(bases: dict[str, Path], tmp_path: Path) -> None:
    made = chained(bases, tmp_path / "run", "bert", LORA)
    masked, final, twin = (saved_weights(made / name / "model") for name in ("1-pretrain", "2-finetune", "source-only"))
    adapters = [name for name in masked if "lora_" in name]
    assert len(adapters) == 2 * 6 * 2
    for name in adapters:
        assert torch.allclose(final[name], masked[name], atol=1e-9)
        if "lora_B" in name:
            assert masked[name].abs().max() > 1e-4
            assert twin[name].abs().max() < 1e-9
    pooler = saved_weights(bases["bert"])["pooler.dense.weight"]
    assert torch.allclose(final["base_model.model.bert.pooler.dense.weight"], pooler, atol=1e-9)


def test_adopting_foreign_weights_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    import transformers

    from nlp_transfer.errors import ModelError

    auto = transformers.AutoModelForSequenceClassification
    with pytest.raises(ModelError, match="does not hold the weights"):
        adopt_encoder(auto.from_pretrained(bases["bert"]), bases["distilbert"])
