"""The command line: light help, plain errors, and the commands that need no model."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nlp_transfer
from nlp_transfer import __version__, cli, errors

RECIPE = """\
name: small
model: some/encoder
task: sentiment
data:
  source:
    train: train.jsonl
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def call(*args: object) -> Any:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


# Light


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["predict", "--help"], ["--version"]])
def test_help_is_light(args: list[str]) -> None:
    code = f"""
import sys
from nlp_transfer import cli
try:
    cli.app({args})
except SystemExit as end:
    assert end.code == 0, end.code
heavy = sorted({{"torch", "transformers", "datasets", "sklearn", "numpy"}} & set(sys.modules))
assert not heavy, heavy
"""
    begun = time.perf_counter()
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - begun < 5  # measured: 0.2 s; generous for a busy machine


def test_importing_the_package_is_light() -> None:
    done = python("import sys, nlp_transfer; assert 'torch' not in sys.modules; print(nlp_transfer.__version__)")
    assert done.stdout.strip() == __version__


def test_every_public_name_is_there() -> None:
    for name in nlp_transfer.__all__:
        value = getattr(nlp_transfer, name)
        assert name in dir(nlp_transfer)
        assert (name == "errors") == isinstance(value, types.ModuleType), name
    with pytest.raises(AttributeError, match="absent"):
        _ = nlp_transfer.absent


def test_python_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nlp_transfer", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"nlp-transfer {__version__}\n"


# Plain errors


def test_problems_are_listed_without_a_traceback(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("task:", "tsak:") + "tuning: lara\n", encoding="utf-8")
    for command in ("check", "run"):
        result = call(command, recipe)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Did you mean 'task'" in result.stderr
        assert f"{recipe}:3" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_missing_recipe_is_named(tmp_path: Path, recipe: Path) -> None:
    result = call("run", tmp_path / "smal.yaml")
    assert result.exit_code == 2
    assert "Did you mean 'small.yaml'" in result.stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    result = call("run", "x.yaml", "--frehs")
    assert result.exit_code == 2
    assert "--frehs" in result.stderr


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (errors.ModelError("model 'x' was not found"), 2, "model 'x' was not found"),
        (KeyboardInterrupt(), 130, "Run the same command again to resume"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 2, "The disk is full (runs/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "No permission (runs/x)"),
    ],
)
def test_what_a_run_stops_with(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, told: str
) -> None:
    import importlib

    def stop(*args: Any, **settings: Any) -> None:
        raise raised

    monkeypatch.setattr(importlib.import_module("nlp_transfer.running"), "run", stop)
    result = call("run", recipe)
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.stderr

    again = call("run", recipe, "--fresh")
    assert again.stderr == result.stderr.replace("same command again", "same command again without --fresh")

    monkeypatch.setenv("RANK", "1")
    silent = call("run", recipe)
    assert (silent.exit_code, silent.stdout, silent.stderr) == (code, "", "")


