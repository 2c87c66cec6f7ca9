"""Every shipped recipe is a test case."""

from __future__ import annotations

import ast
import os
import re
import runpy
from pathlib import Path
from typing import get_args

import pytest

from nlp_transfer import METHODS, load_recipe
from nlp_transfer.parts import PRETRAININGS
from nlp_transfer.recipe.schema import TaskSpec
from nlp_transfer.recipe.shipped import list_recipes, resolve_path
from nlp_transfer.recipe.stages import PretrainStage

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))
SCRIPTS = sorted(FOLDER.rglob("*.py"))
SHEBANG = "#!/usr/bin/env -S nlp-transfer"


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 28
    assert len(SCRIPTS) >= 2


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    if path.parent == FOLDER:
        sources = recipe.data.sources.values()
        files = [file for source in sources for file in (source.train, source.dev)]
        files += dict(recipe.data.target).values()
        for file in files:
            assert file is None or Path(resolve_path(recipe.data, file.path)).is_file(), file
    else:
        assert recipe.data.folder == "benchmark-data"  # to be set on the command line


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_explains_itself(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = []
    for line in lines:
        if not line.startswith("#"):
            break
        header.append(line)
    command = "run" if load_recipe(path).compare is None else "compare"
    assert header[0] == f"{SHEBANG} {command}"
    assert re.fullmatch(r"# \S.{10,}[.?]", header[1]), header[1]
    assert any(line.startswith(f"#   nlp-transfer {command} recipes/{name_of(path)}.yaml") for line in header)
    assert any(line.startswith("# Measured: ") for line in header)
    assert os.access(path, os.X_OK)


def test_every_part_is_shown_by_some_recipe() -> None:
    recipes = [load_recipe(path) for path in RECIPES]
    stages = [stage for recipe in recipes for stage in recipe.stages]
    assert {part.name for recipe in recipes for part in recipe.methods} == set(METHODS)
    assert {stage.objective for stage in stages if isinstance(stage, PretrainStage)} == set(PRETRAININGS)
    assert {stage.name for stage in stages} == {"pretrain", "finetune", "self_train"}
    assert {recipe.tuning.name for recipe in recipes} >= {"full", "lora", "frozen"}
    assert {recipe.task.name for recipe in recipes} == set(get_args(TaskSpec.model_fields["name"].annotation))
    assert any(recipe.train.average is not None for recipe in recipes)
    assert any(recipe.selection.name not in ("source_dev", "oracle") for recipe in recipes)
    assert any(len(recipe.methods) > 1 for recipe in recipes)


def test_the_readme_lists_every_demonstration() -> None:
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in RECIPES if path.parent == FOLDER and f"](recipes/{path.name})" not in text]
    assert missing == []


def test_titles_are_listed() -> None:
    for name, title, path in list_recipes():
        assert title == path.read_text(encoding="utf-8").splitlines()[1].removeprefix("# "), name


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_script_explains_itself(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    told = ast.get_docstring(ast.parse(text))
    assert told is not None
    assert f"python recipes/{path.name}" in told
    assert "accelerate launch --multi_gpu" in told
    assert text.startswith("#!/usr/bin/env python\n")
    assert os.access(path, os.X_OK)


def test_the_own_method_of_the_script_can_be_named() -> None:
    own = runpy.run_path(str(FOLDER / "custom_method.py"))["NuclearNorm"]
    methods = METHODS | {"own": own}
    recipe = load_recipe(FOLDER / "dann_sentiment.yaml", ["methods=[{name: own, temperature: 2.0}]"], methods)
    assert recipe.methods[0].settings == {"temperature": 2.0}
    assert "own" not in METHODS


def test_the_own_method_of_the_script_is_right() -> None:
    """Against numpy, at the limits (certain and diverse, certain and all alike), and without target units."""
    import numpy as np
    import torch

    from nlp_transfer import Sizes, Step

    method = runpy.run_path(str(FOLDER / "custom_method.py"))["NuclearNorm"](Sizes(hidden=4, labels=2), temperature=2.0)

    def term(logits: np.ndarray, domain: list[int]) -> float:
        count = len(logits)
        step = Step(
            torch.zeros(count, 4),
            torch.tensor(logits),
            torch.zeros(count, dtype=torch.long),
            torch.ones(count),
            torch.tensor(domain),
            0.5,
            torch.nn.Identity(),
        )
        return float(method.terms(step)["target"])

    logits = np.random.default_rng(0).normal(size=(12, 2))
    exponents = np.exp(logits[5:] / 2.0)
    values = np.linalg.svd(exponents / exponents.sum(1, keepdims=True), compute_uv=False)
    assert term(logits, [0] * 5 + [1] * 7) == pytest.approx(-values.sum() / 7)
    diverse = np.eye(2)[[0, 1] * 8] * 99.0
    assert term(diverse, [1] * 16) == pytest.approx(-np.sqrt(2 * 16) / 16)
    assert term(np.eye(2)[[0] * 16] * 99.0, [1] * 16) == pytest.approx(-np.sqrt(16) / 16)
    assert term(logits, [0] * 12) == 0.0
