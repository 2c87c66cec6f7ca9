"""What the README shows works: its commands parse, its recipes validate, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nlp_transfer import recipe_from
from nlp_transfer.cli import app
from nlp_transfer.recipe.yaml import read_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASE = {"name": "x", "model": "some/encoder", "task": "sentiment", "data": {"source": {"train": "train.jsonl"}}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Return the arguments of every nlp-transfer command in code blocks and in running text."""
    shown = [line for block in blocks("bash") for line in block.splitlines()]
    without_blocks = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    shown += [text for text in re.findall(r"`([^`\n]+)`", without_blocks) if text.startswith("nlp-transfer ")]
    found = []
    for line in shown:
        for part in re.split(r"&&|\||>", line.split(" #")[0]):
            words = shlex.split(part)
            for start in (["nlp-transfer"], ["-m", "nlp_transfer"]):
                for at in range(len(words)):
                    if words[at : at + len(start)] == start and (start[0] == "-m" or at == 0):
                        found.append(words[at + len(start) :])
    return found


def test_commands_are_found() -> None:
    assert len(commands()) >= 15


@pytest.mark.parametrize("args", commands(), ids=" ".join)
def test_command_parses(args: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    if not args:
        return
    context = group.make_context("nlp-transfer", list(args))
    name, command, rest = group.resolve_command(context, list(args))
    command.make_context(name, rest, parent=context)  # raises what the command line would show
    for arg in rest:
        if arg.startswith("recipes/"):
            assert (ROOT / arg).is_file()


def test_recipes_are_found() -> None:
    assert len(blocks("yaml")) >= 3


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipe_validates(text: str) -> None:
    """A block that is no whole recipe shows sections of one."""
    shown, _ = read_text(text, "README.md")
    recipe_from(shown if "name" in shown else BASE | shown)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles_and_imports_public_names(text: str) -> None:
    import nlp_transfer

    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "nlp_transfer":
            assert {alias.name for alias in node.names} <= set(nlp_transfer.__all__)


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_part_is_named() -> None:
    from nlp_transfer.parts import METHODS, TUNINGS

    for name in [*METHODS, *TUNINGS]:
        assert f"| `{name}` |" in README, name
    group: Any = typer.main.get_command(app)
    for name in group.commands:
        assert f"`nlp-transfer {name}" in README, name


def test_results_are_those_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import tables

    shown = README.split(tables.BEGIN, 1)[1].split(tables.END, 1)[0]
    assert shown.strip() == tables.results_text(in_readme=True).strip()
    further = tables.ABOUT + tables.results_text(in_readme=False)
    assert tables.FURTHER.read_text(encoding="utf8").strip() == further.strip()
    named = {name for name, _, _ in tables.TABLES}
    assert named == {path.stem for path in tables.RESULTS.glob("*.json")} and named > tables.IN_README
    for path in tables.RESULTS.glob("*.json"):
        assert "…" not in json.loads(path.read_text(encoding="utf8"))["command"], path.name