def test_a_bug_keeps_its_traceback(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def broken(*args: Any, **settings: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(importlib.import_module("nlp_transfer.running"), "run", broken)
    assert isinstance(call("run", recipe).exception, OSError)


# Commands


def test_check_tells_what_will_happen(recipe: Path) -> None:
    result = call("check", recipe, "--set", "train.epochs=7")
    assert result.exit_code == 0, result.stderr
    assert "The recipe 'small' is valid." in result.stdout
    assert "finetune: 7 epochs, 16 rows a step, learning rate 5e-05" in result.stdout


def test_check_refuses_combinations(recipe: Path) -> None:
    result = call("check", recipe, "--set", "tuning=frozen", "--set", "methods=[dann]")
    assert result.exit_code == 2
    assert "never changes them" in result.stderr
    assert "needs unlabelled target text" in result.stderr


def test_check_data_names_bad_rows(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "good", "label": "a"}\n{"text": "", "label": "b"}\n')
    result = call("check", recipe, "--data", "--set", f"data.folder={tmp_path}")
    assert result.exit_code == 2
    assert "train.jsonl:2" in result.stderr


def test_schema_is_json() -> None:
    result = call("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert {"name", "model", "task", "data", "train"} <= set(schema["properties"])
    assert schema["properties"]["tuning"]["description"].startswith("Which weights move")
    selection = schema["properties"]["selection"]["anyOf"]
    assert "bnm" in selection[0]["enum"] and selection[1] == {"$ref": "#/$defs/SelectionSpec"}
    pretrain = schema["$defs"]["PretrainStage"]["properties"]
    assert pretrain["head_steps"]["description"].startswith("mlm: optimizer steps"), "of a base class"
    bare = [f"{place}.{key}" for place, key, node in keys_of(schema) if "description" not in node and key != "name"]
    assert bare == []
    marked = [text for _, _, node in keys_of(schema) if re.search(r"``|:\w+:`|\n", text := node.get("description", ""))]
    assert marked == [], "editors know nothing of Sphinx"


def keys_of(node: Any, place: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every key of a JSON schema with its own schema."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from keys_of(item, f"{place}.{number}")
    if isinstance(node, dict):
        properties = node.get("properties")
        for key, value in properties.items() if isinstance(properties, dict) else ():
            yield place, key, value
        for key, value in node.items():
            yield from keys_of(value, f"{place}.{key}")


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    listed = call("recipes")
    assert listed.exit_code == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert "quickstart" in names
    assert "benchmarks/conll_lora" in names

    copied = call("copy", "quickstart", tmp_path / "mine.yaml")
    assert copied.exit_code == 0
    assert copied.stdout.strip() == str(tmp_path / "mine.yaml")
    assert call("check", tmp_path / "mine.yaml").exit_code == 0

    again = call("copy", "quickstart", tmp_path / "mine.yaml")
    assert again.exit_code == 2
    assert "not overwritten" in again.stderr


def test_predict_and_evaluate_name_a_missing_model(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one", "label": "a"}\n')
    absent = tmp_path / "absent"
    predicted = call("predict", absent, "--input", texts, "--output", tmp_path / "out.jsonl")
    evaluated = call("evaluate", absent, "--data", rows)
    for result in (predicted, evaluated):
        assert result.exit_code == 2
        assert "there is no such folder" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_run_ends_with_scores_folder_and_next_commands(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module("nlp_transfer.running")
    interval = {"value": 0.8, "low": 0.75, "high": 0.85}
    metrics = {
        "headline": "accuracy",
        "confidence": 0.95,
        "scores": {role: {"target.test": {"interval": interval}} for role in ("adapted", "source-only")},
        "gain": {"target.test": {"value": 0.01, "low": -0.02, "high": 0.04}},
    }
    monkeypatch.setattr(module, "run", lambda *args, **settings: module.RunResult(Path("runs/with space"), metrics))
    result = call("run", recipe, "--set", "data.target.test=test.jsonl")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.index("source-only") < result.stdout.index("adapted")
    assert "0.800 [0.750, 0.850]" in result.stdout
    assert "+0.010 [-0.020, +0.040]" in result.stdout
    assert "Run folder: runs/with space" in result.stdout
    assert "nlp-transfer evaluate 'runs/with space' --data test.jsonl" in result.stdout


# check


def test_check_tells_what_is_compared_and_what_will_be_missed(recipe: Path, tmp_path: Path) -> None:
    section = "compare:\n  strategies: [dann, lora+mcc]\n  seeds: [1, 2]\n"
    target = f"  target:\n    unlabelled: other.txt\n  folder: {tmp_path}\n"
    recipe.write_text(RECIPE + target + section, encoding="utf-8")
    (tmp_path / "train.jsonl").write_text("")
    shown = " ".join(call("check", recipe).output.split())
    assert "compare: source_only, dann, lora+mcc; 2 seeds, 6 runs" in shown
    assert f"Note: target.unlabelled: '{tmp_path}/other.txt' is not there." in shown
    assert "source.train" not in shown
    assert "No verdict" not in shown, "the recipe itself adapts nothing"
    recipe.write_text(RECIPE + target + "methods: [dann]\n", encoding="utf-8")
    assert "Note: No verdict: without labelled target rows" in " ".join(call("check", recipe).output.split())


def test_check_tells_of_a_soup_and_of_stages_that_adapt(recipe: Path) -> None:
    target = "  target:\n    unlabelled: other.txt\n"
    recipe.write_text(RECIPE + target + "stages: [finetune, {name: soup, models: [runs/none]}]\n", encoding="utf-8")
    result = call("check", recipe)
    assert result.exit_code == 0 and "stage soup: the mean of the weights of 2 models" in result.stdout
    assert "methods none\n" in result.stdout


def test_a_folder_that_is_a_file(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("compare", recipe, "--strategies", "lora", "--output", tmp_path / "file")
    assert result.exit_code == 2 and "file' is a file. Give another folder" in " ".join(result.stderr.split())
    result = call("diagnose", recipe, "--output", tmp_path / "no" / "x.json")
    assert result.exit_code == 2 and "there is no folder" in result.stderr


def test_all_strategies_that_cannot_be_are_told_with_their_places(recipe: Path) -> None:
    section = "compare:\n  strategies:\n    - mcc\n    - dan\n    - {name: soop}\n"
    recipe.write_text(RECIPE + section, encoding="utf-8")
    told = " ".join(call("check", recipe).stderr.split())
    assert "2 problems" in told and "compare.strategies.1: there is no strategy part 'dan'" in told
    assert "compare.strategies.2: there is no strategy part 'soop'" in told
    section = "compare:\n  strategies:\n    - {name: lora, set: [train.eposchs=1]}\n    - dann\n    - soup\n"
    recipe.write_text(RECIPE + section, encoding="utf-8")
    told = " ".join(call("check", recipe).stderr.split())
    assert "strategy 'soup'" not in told, "what it lacks are the others"
    assert "strategy 'lora': override: train.eposchs" in told
    assert "strategy 'dann': recipe: methods.0: 'dann' needs unlabelled target text" in told


def test_check_refuses_what_compare_would(recipe: Path) -> None:
    target = "  target:\n    unlabelled: other.txt\n"
    for names, message in (("[dan]", "Did you mean 'dann'?"), ("[frozen+mmd]", "never changes them")):
        recipe.write_text(RECIPE + target + f"compare: {{strategies: {names}}}\n", encoding="utf-8")
        found = call("check", recipe)
        assert found.exit_code == 2 and message in " ".join(found.output.split())
