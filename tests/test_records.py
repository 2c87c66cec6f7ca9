"""Damaged files of earlier runs: which one, what is wrong with it, and what to do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Listener, data_of, make_recipe

from nlp_transfer.comparison import runs
from nlp_transfer.comparison.claims import check_rows
from nlp_transfer.comparison.results import read_result
from nlp_transfer.comparison.runs import Member
from nlp_transfer.comparison.search import objective
from nlp_transfer.errors import RunError
from nlp_transfer.predictions import read_answers, write_target
from nlp_transfer.recipe.comparing import SearchSpec
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.records import read_json_lines
from nlp_transfer.reporter import Reporter
from nlp_transfer.runfolder import claim
from nlp_transfer.running import RunResult, run
from nlp_transfer.stages.base import finished
from nlp_transfer.whole import write_text


def test_processes_that_write_one_file_do_not_hinder_each_other(tmp_path: Path) -> None:
    texts = [f"{number}" * 50_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write_text, tmp_path / "table.json", texts[at % 4]) for at in range(100)]
    for one in written:
        one.result()
    assert (tmp_path / "table.json").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_alone(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "table.json", "new" * 5000 + "\ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("table.json", "old")]


INTERVAL = {"interval": {"value": 0.5, "low": 0.4, "high": 0.6}}
FILES: dict[str, Any] = {
    "metrics.json": {
        "scores": {"source-only": {"source.dev": INTERVAL}},
        "headline": "accuracy",
        "kept": "source-only",
    },
    "cost.json": {"seconds": 2.0, "steps": 4, "peak_mib": 300},
    "environment.json": {"data": {"source.train": "hash"}},
    "stages.jsonl": {"stage": "finetune", "seconds": 2.0, "steps": 4},
}
SEARCH = {"space": {"train.warmup": {"low": 0.01, "high": 0.1}}, "trials": 1, "objective": "source_dev"}
MENDED = "Delete metrics.json (and cost.json, if there is one) in '{}' and run it again, which keeps finished stages"


def member_of(folder: Path) -> Member:
    """A run of a comparison whose files are whole."""
    recipe = resolve(make_recipe(folder, Path("model")))
    claim(recipe, fresh=False)
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content) + "\n")
    write_target(folder, "source-only", np.ones((1, 4, 2)) / 2)
    return Member("source_only", 1, recipe)


def read_all(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a run as a comparison does."""
    with monkeypatch.context() as patch:
        patch.setattr(runs, "run", lambda recipe, **_: RunResult(member.folder, {}))
        whole = (member.folder / "cost.json").read_text()
        assert runs._run_one(member, [member.folder], None, Reporter(), {})
        (member.folder / "cost.json").write_text(whole)
    check_rows([member.folder], member.folder.parent)
    assert objective(member, SearchSpec.model_validate(SEARCH)) == 0.5
    assert not member.collapsed
    assert read_result(member).cost["steps"] == 4


def test_a_trial_that_has_collapsed_is_the_worst(tmp_path: Path) -> None:
    """Source dev need not see it, which is what most searches go by."""
    member = member_of(tmp_path / "run")
    assert objective(member, SearchSpec.model_validate(SEARCH)) == 0.5
    metrics = FILES["metrics.json"] | {"guard": {"collapsed": True}}
    (tmp_path / "run/metrics.json").write_text(json.dumps(metrics))
    assert objective(member, SearchSpec.model_validate(SEARCH)) == float("-inf")


