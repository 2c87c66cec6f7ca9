"""Small made-up data sets, models and recipes that tests share."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from conftest import WORDS, tiny_config

from nlp_transfer.recipe import Recipe, parse

NAMES = {"PER": ["Anna Berg", "Berg"], "ORG": ["Acme Corp", "Acme"], "LOC": ["Oslo", "Nile"]}
PLAIN = [word for word in WORDS if word.islower()]
TEXT_HEAD, TOKEN_HEAD = "AutoModelForSequenceClassification", "AutoModelForTokenClassification"
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ODD = [
    "",
    " ",
    "\n\t\u3000",
    "\x00",
    "\x00\x01 good \x1b[31m film\x7f",
    "\u200b\ufeff",
    "cafe\u0301 naïve ﬁne Ⅷ",
    "👩‍💻🙂 works in 北京, Zürich 🇳🇴!",
    "مرحبا بالعالم",
    "x" * 3000,
    "good \ud800 film",
    "[MASK] [SEP] <s> </s> [CLS] [PAD] <pad>",
    "line one\r\nline two",
]
"""Texts as they also come: empty, of control characters, in other scripts, of one long word, with special tokens."""


def random_texts(count: int, seed: int, longest: int = 100) -> list[str]:
    """Texts of one to ``longest`` words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(PLAIN, k=draw.randint(1, longest))) for _ in range(count)]


def sentiment_rows(count: int, seed: int, longest: int = 12) -> list[dict[str, Any]]:
    """Texts whose last word gives the label away."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label, word = [("positive", "love"), ("negative", "hate")][number % 2]
        rows.append({"text": " ".join([*draw.choices(PLAIN, k=draw.randint(3, longest)), word]), "label": label})
    return rows


def multi_label_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts with any of three labels, some with none."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        labels = [label for label in ("battery", "screen", "sync") if draw.random() < 0.4]
        rows.append({"text": " ".join([*draw.choices(PLAIN, k=4), *labels]), "labels": labels})
    return rows


def ner_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Sentences with one or two entities."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(draw.randint(1, 2)):
            before = draw.choices(PLAIN, k=draw.randint(1, 3))
            kind = draw.choice(sorted(NAMES))
            name = draw.choice(NAMES[kind]).split()
            words += [*before, *name]
            tags += ["O"] * len(before) + [f"{'I' if at else 'B'}-{kind}" for at in range(len(name))]
        rows.append({"words": words, "tags": tags})
    return rows


ROWS = {"sentiment": sentiment_rows, "classification": sentiment_rows, "multi_label": multi_label_rows, "ner": ner_rows}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return path


def write_data(folder: Path, task: str = "sentiment", train: int = 24) -> Path:
    """Write the files that ``recipe_values`` names."""
    folder.mkdir(parents=True, exist_ok=True)
    make = ROWS[task]
    for seed, (name, count) in enumerate({"train": train, "dev": 10, "test": 12, "target_dev": 8}.items()):
        write_rows(folder / f"{name}.jsonl", make(count, seed))
    texts = [{"text": row.get("text", " ".join(row.get("words", [])))} for row in make(16, 9)]
    write_rows(folder / "unlabelled.jsonl", texts)
    return folder


def recipe_values(folder: Path, model: Path | str, task: str = "sentiment", **changes: Any) -> dict[str, Any]:
    """Plain data of a recipe that trains three steps on the files of ``write_data``."""
    values: dict[str, Any] = {
        "name": "tiny",
        "output": str(folder / "run"),
        "model": str(model),
        "task": {"name": "classification", "multi_label": True} if task == "multi_label" else task,
        "data": {
            "folder": str(folder),
            "source": {"train": "train.jsonl", "dev": "dev.jsonl"},
            "target": {"unlabelled": "unlabelled.jsonl", "test": "test.jsonl"},
        },
        "train": {"max_steps": 3, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3},
        "evaluate": {"resamples": 100},
    }
    return values | changes


def minimal(**sections: Any) -> dict[str, Any]:
    """Plain data of the shortest recipe for named entities, with sections put over its own."""
    base = {"name": "small", "model": "m", "task": "ner", "data": {"source": {"train": "a.conll"}}}
    return base | sections


def valid(data: dict[str, Any], *overrides: str) -> Recipe:
    """The recipe of plain data that has no mistakes."""
    recipe, problems = parse(data, overrides=overrides)
    assert problems == [], problems
    assert recipe is not None
    return recipe


def plain_classifier(folder: Path, tokenizer: Any, head: str, labels: list[str], seed: int = 0, **config: Any) -> Path:
    """Write a Hugging Face classifier as others publish it: label names in ``config.json``, no file of ours.

    Its weights are drawn so wide that different texts get clearly different answers.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    kind = "roberta" if tokenizer.pad_token_id == 1 else "bert"
    settings = tiny_config(kind, len(tokenizer))
    settings.update({"initializer_range": 0.4, "pad_token_id": tokenizer.pad_token_id, **config})
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: number for number, label in enumerate(labels)}
    model = getattr(transformers, head).from_config(settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
