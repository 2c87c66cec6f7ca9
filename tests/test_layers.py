"""The order of layers: a module imports from its own layer or below; parts of one kind do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import nlp_transfer

ROOT = Path(nlp_transfer.__file__).parent

LAYERS = {
    0: ["__init__", "errors", "recipe"],
    1: [
        "functional",
        "units",
        "metrics",
        "evaluate_metrics",
        "intervals",
        "selection",
        "evidence",
        "guard",
        "verdict",
        "calibration",
        "pseudo_labels",
        "reporter",
        "hardware",
        "attention",
        "predictions",
        "marks",
        "tables",
        "chosen",
        "whole",
        "exporting.record",
        "hashing",
        "model_files",
        "background",
        "records",
        "memory",
        *["diagnosis.advice", "diagnosis.confidence", "diagnosis.distance", "diagnosis.label_shift"],
        *["diagnosis.result", "diagnosis.transferability", "diagnosis.vocabulary"],
        *["report.figures", "report.domains", "report.page", "report.projection"],
    ],
    2: [
        *["data", "tasks", "tuning", "methods", "models", "heads", "processes", "checkpoints"],
        *["objectives", "pretraining", "preparation", "caching", "forward", "reading", "vocabulary", "averaging"],
        *["fetching", "finding", "last_layer", "merging", "pulling"],
        *["diagnosis.classifier", "diagnosis.features", "diagnosis.fluency", "diagnosis.texts"],
        *["report.curves", "report.slices", "report.examples", "report.confusion"],
    ],
    3: ["trainer", "parts", "recipe_rules", "arguments", "callbacks", "outputs", "strategies"],
    4: [
        *["preparing", "workspace", "selecting", "jobs", "stages", "inference", "sequence", "runfolder"],
        *["fingerprints", "predictor", "settings", "reloading", "exporting.predictor", "exporting.processor"],
        *["diagnosis.measured", "diagnosis.probe", "diagnosis.reading", "diagnosis.timing", "diagnosis.variant"],
    ],
    5: [
        *["running", "checking", "drawing", "bulk", "streaming", "watching", "evaluation", "conclusions", "comparison"],
        *["hub", "card", "serving", "exporting", "distillation"],
        *["diagnosis", "report", "screen", "commands", "cli", "__main__"],
    ],
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}
BASES = {("methods", "base"), ("methods", "adversarial")}
"""What methods derive from; itself no method."""

KINDS = ["methods", "tasks"]
"""Folders whose files are parts: each is on its own, but for the base class and what its own class derives from."""

LIGHT = ["__init__", "errors", "recipe", "commands", "cli", "__main__"]
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "sklearn",
    "evaluate",
    "seqeval",
    "peft",
    "accelerate",
    "numpy",
    "matplotlib",
    "jinja2",
}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts)


def dotted(path: Path) -> tuple[str, ...]:
    """Parts of a module's name below the package: ``("data", "pairs")``."""
    return path.relative_to(ROOT).with_suffix("").parts


def unit(name: tuple[str, ...]) -> str:
    """The entry of the table of layers that a module belongs to: its own, or that of its folder."""
    own = ".".join(name)
    return own if own in LAYER else name[0] if name else "__init__"