@pytest.mark.parametrize(
    ("name", "key"),
    [("metrics.json", "scores"), ("cost.json", "peak_mib"), ("environment.json", "data"), ("stages.jsonl", "steps")],
)
def test_a_comparison_names_the_damaged_file(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = member_of(tmp_path / "run")
    read_all(member, monkeypatch)
    path, whole = tmp_path / "run" / name, (tmp_path / "run" / name).read_text()
    lacking = json.dumps({other: value for other, value in FILES[name].items() if other != key})
    for content, told in ((whole[:-9], "cut off"), (lacking, f"it has no '{key}'"), ("[]", "no JSON object")):
        path.write_text(content)
        with pytest.raises(RunError) as caught:
            read_all(member, monkeypatch)
        message = str(caught.value)
        assert str(path) in message and told in message
        assert MENDED.format(tmp_path / "run") in message
        path.write_text(whole)
    read_all(member, monkeypatch)


def test_probabilities_of_target_text_that_are_cut_off(tmp_path: Path) -> None:
    member = member_of(tmp_path / "run")
    path = tmp_path / "run/predictions/source-only.target.unlabelled.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(RunError, match=r"target\.unlabelled\.safetensors' is damaged: it is cut off"):
        read_result(member)


def test_answers_that_are_cut_off_or_lost(tmp_path: Path) -> None:
    """A text may hold what other readers take for the end of a line."""
    path = tmp_path / "predictions/adapted.target.test.jsonl"
    path.parent.mkdir()
    rows = [{"text": "one\u2028two", "gold": "good", "label": "bad"}] * 2
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, encoding="utf8")
    assert read_answers(tmp_path, "adapted", "target.test") == rows
    for content, told in (
        (lines[:-9], r"jsonl' \(line 2\) is damaged: it is cut off"),
        ('{"gold": 1}', "has no answer"),
    ):
        path.write_text(content, encoding="utf8")
        with pytest.raises(RunError, match=told):
            read_answers(tmp_path, "adapted", "target.test")
    with pytest.raises(RunError, match=r"source\.dev\.jsonl' is missing"):
        read_answers(tmp_path, "adapted", "source.dev")


def test_answers_that_end_too_early_are_not_all_that_was_scored(tmp_path: Path) -> None:
    member, folder = member_of(tmp_path / "run"), tmp_path / "run"
    metrics = FILES["metrics.json"] | {"scores": {"source-only": {"source.dev": INTERVAL, "target.test": INTERVAL}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(json.dumps({"id2label": {"0": "bad", "1": "good"}}))
    path, line = folder / "predictions/source-only.target.test.jsonl", '{"gold": "good", "label": "bad"}\n'
    path.write_text(line * 3)
    (folder / "environment.json").write_text(json.dumps({"data": {}, "rows": {"target.test": 3}}))
    assert read_result(member).counts_NK is not None
    path.write_text(line * 2)
    with pytest.raises(RunError, match=r"target\.test\.jsonl' is damaged: it holds 2 rows, but 3 were scored"):
        read_result(member)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_stage_is_not_taken_for_another(content: str, tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text(content)
    with pytest.raises(RunError, match=r"done\.json' is damaged.*Delete the folder '.*': its stage is trained anew"):
        finished(tmp_path, "a")


def test_empty_lines_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    assert read_json_lines(tmp_path / "a.jsonl", "") == []


def test_what_the_message_advises_mends_a_run(tmp_path: Path, tiny_bert: Path) -> None:
    recipe, data = make_recipe(tmp_path / "run", tiny_bert), data_of("classification")
    first = run(recipe, data=data, checked=False).metrics
    path = tmp_path / "run/environment.json"
    whole = path.read_text()
    path.write_text("{}")
    with pytest.raises(RunError, match=r"environment\.json' is damaged: it has no 'data'"):
        run(recipe, data=data)
    path.write_text(whole)
    done = tmp_path / "run/metrics.json"
    done.write_text(done.read_text()[:40])
    with pytest.raises(RunError, match=r"metrics\.json' is damaged: it is cut off.*--fresh"):
        run(recipe, data=data)
    path.write_text("{}")
    done.unlink()
    listener = Listener()
    assert run(recipe, data=data, reporter=listener, checked=False).metrics["scores"] == first["scores"]  # type: ignore[arg-type]
    assert "finetune" not in listener.bars
    assert "data" in json.loads(path.read_text())
