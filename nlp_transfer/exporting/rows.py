"""The labelled rows that an export is checked on: the source dev rows that the run has scored, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from ..data.load import load_split
from ..errors import ModelError
from ..inference import in_task_labels
from ..model_files import read_object
from ..outputs import sample_rows
from ..predictions import file_of, read_answers
from ..predictor import Predictor
from ..tasks.ner import Ner

DEV = "source.dev"


def run_folder(model: str | Path) -> Path | None:
    """Return the folder of the finished run that a model belongs to: the folder itself, or that of its ``model/``."""
    path = Path(model).expanduser()
    places = (path, path.parent) if path.name == "model" else (path,)
    return next((place for place in places if (place / "metrics.json").is_file()), None)


def check_rows(
    model: str | Path, predictor: Predictor, data: Any, most: int, seed: int = 0
) -> tuple[datasets.Dataset, str]:
    """Return canonical labelled rows, and where they come from.

    Args:
        model: What the predictor was loaded from.
        predictor: The model.
        data: A labelled file, ``hub:owner/name`` or ``datasets.Dataset``; None: source dev as the run has scored it.
        most: Largest number of rows; of more, so many are drawn.
        seed: Seed of the draw.

    Raises:
        ModelError: There are no such rows.
        DataError: The file cannot be used.
    """
    if data is not None:
        split = load_split(data, name="data", kind=predictor.task.row_kind)
        return sample_rows(in_task_labels(predictor, split)[0].rows, most, seed), split.origin
    folder = run_folder(model)
    if folder is None:
        raise ModelError(
            f"'{model}' is no run, so there are no rows to check the export on. Name labelled rows: --data FILE."
        )
    role = read_object(folder / "metrics.json").get("kept", "")
    if not file_of(folder, role, DEV).is_file():
        raise ModelError(f"'{folder}' lacks predictions/{role}.{DEV}.jsonl. Name labelled rows: --data FILE.")
    answers = read_answers(folder, role, DEV)
    texts = [row["text"] for row in answers]
    gold = [row["gold"] for row in answers]
    if not isinstance(predictor.task, Ner):
        rows = {"text": texts, ("labels" if predictor.task.row_kind == "multi_label" else "label"): gold}
    else:
        words = [[word["word"] for word in row["words"]] for row in answers]
        starts = [[word["start"] for word in row["words"]] for row in answers]
        rows = {"text": texts, "words": words, "starts": starts, "tags": gold}
    return sample_rows(datasets.Dataset.from_dict(rows), most, seed), f"{DEV} of {folder}"
