"""Small data, recipes and trainings that several test files (and the processes that they start) use."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from conftest import WORDS

PLAIN = [word.lower() for word in WORDS if word.islower()]
NAMES = {"PER": ["Anna", "Berg"], "ORG": ["Acme", "Corp"], "LOC": ["Oslo", "Nile"]}
COLOURS = ["bad", "good", "poor"]
LABELS = ["bad", "fair", "good", "never"]
"""Labels of :func:`random_answers`."""


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf8"))


def read_lines(path: Path) -> list[Any]:
    """What each line of a file of JSON lines holds."""
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def edit_json(path: Path, **changes: Any) -> None:
    """Put values over those of a JSON object in a file."""
    path.write_text(json.dumps(read_json(path) | changes), encoding="utf8")


def random_answers(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Gold and predicted labels that agree more often than by chance, without the last label."""
    generator = np.random.default_rng(seed)
    gold = generator.choice(LABELS[:3], rows, p=[0.6, 0.3, 0.1])
    predicted = np.where(generator.random(rows) < 0.6, gold, generator.choice(LABELS[:3], rows))
    return gold.tolist(), predicted.tolist()


def text_rows(count: int, seed: int = 0, labels: tuple[str, ...] = ("bad", "good", "poor"), longest: int = 14) -> Any:
    """Texts whose label is one of their words."""
    import datasets

    draw = np.random.default_rng(seed)
    given = [labels[number % len(labels)] for number in range(count)]
    texts = [_sentence(draw, longest, label if label in PLAIN else "great") for label in given]
    return datasets.Dataset.from_dict({"text": texts, "label": given})


def star_rows(count: int, seed: int = 0) -> Any:
    """Texts with two to four stars."""
    rows = text_rows(count, seed)
    stars = {"bad": 2, "good": 4, "poor": 3}
    return rows.map(lambda row: {"label": stars[row["label"]]}, features=_star_features())


def _star_features() -> Any:
    import datasets

    return datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("int64")})


def multi_rows(count: int, seed: int = 0) -> Any:
    """Texts with none to three labels."""
    import datasets

    draw = np.random.default_rng(seed)
    given = [[label for bit, label in enumerate(COLOURS) if (number >> bit) & 1] for number in range(count)]
    texts = [" ".join([_sentence(draw, 10, "film"), *labels]) for labels in given]
    return datasets.Dataset.from_dict({"text": texts, "labels": given})


def ner_rows(count: int, seed: int = 0, longest: int = 14) -> Any:
    """Sentences of very unequal length (every fourth is long) with names."""
    import datasets

    draw = np.random.default_rng(seed)
    all_words: list[list[str]] = []
    all_tags: list[list[str]] = []
    for number in range(count):
        size = longest if number % 4 == 0 else int(draw.integers(1, 4))
        words = [str(word) for word in draw.choice(PLAIN, size=size)]
        kind = list(NAMES)[number % 3]
        name = NAMES[kind][: 1 + number % 2]
        at = int(draw.integers(0, size + 1))
        tags = ["O"] * size
        words[at:at] = name
        tags[at:at] = [f"B-{kind}", f"I-{kind}"][: len(name)]
        all_words.append(words)
        all_tags.append(tags)
    return datasets.Dataset.from_dict({"words": all_words, "tags": all_tags})


def _sentence(draw: np.random.Generator, longest: int, word: str) -> str:
    words = [str(item) for item in draw.choice(PLAIN, size=int(draw.integers(2, longest)))]
    words[int(draw.integers(0, len(words)))] = word
    return " ".join(words)


TASKS: dict[str, Any] = {
    "classification": "classification",
    "multi_label": {"name": "classification", "multi_label": True},
    "sentiment": {"name": "sentiment", "polarity": {"2": "negative", "3": None, "4": "positive"}},
    "ner": "ner",
}
"""Kinds of tasks by the name that tests give them, as recipes write them."""


