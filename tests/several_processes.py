"""What ``test_multiprocess.py`` runs in one process and in two; it writes what came out into a folder.

torchrun --nproc-per-node 2 several_processes.py FOLDER MODEL
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from helpers import data_of, make_recipe, ner_rows
from training import StopAfter, build

from nlp_transfer.hardware import is_main_process
from nlp_transfer.pretraining.simcse import SimCseObjective
from nlp_transfer.running import run
from nlp_transfer.stages import self_train

SGD_STEPS = 4
PRETRAIN = {"name": "pretrain", "block_length": 16, "head_steps": 2, "train": {"max_steps": 3, "batch_size": 4}}
HOLDING = ("dann", "l2sp", "anchor", {"name": "joint_mlm", "head_steps": 2})
DENOISE = {"name": "pretrain", "objective": "tsdae", "text": "both", "train": {"max_steps": 3, "batch_size": 4}}
CONTRAST = DENOISE | {"objective": "simcse", "train": {"max_steps": 3, "batch_size": 4, "dropout": 0.1}}
SELF_TRAIN = {"name": "self_train", "mean_teacher": {}, "train": {"max_steps": 3, "learning_rate": 1e-3}}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dann": {"methods": ("dann",)},
    "lora": {"tuning": "lora"},
    "frozen": {"tuning": "frozen"},
    "pretrain": {"stages": [PRETRAIN, "finetune"]},
    "guarded": {"stages": [PRETRAIN, "finetune"], "selection": "dev", "source_only": True},
    "average": {"average": {"name": "ema", "decay": 0.5}},
    "held": {"methods": HOLDING, "average": "swa", "source_only": True},
    "vectors": {"stages": [DENOISE, CONTRAST, "finetune"]},
    "self_train": {"stages": ["finetune", SELF_TRAIN], "kind": "classification"},
    "sources": {"sources": 2, "kind": "classification"},
    "both": {"stages": [{"name": "finetune", "on": "both"}], "target_labels": True},
    "on_target": {"stages": [{"name": "finetune", "on": "target"}], "target_labels": True, "methods": ("dann",)},
}


def main(folder: str, model: str) -> None:
    """Train with SGD, then do whole runs with and without a method."""
    place = Path(folder)
    facts: dict[str, Any] = {}
    for kind in ("ner", "classification"):
        trainer, watcher = build(Path(model), kind).start(place / kind, max_steps=SGD_STEPS, accumulation=2)
        trainer.train()
        facts["processes"] = trainer.accelerator.num_processes
        facts[f"{kind} losses"] = [line["loss_task"] for line in watcher.logs if "loss_task" in line]
        if is_main_process():
            torch.save(watcher.gradients, place / f"{kind}.gradients.pt")
            torch.save(trainer.model.state_dict(), place / f"{kind}.weights.pt")
    cdan = train_cdan(place / "cdan", Path(model))
    if is_main_process():
        torch.save(cdan.gradients, place / "cdan.gradients.pt")
    facts["cdan"] = cdan.state
    torch.save(contrastive_gradient(Path(model)), place / f"contrast.{rank()}.pt")
    facts["resumed"] = resumed_equals_whole(place / "resumed", Path(model))
    for name, settings in RUNS.items():
        settings = {"kind": "ner"} | settings
        data = data_of(settings["kind"], sources=settings.get("sources", 1))
        if settings["kind"] == "ner":
            data = data | {"source.dev": ner_rows(13, 2), "target.test": ner_rows(17, 4)}
        if settings.get("target_labels"):
            data = data | {"target.train": ner_rows(9, 6)}
        recipe = make_recipe(place / name, Path(model), **settings, max_steps=3, dropout=0.0)
        # So small a model may say one label only, which would end self-training before it begins.
        with mock.patch.object(self_train, "one_class", return_value=None):
            metrics = run(recipe, data=data, checked=False).metrics
        facts[name], facts[f"{name} guard"] = metrics["scores"], metrics.get("guard")
        facts[f"{name} again"] = run(recipe, data=data, checked=False).metrics["scores"]
    # Each process says what it saw, so that a process that returned early or something else shows.
    (place / f"facts.{rank()}.json").write_text(json.dumps(facts))


def rank() -> int:
    """Number of this process."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def contrastive_gradient(folder: Path) -> torch.Tensor:
    """The gradient that all processes together give a weight, each with its share of the texts; without dropout."""
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    torch.manual_seed(1)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = torch.randint(5, 60, (6, 9), generator=torch.Generator().manual_seed(0)).chunk(world)[rank()].repeat(2, 1)
    with SimCseObjective(model, "mean", 0.05) as objective:
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        objective.loss_sum(model, batch, 0.0)[0].backward()
    gradient: torch.Tensor = model.get_input_embeddings().weight.grad
    if world > 1:
        torch.distributed.all_reduce(gradient)
    return gradient


@dataclass
class Adapted:
    """What a training with a method left: gradients, and the sums of its weights and random matrices."""

    gradients: list[dict[str, torch.Tensor]]
    state: dict[str, float]


def train_cdan(place: Path, model: Path) -> Adapted:
    """Texts, so that each process holds the same number of units, and without entropy weights: means of means."""
    settings = {"dropout": 0.0, "hidden": 8, "entropy": False, "max_width": 16, "random_width": 8}
    trainer, watcher = build(model, "classification", with_methods={"cdan": settings}).start(place, max_steps=SGD_STEPS)
    trainer.train()
    state = trainer.model.adaptation.state_dict()
    return Adapted(watcher.gradients, {name: float(value.double().sum()) for name, value in state.items()})


def resumed_equals_whole(place: Path, model: Path) -> bool:
    """Stop inside the second epoch (24 rows are 3 steps), resume, and compare with a training that was not stopped."""
    whole, _ = build(model, "ner", dann=True).start(place / "whole", max_steps=6)
    whole.train()
    first, _ = build(model, "ner", dann=True).start(place / "cut", max_steps=6, evaluate_every=4)
    first.add_callback(StopAfter(4))
    first.train()
    second, _ = build(model, "ner", dann=True).start(place / "cut", max_steps=6)
    second.train(resume_from_checkpoint=str(place / "cut" / "checkpoint-4"))
    expected = whole.model.state_dict()
    return all(torch.equal(expected[name], value) for name, value in second.model.state_dict().items())


if __name__ == "__main__":
    main(*sys.argv[1:])