def imports(path: Path, runtime_only: bool = False) -> list[tuple[tuple[str, ...], int]]:
    """Modules of this package that a module imports, with lines."""
    here = dotted(path)
    package = here[:-1]
    found = []
    for node in nodes(path, runtime_only):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                target = (*base, *(node.module.split(".") if node.module else ()))
            elif (node.module or "").split(".")[0] == "nlp_transfer":
                target = tuple((node.module or "").split(".")[1:])
            else:
                continue
            names = [(*target, alias.name) for alias in node.names]
            found += [(name if exists(name) else target, node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            own = [alias.name.split(".")[1:] for alias in node.names if alias.name.split(".")[0] == "nlp_transfer"]
            found += [(tuple(name), node.lineno) for name in own]
    return found


def nodes(path: Path, top_only: bool = False) -> list[ast.AST]:
    """All nodes of a module, or those that run when it is imported (not in functions, not for type checkers)."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    if not top_only:
        return list(ast.walk(tree))
    waiting: list[ast.AST] = list(tree.body)
    found: list[ast.AST] = []
    while waiting:
        node = waiting.pop()
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if checking or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        found.append(node)
        waiting += list(ast.iter_child_nodes(node))
    return found


def exists(name: tuple[str, ...]) -> bool:
    path = ROOT.joinpath(*name)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_module_has_a_layer() -> None:
    assert {unit(dotted(path)) for path in modules()} - set(LAYER) == set(), "add it to the table above"


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(dotted(path)))
def test_module_imports_from_its_layer_or_below(path: Path) -> None:
    own = unit(dotted(path))
    for target, line in imports(path):
        if own in ("__init__", "recipe") and unit(target) == own:
            continue
        # The package's own names are loaded when they are first used.
        lazy = own == "__init__"
        assert lazy or LAYER[unit(target)] <= LAYER[own], (
            f"{path}:{line} imports {'.'.join(target)} from a higher layer"
        )


def test_there_are_no_circles() -> None:
    """Not even inside a layer; imports inside functions count too."""
    graph = {dotted(path): {name for name, _ in imports(path)} for path in modules() if dotted(path) != ("__init__",)}
    graph = {(name[:-1] if name[-1] == "__init__" else name): targets for name, targets in graph.items()}
    done: set[tuple[str, ...]] = set()

    def visit(name: tuple[str, ...], path: tuple[tuple[str, ...], ...]) -> None:
        assert name not in path, " → ".join(".".join(item) for item in (*path[path.index(name) :], name))
        if name in done or name not in graph:
            return
        for target in graph[name] - {name}:
            visit(target, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_one_kind_do_not_know_parts_of_another(kind: str) -> None:
    others = {"methods": {"tasks", "tuning"}, "tasks": {"methods", "tuning"}}[kind]
    for path in (ROOT / kind).glob("*.py"):
        for target, line in imports(path):
            assert unit(target) not in others, f"{path}:{line}"
    for target, line in imports(ROOT / "tuning.py"):
        assert unit(target) not in KINDS, f"tuning.py:{line}"


def test_methods_do_not_import_each_other() -> None:
    for path in (ROOT / "methods").glob("*.py"):
        for target, line in imports(path):
            assert target[:1] != ("methods",) or target in BASES, f"{path}:{line}"
    from nlp_transfer import parts

    assert not {tuple(method.__module__.split(".")[1:]) for method in parts.METHODS.values()} & BASES


def test_trainer_knows_no_concrete_part() -> None:
    for target, line in imports(ROOT / "trainer.py"):
        assert unit(target) not in ("tasks", "tuning", "parts"), f"trainer.py:{line}"
        assert target[:1] != ("methods",) or target == ("methods", "base"), f"trainer.py:{line}"


def test_no_method_names_a_task_and_the_trainer_names_no_method() -> None:
    from nlp_transfer import parts
    from nlp_transfer.recipe.schema import TaskSpec

    tasks = get_args(TaskSpec.model_fields["name"].annotation)
    for path in (ROOT / "methods").glob("*.py"):
        words = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not words & {*tasks, "Ner", "Classification", "MultiLabel"}
    text = (ROOT / "trainer.py").read_text().lower()
    assert not [name for name in parts.METHODS if name in text]


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    """Importing the package, reading a recipe and ``--help`` take no torch."""
    files = [ROOT / f"{name}.py"] if (ROOT / f"{name}.py").is_file() else list((ROOT / name).glob("*.py"))
    assert files
    for path in files:
        for node in nodes(path, top_only=True):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {item.split(".")[0] for item in names} & HEAVY, path
        for target, line in imports(path, runtime_only=True):
            assert unit(target) in LIGHT or unit(target) in ("screen", "reporter"), f"{path}:{line}"