@lru_cache(maxsize=64)
def rows_of(kind: str, count: int, seed: int = 0) -> Any:
    """Labelled rows for a kind of task."""
    maker = {"classification": text_rows, "multi_label": multi_rows, "sentiment": star_rows, "ner": ner_rows}[kind]
    return maker(count, seed)


def data_of(kind: str, count: int = 24, sources: int = 1) -> dict[str, Any]:
    """Data sets for all roles of a run; a second source domain has half as many rows."""
    source = {"source.train": rows_of(kind, count, 1), "source.dev": rows_of(kind, 12, 2)}
    if sources == 2:
        source = {role.replace(".", ".0."): rows for role, rows in source.items()}
        source |= {"source.1.train": rows_of(kind, count // 2, 5), "source.1.dev": rows_of(kind, 6, 6)}
    return {
        **source,
        "target.unlabelled": rows_of(kind, count - 5, 3),
        "target.test": rows_of(kind, 12, 4),
    }


def recipe_data(
    folder: Path,
    model: Path,
    kind: str = "classification",
    tuning: Any = "full",
    methods: tuple[Any, ...] = (),
    stages: list[Any] | None = None,
    selection: Any = "source_dev",
    source_only: bool = False,
    sources: int = 1,
    target_labels: bool = False,
    **train: Any,
) -> dict[str, Any]:
    """A recipe for in-memory data, as plain data: two small steps unless ``train`` says otherwise."""
    files = {"train": "memory", "dev": "memory"}
    return {
        "name": "small",
        "output": str(folder),
        "seed": 3,
        "model": str(model),
        "task": TASKS[kind],
        "data": {
            "source": files if sources == 1 else [{"name": "first", **files}, {"name": "second", **files}],
            "target": {"unlabelled": "memory", "test": "memory"} | ({"train": "memory"} if target_labels else {}),
            "max_length": 32,
        },
        "tuning": tuning,
        "methods": list(methods),
        "stages": ["finetune"] if stages is None else stages,
        "train": {"max_steps": 2, "batch_size": 8, "learning_rate": 2e-3, "warmup": 0.0, "precision": "fp32"} | train,
        "evaluate": {"resamples": 100},
        "selection": selection,
        "source_only": source_only,
    }


def make_recipe(*args: Any, **kwargs: Any) -> Any:
    """The checked recipe of :func:`recipe_data`."""
    from nlp_transfer.parts import recipe_from

    return recipe_from(recipe_data(*args, **kwargs))


def recipe_for(folder: Path, base: Path, kind: str = "classification", **changes: Any) -> Any:
    """A checked recipe for comparisons, in which source-only is a strategy of its own."""
    from nlp_transfer.parts import recipe_from

    data = recipe_data(folder / "run", base, kind)
    data.pop("source_only")
    return recipe_from(data | changes)


class Listener:
    """A reporter that remembers, and that can interrupt a stage after some steps."""

    def __init__(self, stop_title: str = "", stop_step: int = 0):
        self.said: list[str] = []
        self.warned: list[str] = []
        self.bars: list[str] = []
        self.stop = (stop_title, stop_step)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def bar(self, title: str, total: int) -> Any:
        import contextlib

        self.bars.append(title)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if (title, done) == self.stop:
                raise KeyboardInterrupt

        return contextlib.nullcontext(advance)

    def show(self, item: Any) -> None:
        pass


def shown(found: Any) -> str:
    """What ``diagnose`` prints of a diagnosis, on a wide screen."""
    from rich.console import Console

    from nlp_transfer.diagnosis.report import render

    console = Console(file=io.StringIO(), width=200, record=True, markup=False)
    for item in render(found):
        console.print(item)
    return console.export_text()


def saved_weights(folder: Path) -> dict[str, Any]:
    """All tensors in a model folder, adapters included."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    return weights


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model folders hold the same tensors, bit for bit."""
    import torch

    first, second = saved_weights(one), saved_weights(other)
    assert first and first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)
