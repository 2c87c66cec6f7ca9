"""What users get wrong and what machines do to them: a clear message each time, and nothing lost.

Killing the process during a checkpoint is in ``test_resume.py``; single rows of bad data in ``test_data_errors.py``.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import types
from pathlib import Path

import pytest
import transformers
from datasets import Dataset
from helpers import Listener, recipe_data
from safetensors import SafetensorError
from samples import recipe_values, sentiment_rows, write_data, write_rows

from nlp_transfer import check, inference, load_predictor, recipe_from, resolve, run
from nlp_transfer.errors import DataError, ModelError, RecipeError, RunBusyError, RunError, UserError
from nlp_transfer.recipe import dump
from nlp_transfer.runfolder import claim, locked
from nlp_transfer.trainer import TransferTrainer


@pytest.fixture
def folder(tmp_path):
    return write_data(tmp_path / "data", "sentiment")


@pytest.fixture
def values(folder, tiny_bert):
    return recipe_values(folder, tiny_bert)


def refused(error, values, *parts, **given):
    """Run a recipe that must be refused; check the parts of the message; return it."""
    with pytest.raises(error) as caught:
        run(recipe_from(values), **given)
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    return message


def trained_anything(values):
    return (Path(values["output"]) / "stages").exists()


# --- recipes -----------------------------------------------------------------------------------------------------


def test_all_mistakes_of_a_recipe_are_shown_at_once(values):
    values |= {"modle": "x", "seed": "13", "tuning": {"name": "lora", "ranc": 4}, "methods": ["dnan"]}
    values["train"] |= {"epochs": "two", "warmup": 1.5, "learning_rat": 0.1}
    values["data"]["source"]["trian"] = "x.jsonl"
    parts = ("modle", "'model'", "seed", "ranc", "'rank'", "dnan", "'dann'", "train.epochs", "train.warmup",
             "learning_rat", "'learning_rate'", "trian", "'train'")  # fmt: skip
    refused(RecipeError, values, *parts)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"tuning": "frozen", "methods": ["dann"]}, ("methods.0", "'frozen' never changes", "full, lora")),
        ({"tuning": "frozen", "stages": ["pretrain", "finetune"]}, ("stages.0", "frozen")),
        ({"stages": ["finetune", "pretrain"]}, ("stages", "any 'pretrain' before it")),
        ({"stages": ["pretrain"]}, ("stages", "stages must be 'finetune'")),
        ({"stages": ["finetune", "finetune"]}, ("stages.1", "the same rows", "on: source")),
        ({"stages": ["self_train", "finetune"]}, ("stages", "at most one 'self_train' after it")),
        ({"stages": ["finetune", "self_train", "self_train"]}, ("stages", "at most one 'self_train' after it")),
        ({"stages": ["finetune", {"name": "soup", "models": ["a"]}, "self_train"]}, ("stages", "'soup' at the end")),
        ({"stages": ["finetune", "soup"]}, ("stages.1.models", "missing")),
        ({"stages": ["finetune", {"name": "soup", "models": []}]}, ("stages.1.models",)),
        (
            {"stages": ["finetune", {"name": "soup", "models": ["a"]}], "tuning": "frozen", "methods": []},
            ("stages.1", "'soup' averages encoders", "frozen"),
        ),
        ({"methods": ["dann", "dann"]}, ("methods.1", "twice")),
        ({"task": {"name": "ner", "class_weights": "balanced"}}, ("class_weights",)),
        ({"task": {"name": "sentiment", "multi_label": True}}, ("multi_label",)),
    ],
)
def test_impossible_combinations(values, changes, parts):
    refused(RecipeError, values | changes, *parts)


@pytest.mark.parametrize("changes", [{"methods": ["dann"]}, {"stages": ["pretrain", "finetune"]}])
def test_adaptation_without_target_text(values, changes):
    values["data"]["target"] = {"test": "test.jsonl"}
    refused(RecipeError, values | changes, "data.target.unlabelled")


def test_a_batch_that_does_not_divide_stops_before_the_first_stage(values):
    values["stages"] = ["pretrain", {"name": "finetune", "train": {"accumulation": 3}}]
    refused(RecipeError, values, "stages.1.train.batch_size", "a batch of 8", "multiple of 3")
    assert not trained_anything(values)
    with pytest.raises(RecipeError, match="multiple of 3"):
        check(recipe_from(values))
    values["train"]["accumulation"] = 3
    with pytest.raises(RecipeError, match=r"1 problem in the recipe:\n  train\.batch_size: a batch of 8"):
        check(recipe_from(values | {"stages": ["pretrain", "finetune"]}))


@pytest.mark.parametrize(
    ("tuning", "told"),
    [
        ({"name": "top_layers", "n": 99}, "tuning.n is 99, but the encoder has 2 layers"),
        ({"name": "lora", "targets": ["qery"]}, r"tuning.targets \['qery'\] name no linear layer.* Layers: dense, key"),
    ],
)
def test_layers_that_the_encoder_has_not_are_found_by_check(values, tuning, told):
    recipe = recipe_from(values | {"tuning": tuning})
    check(recipe)
    with pytest.raises(ModelError, match=told):
        check(recipe, data=True)


def test_files_that_are_not_there_are_told_together(values, folder):
    for name in ("dev.jsonl", "test.jsonl"):
        (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        run(recipe_from(values))
    assert [problem.message.split(".")[0] for problem in caught.value.problems] == [
        "no such file (source",
        "no such file (target",
    ]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"report_to": ["tensorboard", "wandb"]}, ("report_to.1: 'wandb' is not installed: pip install wandb",)),
        ({"name": "x" * 101}, ("name: a folder is called so: take 100 letters at most.",)),
        (
            {"compare": {"strategies": ["lora", {"name": "lora", "title": "x" * 101}]}},
            ("compare.strategies.1.title: a folder is called so",),
        ),
    ],
)
def test_what_would_have_no_effect_or_fail_late(values, changes, parts, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest)
    )
    refused(RecipeError, values | changes, *parts)


def test_keys_of_hub_data_on_a_file(values):
    values["data"]["source"]["train"] = {"path": "train.jsonl", "split": "train", "revision": "main"}
    told = "only data sets of the hub ('hub:owner/name') have one. Leave it out."
    refused(RecipeError, values, f"data.source.train.split: {told}", f"data.source.train.revision: {told}")
    values["data"]["source"] = [values["data"]["source"] | {"label_map": {"path": "positive", "split": "negative"}}]
    refused(RecipeError, values, f"data.source.0.train.split: {told}")
    values["data"]["source"][0]["train"] = "train.jsonl"
    recipe_from(values)  # what a label is called is no key
    corpus = {"path": "more.txt", "config": "en"}
    refused(
        RecipeError, values | {"stages": [{"name": "pretrain", "corpus": corpus}, "finetune"]}, "stages.0.corpus.config"
    )


@pytest.mark.parametrize("missing", [("tensorboard",), ("tensorboard", "tensorboardX")])
def test_either_package_serves_tensorboard(values, missing, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else object())
    if len(missing) > 1:
        refused(RecipeError, values | {"report_to": ["tensorboard"]}, "'tensorboard' is not installed")
    else:
        recipe_from(values | {"report_to": ["tensorboard"]})


def test_a_batch_larger_than_the_data(values, folder):
    write_rows(folder / "train.jsonl", sentiment_rows(5, 0))
    values["train"] |= {"batch_size": 32, "max_steps": 2}
    assert run(recipe_from(values)).metrics["scores"]


def test_a_window_that_the_model_cannot_read(values):
    values["data"]["max_length"] = 512
    refused(RecipeError, values, "data.max_length", "512", "64 tokens")
    assert not trained_anything(values)


def test_lora_targets_that_do_not_exist(values):
    values["tuning"] = {"name": "lora", "targets": ["q_proj"]}
    refused(ModelError, values, "q_proj", "query")


def test_more_top_layers_than_there_are(values):
    values["tuning"] = {"name": "top_layers", "n": 9}
    refused(ModelError, values, "9", "2 layers")


# --- data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["train", "dev", "unlabelled", "test"])
def test_missing_and_empty_files_are_named(values, folder, role):
    key = f"{'source' if role in ('train', 'dev') else 'target'}.{role}"
    (folder / f"{role}.jsonl").rename(folder / f"{role}s.jsonl")
    refused(DataError, values, f"{role}.jsonl", f"({key})", f"'{role}s.jsonl'")
    (folder / f"{role}.jsonl").write_text("\n\n", encoding="utf8")
    refused(DataError, values, f"{role}.jsonl", "empty", key)
    assert not trained_anything(values)


def test_one_class_is_not_enough(values, folder):
    write_rows(folder / "train.jsonl", [{"text": f"good film {n}", "label": "positive"} for n in range(12)])
    write_rows(folder / "dev.jsonl", [{"text": "fine", "label": "positive"}])
    write_rows(folder / "test.jsonl", [{"text": "fine", "label": "positive"}])
    refused(DataError, values, "train.jsonl", "'positive'", "two labels")


def test_labels_that_only_the_test_set_has(values, folder):
    write_rows(folder / "test.jsonl", [*sentiment_rows(4, 0), {"text": "fine", "label": "neutral"}])
    refused(DataError, values, "test.jsonl:5", "'neutral'", "'negative', 'positive'")
    values["task"] = {"name": "sentiment", "labels": ["negative", "neutral", "positive"]}
    refused(DataError, values, "['neutral']", "task.labels")


def test_labels_in_the_unlabelled_file_are_dropped_and_said(values, folder, tiny_bert):
    rows = [json.loads(line) for line in (folder / "unlabelled.jsonl").read_text(encoding="utf8").splitlines()]
    values["methods"] = ["dann"]
    plain = run(recipe_from(values | {"output": str(folder / "plain")}))
    # Labels, and even labels that training does not know: none of it can change anything.
    write_rows(folder / "unlabelled.jsonl", [row | {"label": f"secret {n}"} for n, row in enumerate(rows)])
    listener = Listener()
    labelled = run(recipe_from(values), reporter=listener)
    assert any("target.unlabelled" in line and "dropped" in line for line in listener.said)
    assert labelled.metrics == plain.metrics
    ours, theirs = (r.model / "model.safetensors" for r in (labelled, plain))
    assert ours.read_bytes() == theirs.read_bytes()


def test_bad_rows_are_listed_by_line(values, folder):
    with (folder / "train.jsonl").open("a", encoding="utf8") as file:
        file.write('{"text": "", "label": "positive"}\n{"text": "good"}\nnonsense\n')
    refused(DataError, values, "3 problems", "train.jsonl:25", "train.jsonl:26", "train.jsonl:27")


def test_data_in_memory_is_checked_too(values):
    data = {"source.train": Dataset.from_dict({"txt": ["a"], "label": ["b"]})}
    refused(DataError, values, "'text'", "'txt'", data=data)


def test_a_role_that_does_not_exist(values):
    data = {"target.tets": Dataset.from_list(sentiment_rows(4, 0))}
    refused(DataError, values, "'target.tets'", "Did you mean 'target.test'?", data=data)


def test_a_mended_recipe_may_use_the_folder_where_nothing_was_trained(values, folder):
    right = values["data"]["source"]["train"]
    values["data"]["source"]["train"] = "trian.jsonl"
    refused(DataError, values, "trian.jsonl")
    values["data"]["source"]["train"] = right
    assert run(recipe_from(values)).metrics["scores"]


# --- models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_model_that_is_no_encoder(values, tmp_path, tiny_bert, kind):
    config = {
        "gpt2": transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20),
        "t5": transformers.T5Config(d_model=8, num_layers=1, num_heads=1, vocab_size=20, d_ff=8, d_kv=8),
    }[kind]
    model = shutil.copytree(tiny_bert, tmp_path / kind)
    config.save_pretrained(model)
    refused(ModelError, values | {"model": str(model)}, f"'{kind}'", "not an encoder", "RoBERTa")
    assert not trained_anything(values)


def test_a_model_that_does_not_exist(values, tmp_path):
    refused(ModelError, values | {"model": str(tmp_path / "no" / "model")}, "no such folder")
    refused(ModelError, values | {"model": "nobody/no-such-model"}, "was not found", "offline")


def test_a_tokenizer_without_fast_version(values, monkeypatch):
    # With real files in test_models.py.
    slow = types.SimpleNamespace(is_fast=False, pad_token_id=0)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: slow)
    refused(ModelError, values, "no fast version")


def test_damaged_weights(values, tmp_path, tiny_bert):
    model = shutil.copytree(tiny_bert, tmp_path / "damaged")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(ModelError, values | {"model": str(model)}, "weights cannot be loaded")


# --- folders -----------------------------------------------------------------------------------------------------


def test_the_run_of_another_recipe_is_left_alone(values):
    first = run(recipe_from(values))
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    other = values | {"seed": 77}
    refused(RunError, other, "another recipe", "seed: 13", "seed: 77", "--fresh")
    assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before
    again = run(recipe_from(other), fresh=True)
    assert json.loads((again.folder / "environment.json").read_text(encoding="utf8"))["seed"] == 77


def test_a_folder_that_holds_no_run_is_left_alone(values, tmp_path):
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "photo.jpg").write_bytes(b"x")
    for fresh in (False, True):
        refused(RunError, values | {"output": str(holiday)}, "not empty and holds no run", fresh=fresh)
    assert [path.name for path in holiday.iterdir()] == ["photo.jpg"]


def test_an_output_that_is_a_file(values, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf8")
    refused(RunError, values | {"output": str(tmp_path / "file")}, "is a file")
    assert (tmp_path / "file").read_text(encoding="utf8") == "mine"


def test_two_runs_in_one_folder_at_once(values):
    output = Path(values["output"])
    output.mkdir()
    with locked(output):
        # What the other process has written by now.
        recipe = recipe_from(values)
        (output / "recipe.yaml").write_text(dump(resolve(recipe)), encoding="utf8")
        refused(RunError, values, "in use by another process")
        refused(RunError, values | {"seed": 5}, "in use by another process")
        assert not trained_anything(values)
    assert run(recipe).metrics["scores"]  # the lock goes with its holder


def test_a_folder_that_another_process_is_just_making_is_busy_and_no_strange_one(values):
    recipe = resolve(recipe_from(values))
    output = Path(recipe.output)
    output.mkdir(parents=True)
    (output / "recipe.yaml.part").write_text("name: re")
    with locked(output), pytest.raises(RunBusyError, match="in use by another process"):
        claim(recipe, fresh=False)
    with pytest.raises(RunError, match="holds no run"):
        claim(recipe, fresh=False)
    (output / "recipe.yaml.part").unlink()
    with locked(output), pytest.raises(RunBusyError):
        claim(recipe, fresh=False)
    assert claim(recipe, fresh=False) == output and (output / "recipe.yaml").is_file()


# --- stops -------------------------------------------------------------------------------------------------------


def same_end(values, result, tmp_path):
    """Check that a run ended as one that was never stopped."""
    whole = run(recipe_from(values | {"output": str(tmp_path / "whole")}))
    assert result.metrics == whole.metrics
    assert (result.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def no_space(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def no_space_rust(folder):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_space_torch(folder):
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


@pytest.mark.parametrize("fail", [no_space, no_space_rust, no_space_torch])
def test_a_full_disk_keeps_the_checkpoint_before(values, tmp_path, monkeypatch, fail):
    values["train"] |= {"max_steps": 4, "evaluate_every": 1}
    original = TransferTrainer._save

    def save(self, output_dir=None, state_dict=None):
        original(self, output_dir, state_dict)
        if self.state.global_step == 3:
            fail(output_dir)

    monkeypatch.setattr(TransferTrainer, "_save", save)
    refused(RunError, values, "disk", "is full", "free some space", "resumes")
    monkeypatch.setattr(TransferTrainer, "_save", original)
    listener = Listener()
    result = run(recipe_from(values), reporter=listener)
    assert any("resuming from" in line and "checkpoint-2" in line for line in listener.said)
    assert any("checkpoint-3 is damaged" in line for line in listener.warned)
    same_end(values, result, tmp_path)


def test_a_full_disk_while_the_model_is_written(values, tmp_path, monkeypatch):
    values["train"] |= {"max_steps": 2}
    original = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", lambda *args, **kwargs: no_space(args[0]))
    refused(RunError, values, "is full")
    monkeypatch.setattr(shutil, "copytree", original)
    with pytest.raises(ModelError, match="not finished"):
        load_predictor(values["output"])
    same_end(values, run(recipe_from(values)), tmp_path)


def test_another_error_is_not_called_a_full_disk(values, monkeypatch):
    def save(self, output_dir=None, state_dict=None):
        raise RuntimeError("something else")

    monkeypatch.setattr(TransferTrainer, "_save", save)
    with pytest.raises(RuntimeError, match="something else"):
        run(recipe_from(values))


def test_control_c_during_training(values, tmp_path):
    values["train"] |= {"max_steps": 4, "evaluate_every": 1}
    with pytest.raises(KeyboardInterrupt):
        run(recipe_from(values), reporter=Listener("finetune", 3))
    listener = Listener()
    result = run(recipe_from(values), reporter=listener)
    assert any("resuming from" in line and "checkpoint-2" in line for line in listener.said)
    same_end(values, result, tmp_path)


def test_control_c_during_prediction(values, tmp_path, monkeypatch):
    original = inference.Predictor.logits

    def interrupted(self, rows, shared=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference.Predictor, "logits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe_from(values))
    monkeypatch.setattr(inference.Predictor, "logits", original)
    listener = Listener()
    result = run(recipe_from(values), reporter=listener)
    assert listener.bars == []  # the finished stage is not trained again
    same_end(values, result, tmp_path)


@pytest.mark.parametrize("name", ["anchor", "joint_mlm"])
def test_methods_of_finetune_alone_are_refused_in_rounds(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = recipe_data(
        tmp_path, tiny_bert, methods=({"name": name},), stages=["finetune", "self_train"], source_only=True
    )
    with pytest.raises(RecipeError, match=f"'{name}' works in 'finetune' only. Set adapt: false"):
        recipe_from(data)
    recipe_from(data | {"stages": ["finetune", {"name": "self_train", "adapt": False}]})
