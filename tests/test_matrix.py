"""Every task, tuning and method with every other one that it may go with, through whole runs.

New tunings and methods are taken from their dictionaries: nothing here needs to be edited for them. All pairs are run,
not all triples: each task with each tuning, and each method with each task, under a tuning that changes from task to
task.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import TASKS, data_of, recipe_data
from safetensors.torch import load_file
from training import losses_are_finite_and_named, part

from nlp_transfer import jobs, parts
from nlp_transfer.last_layer import read_first_token
from nlp_transfer.running import run
from nlp_transfer.stages import base as stages
from nlp_transfer.tasks.base import Task

BATCH = {
    "input_ids": torch.tensor([[2, 50, 60, 70, 80, 3], [2, 90, 51, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]]),
}


Case = tuple[str, str, tuple[str, ...]]


def allowed() -> list[Case]:
    method_sets = [(), *[(name,) for name in parts.METHODS]]
    return [
        (kind, tuning, methods)
        for kind, tuning, methods in itertools.product(TASKS, parts.TUNINGS, method_sets)
        if not parts.findings(plain(Path("x"), Path("x"), kind, tuning, methods))
    ]


def all_pairs() -> list[Case]:
    """Of the allowed combinations without a method all, of those with one the fewest that hold every pair.

    Under a frozen encoder, methods that look at answers alone are tried with a text task and with words.
    """
    cases = allowed()
    frozen = [case for case in cases if case[1] == "frozen" and case[0] in ("multi_label", "ner") and case[2]]
    chosen = [case for case in cases if not case[2]] + frozen
    for number, name in enumerate(parts.METHODS):
        for at, kind in enumerate(TASKS):
            tunings = [tuning for task, tuning, methods in cases if (task, methods) == (kind, (name,))]
            chosen += [(kind, tunings[(at + number) % len(tunings)], (name,))] if tunings else []
    return list(dict.fromkeys(chosen))


def name_of(case: Case) -> str:
    return "-".join([*case[:2], *case[2]])


def plain(folder: Path, model: Path, kind: str, tuning: str, methods: tuple[str, ...]) -> dict[str, Any]:
    """The recipe with its shorthands written out, as ``findings`` wants it."""
    data = recipe_data(folder, model, kind, part(tuning))
    # Without the guard, the model that is looked at is always the one that was trained last.
    given = {"methods": [part(name) for name in methods], "source_only": taught(methods), "guard": False}
    return data | given


def taught(methods: tuple[str, ...]) -> bool:
    """Whether the source-only twin has to be trained, too."""
    return any(parts.METHODS[name].needs_teacher for name in methods)


def test_combinations_that_make_no_sense_are_refused_and_others_are_not() -> None:
    names = {name_of(case) for case in allowed()}
    assert {"classification-full", "ner-lora-dann", "sentiment-top_layers-dann", "multi_label-frozen"} <= names
    assert not [name for name in names if "frozen-dann" in name]


def test_every_pair_is_run() -> None:
    def pairs(cases: list[Case]) -> set[Any]:
        return {pair for case in cases for pair in itertools.combinations(case, 2)}

    assert pairs(all_pairs()) == pairs(allowed())


class Spy:
    """Remembers the model of a run as it was when training began and when it was saved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.before: dict[str, torch.Tensor] = {}
        self.moving: set[str] = set()
        self.logits = torch.zeros(0)
        train, save = jobs.train, stages.save_model

        def spied_train(job: Any, model: Any) -> Any:
            named = dict(model.named_parameters())
            self.before = {name: value.detach().clone() for name, value in named.items()}
            self.moving = {name for name, value in named.items() if value.requires_grad}
            methods = torch.nn.ModuleDict(job.objective.methods)
            untrained = {name: value.detach().clone() for name, value in methods.named_parameters()}
            facts = train(job, model)
            trained = dict(model.adaptation.named_parameters()) if untrained else {}
            self.still = [name for name, value in untrained.items() if torch.equal(value, trained[name])]
            return facts

        def spied_save(model: Any, *args: Any) -> None:
            self.after = {name: value.detach().clone() for name, value in model.named_parameters()}
            self.logits = model.eval()(**BATCH).logits.detach()
            save(model, *args)

        monkeypatch.setattr(jobs, "train", spied_train)
        monkeypatch.setattr(stages, "save_model", spied_save)


