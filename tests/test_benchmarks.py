"""The scripts under tests/benchmarks/ run on the code as it is; what they measure of a few rows means nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REVIEWS = ("source_train", "source_dev", "target_unlabelled", "target_test")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of the benchmarks' layout with rows of the shipped demonstration."""
    folder = tmp_path_factory.mktemp("data")
    for domain in ("books", "dvd", "kitchen"):
        (folder / "sentiment" / domain).mkdir(parents=True)
        for name in REVIEWS:
            lines = (ROOT / "data" / "sentiment" / f"{name}.jsonl").read_text(encoding="utf8").splitlines()
            (folder / "sentiment" / domain / f"{name}.jsonl").write_text("\n".join(lines[:24]) + "\n", encoding="utf8")
    return folder


def measured(script, tmp_path, *arguments):
    """Run a script; return what it has written."""
    output = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / f"{script}.py"), *map(str, arguments)]
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output", str(output)],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text(encoding="utf8"))["results"]


@pytest.mark.slow
def test_speed(data, tmp_path):
    found = measured("speed", tmp_path, "--data", data, "--rows", 8)
    assert set(found) == {"finetune", "mlm", "frozen", "predict"}
    assert all(work["nlp_transfer"]["seconds"] > 0 and work["times_faster"] > 0 for work in found.values())


@pytest.mark.slow
def test_transfer_costs_and_serving(data, tmp_path):
    reviews = ("reviews", "--data", data, "--cases", "books-kitchen", "--seeds", 1, 2, "--plain-soup")
    found = measured("transfer", tmp_path, *reviews, "--strategies", "source_only", "mcc", "frozen")
    case = found["books-kitchen"]
    assert set(case["strategies"]) == {"source_only", "mcc", "frozen"} and 0 <= case["plain_soup"] <= 1
    assert len(case["strategies"]["mcc"]["guarded"]) == 2 and "guarded" not in case["strategies"]["frozen"]
    run = tmp_path / "runs/benchmarks/reviews/books-kitchen/runs/source_only/1"
    shutil.copytree(run, tmp_path / "run")
    rows = ("--rows", 8, "--single", 2, "--rounds", 1)
    found = measured("serving", tmp_path, "--data", data, "--classifier", tmp_path / "run", *rows)
    [ways] = found.values()
    assert ways["torch"]["score"] == pytest.approx(ways["pipeline, batch 32"]["score"], abs=0.05)
    found = measured("costs", tmp_path, "--data", data, "--rows", 24, "--rounds", 1, "--strategies", "mcc")
    assert set(found) == {"source_only", "mcc"}
