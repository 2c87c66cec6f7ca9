"""Two real processes that are given the same comparison share its runs, and both end with all of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from samples import recipe_values, write_data

from nlp_transfer.recipe.yaml import dump_data

STRATEGIES = ["source_only", "mcc", "l2sp", "soup"]


@pytest.mark.slow
def test_two_processes_share_a_comparison(tmp_path, tiny_bert):
    values = recipe_values(write_data(tmp_path, "sentiment"), tiny_bert)
    values["train"] |= {"max_steps": 60}
    (tmp_path / "recipe.yaml").write_text(dump_data(values), encoding="utf8")
    command = f"-m nlp_transfer compare recipe.yaml --strategies {','.join(STRATEGIES)} --seeds 2".split()
    both = [
        subprocess.Popen([sys.executable, *command], cwd=tmp_path, stdout=-1, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    [folder] = [path.parent for path in tmp_path.rglob("comparison.json")]
    runs = sorted(path.parent.relative_to(folder / "runs") for path in folder.glob("runs/*/*/metrics.json"))
    assert [str(path) for path in runs] == [f"{name}/{seed}" for name in sorted(STRATEGIES) for seed in (1, 2)]
    found = json.loads((folder / "comparison.json").read_text(encoding="utf8"))
    assert {entry["runs"] for entry in found["strategies"].values()} == {2}
    # Each run was trained by one of the two: its log holds each step once.
    for name, seed in (path.parts for path in runs if path.parts[0] != "soup"):
        lines = (folder / "runs" / name / seed / "log.jsonl").read_text(encoding="utf8").splitlines()
        steps = [(line["stage"], line["step"]) for line in map(json.loads, lines) if "loss" in line]
        assert len(steps) == len(set(steps)), (name, seed)
    assert any("another process is busy" in text for text in told)