@pytest.mark.parametrize(("kind", "tuning", "methods"), all_pairs(), ids=map(name_of, all_pairs()))
def test_run(
    kind: str, tuning: str, methods: tuple[str, ...], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    recipe = parts.recipe_from(plain(tmp_path / "run", tiny_bert, kind, tuning, methods))
    result = run(recipe, data=data_of(kind))
    losses_are_finite_and_named(result.folder, methods)
    right_parameters_moved(spy, tuning, parts.build_tuning(recipe.tuning).moves_features)
    assert not spy.still, "parameters of methods that did not move"
    if not parts.build_tuning(recipe.tuning).moves_features:
        base = load_file(tiny_bert / "model.safetensors")
        kept = {name: value for name, value in base.items() if not name.startswith("pooler.")}
        assert all(torch.equal(value, spy.after[f"bert.{name}"]) for name, value in kept.items())
    labels = json.loads((result.model / "config.json").read_text())["id2label"]
    plain_library_loads_the_same(result.model, spy.logits, labels)
    assert list(labels.values()) == expected_labels(kind)
    scores = result.metrics["scores"]["adapted" if methods else "source-only"]
    assert set(scores) == {"source.dev", "target.test"}
    assert all(0.0 <= score["interval"]["value"] <= 1.0 for score in scores.values())


def right_parameters_moved(spy: Spy, tuning: str, moves_features: bool) -> None:
    """What the tuning gave to the optimizer moved, and nothing else; a frozen encoder is not even in the model then."""
    for name, before in spy.before.items():
        if name not in spy.moving:
            assert torch.equal(before, spy.after[name]), f"{name} moved under {tuning}"
        elif "key.bias" not in name:  # its gradient is zero: softmax ignores what is added to all scores
            assert not torch.equal(before, spy.after[name]), f"{name} did not move under {tuning}"
    moved = {
        name for name, value in spy.after.items() if name in spy.before and not torch.equal(value, spy.before[name])
    }
    assert any("encoder.layer" in name for name in moved) == moves_features
    assert any("classifier" in name for name in moved)
    assert not any("adaptation" in name for name in spy.after)


def plain_library_loads_the_same(folder: Path, logits: torch.Tensor, labels: dict[str, str]) -> None:
    """With transformers or peft alone, the saved model gives the logits that the trained one gave."""
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.id2label == {int(key): value for key, value in labels.items()}
    kind = "TokenClassification" if logits.dim() == 3 else "SequenceClassification"
    if (folder / "adapter_config.json").is_file():
        import peft

        model = getattr(peft, f"AutoPeftModelFor{kind}").from_pretrained(folder, num_labels=len(labels))
    else:
        model, info = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
    whole = model.eval()(**BATCH).logits
    # To the last digit, and to the last bit where both last layers compute the same tokens.
    assert torch.allclose(whole, logits, rtol=0, atol=1e-6)
    read_first_token(model)
    assert torch.equal(whole, logits) or torch.equal(model(**BATCH).logits, logits)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("good film")["input_ids"][0] == tokenizer.cls_token_id


def expected_labels(kind: str) -> list[str]:
    if kind == "ner":
        return ["O", *(f"{side}-{name}" for name in ("LOC", "ORG", "PER") for side in "BI")]
    return ["negative", "positive"] if kind == "sentiment" else ["bad", "good", "poor"]


@pytest.mark.parametrize("kind", TASKS)
def test_task_declares_what_the_run_needs(kind: str) -> None:
    spec = parts.recipe_from(recipe_data(Path("x"), Path("x"), kind)).task
    task = parts.build_task(spec, expected_labels(kind))
    assert isinstance(task, Task)
    assert hasattr(transformers, task.auto_class)
    width = np.zeros((1, len(task.labels)))
    assert len(task.answer([width if kind == "ner" else width[0]])) == 1
