"""Two pretrain stages: the second goes on with the encoder and the masked-LM head of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_model
from helpers import data_of, make_recipe, same_weights, saved_weights

from nlp_transfer import jobs
from nlp_transfer.running import run

STAGE = {"name": "pretrain", "text": "source", "train": {"max_steps": 2, "batch_size": 2, "learning_rate": 0.01}}
LORA = {"name": "lora", "rank": 2}
FRESH, TRAINED = "AutoModel", "AutoModelForMaskedLM"
CASES = [("full", FRESH), ({"name": "top_layers", "n": 1}, TRAINED), (LORA, FRESH), (LORA, TRAINED)]


def first_weights_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """Remember the weights with which each training begins and ends, by its number and title."""
    seen: dict[str, dict[str, torch.Tensor]] = {}
    train = jobs.train

    def spied(job: Any, model: Any) -> Any:
        name = f"{job.folder.name} {job.title}"
        seen[f"begin {name}"] = {key: value.clone() for key, value in model.state_dict().items()}
        facts = train(job, model)
        seen[f"end {name}"] = {key: value.clone() for key, value in model.state_dict().items()}
        return facts

    monkeypatch.setattr(jobs, "train", spied)
    return seen


@pytest.mark.parametrize(("tuning", "head"), CASES)
def test_second_begins_where_the_first_ended(
    tuning: Any, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build_model(tmp_path / "base", head=head)
    seen = first_weights_of(monkeypatch)
    first = STAGE | ({"head_steps": 1} if head == FRESH else {})
    second = STAGE | {"text": "target"}
    recipe = make_recipe(tmp_path / "run", base, tuning=tuning, stages=[first, second, "finetune"])
    result = run(recipe, data=data_of("classification"))
    end, begin = seen["end 1-pretrain pretrain"], seen["begin 2-pretrain pretrain"]
    assert end.keys() == begin.keys()
    assert all(torch.equal(end[name], begin[name]) for name in end)
    # The stages did train, the second too, and its head is not fitted anew.
    assert "begin head pretrain head" in seen or head == TRAINED
    assert not same_weights(*(tmp_path / f"run/stages/{number}-pretrain/model" for number in (1, 2)))
    last = saved_weights(tmp_path / "run/stages/2-pretrain/model")
    begun = seen["begin 3-finetune finetune"]
    names = [name for name in last if "lora_A" in name or ".attention.self.query.weight" in name]
    assert names
    for name in names:
        assert torch.equal(last[name], begun[name.replace("lora_A", "lora_A.default")])
    assert (result.folder / "model").is_dir()
