"""Two processes train what one does. The launch lines that work, and one that silently does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import several_processes
import torch
from launching import ACCELERATE, HERE, TORCHRUN, launch
from training import largest_difference

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def folders(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process and two have written."""
    made = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, 2)}
    launch([*TORCHRUN, str(HERE / "several_processes.py"), str(made[2]), str(tiny_bert)])
    several_processes.main(str(made[1]), str(tiny_bert))
    return made


def facts(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"facts.{rank}.json").read_text())


def test_there_were_two_processes(folders: dict[int, Path]) -> None:
    assert facts(folders[1])["processes"] == 1
    assert facts(folders[2], 0)["processes"] == facts(folders[2], 1)["processes"] == 2
    for name in several_processes.RUNS:
        (done,) = (folders[2] / name).glob("stages/[123]-finetune/done.json")
        assert json.loads(done.read_text())["processes"] == 2


@pytest.mark.parametrize("kind", ["ner", "classification"])
def test_gradients_losses_and_weights_are_those_of_one_process(kind: str, folders: dict[int, Path]) -> None:
    one, two = (torch.load(folders[count] / f"{kind}.gradients.pt") for count in (1, 2))
    assert len(one) == len(two) == several_processes.SGD_STEPS
    for ours, theirs in zip(two, one, strict=True):
        assert largest_difference(ours, theirs) < 1e-5
    one, two = (torch.load(folders[count] / f"{kind}.weights.pt") for count in (1, 2))
    assert largest_difference(two, one) < 1e-6
    losses = [facts(folders[count])[f"{kind} losses"] for count in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_conditional_adversary_learns_what_it_learns_in_one_process(folders: dict[int, Path]) -> None:
    one, two = (torch.load(folders[count] / "cdan.gradients.pt") for count in (1, 2))
    assert any("adaptation.cdan.discriminator" in name for name in one[0])
    for ours, theirs in zip(two, one, strict=True):
        assert largest_difference(ours, theirs) < 1e-5
    first, second = (facts(folders[2], rank)["cdan"] for rank in (0, 1))
    assert first == second
    assert "cdan.random_HW" in first
    assert first == pytest.approx(facts(folders[1])["cdan"], rel=1e-4, abs=1e-6)


def test_contrast_has_the_negatives_of_all_processes(folders: dict[int, Path]) -> None:
    expected = torch.load(folders[1] / "contrast.0.pt")
    assert expected.abs().max() > 1e-3
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(folders[2] / f"contrast.{rank}.pt"), expected, atol=1e-6, rtol=1e-3)


def test_training_resumed_inside_an_epoch_is_one_that_was_not_stopped(folders: dict[int, Path]) -> None:
    """The stock trainer does not tell the sampler its epoch then: it would see the rows of the first epoch again."""
    assert facts(folders[1])["resumed"]
    assert facts(folders[2], 0)["resumed"]
    assert facts(folders[2], 1)["resumed"]


def test_scores_of_a_run_are_those_of_one_process(folders: dict[int, Path]) -> None:
    one, first, second = facts(folders[1]), facts(folders[2], 0), facts(folders[2], 1)
    for name in ("plain", "lora", "frozen", "pretrain", "guarded", "average", "self_train", "sources", "both"):
        assert first[name] == one[name], name
    assert first == second  # every process returns everything


def test_the_guard_decides_as_in_one_process(folders: dict[int, Path]) -> None:
    one, two = (facts(folders[count])["guarded guard"] for count in (1, 2))
    assert one["evidence"] == pytest.approx(two["evidence"], abs=1e-4)
    assert {**one["adapted"]["shares"]} == pytest.approx(two["adapted"]["shares"])
    assert (one["kept"], one["reasons"]) == (two["kept"], two["reasons"])


@pytest.mark.parametrize("number", [1, 2])
def test_pseudo_labels_are_those_of_one_process(number: int, folders: dict[int, Path]) -> None:
    file = f"self_train/stages/2-self_train/round-{number}/pseudo_labels.jsonl"
    one, two = ([json.loads(line) for line in (folders[count] / file).read_text().splitlines()] for count in (1, 2))
    assert [line["answer"] for line in two] == [line["answer"] for line in one]
    assert [line["confidence"] for line in two] == pytest.approx([line["confidence"] for line in one], abs=1e-4)


@pytest.mark.parametrize("name", ["dann", "on_target"])
def test_run_with_a_method_runs(name: str, folders: dict[int, Path]) -> None:
    scores = facts(folders[2])[name]
    assert set(scores) == {"adapted"}
    lines = [json.loads(line) for line in (folders[2] / name / "log.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss_dann_domain" in line]
    assert logged
    assert all(0.0 < line["loss_dann_domain"] < 5.0 for line in logged)


def test_methods_that_hold_the_model_run_together(folders: dict[int, Path]) -> None:
    """The first losses are those of one process: before the first step, both have the same weights, twin and masks."""
    first = []
    for count in (1, 2):
        lines = [json.loads(line) for line in (folders[count] / "held/log.jsonl").read_text().splitlines()]
        first.append(next(line for line in lines if line["stage"] == "finetune" and "loss_task" in line))
    for name in ("task", "l2sp_start", "l2sp_head", "anchor_distance", "joint_mlm_mlm"):
        one, two = (line[f"loss_{name}"] for line in first)
        # Means over each process's own units: their average is that of all only where both have as many.
        assert one == pytest.approx(two, rel=0.2), name


@pytest.mark.parametrize("name", several_processes.RUNS)
def test_run_folder_is_written_once(name: str, folders: dict[int, Path]) -> None:
    def listing(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    # Runs in the processes of the tests themselves draw no reports.
    assert {*listing(folders[1] / name), "report.html"} == {*listing(folders[2] / name)}
    adapting = {"dann", "pretrain", "guarded", "held", "vectors", "self_train", "on_target"}
    role = "adapted" if name in adapting else "source-only"
    for file in ("log.jsonl", "stages.jsonl", f"predictions/{role}.target.test.jsonl"):
        counts = [len((folders[count] / name / file).read_text().splitlines()) for count in (1, 2)]
        assert counts[0] == counts[1], file


def test_finished_run_says_so_in_all_processes(folders: dict[int, Path]) -> None:
    for rank in (0, 1):
        assert facts(folders[2], rank)["plain again"] == facts(folders[2], rank)["plain"]


# One write a process: what `print` writes in two may be torn apart by the other process.
WORLD = """
import os
from accelerate import PartialState
os.write(1, f"{PartialState(cpu=True).num_processes}\\n".encode())
"""


def test_accelerate_launch_lines_and_their_world_size(tmp_path: Path) -> None:
    """``--cpu --num_processes 2`` is one process; the documented line, without a GPU, is two over gloo."""
    script = tmp_path / "world.py"
    script.write_text(WORLD)
    assert launch([*ACCELERATE, "--cpu", str(script)]).split() == ["1"]
    assert launch([*ACCELERATE, "--multi_gpu", "--main_process_port", "0", str(script)]).split() == ["2", "2"]
