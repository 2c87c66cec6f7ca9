"""What stages have in common: the folder, and how its model is saved.

A stage's folder holds checkpoints while it runs, and ``model/`` and ``done.json`` when it is finished. Finished stages
are skipped, unfinished ones resume from their newest complete checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import finding, models
from ..checkpoints import copy_folder, discard_others
from ..chosen import LAST_STEP
from ..errors import RunError
from ..hardware import is_main_process
from ..processes import wait_for_all
from ..recipe.schema import TrainSpec
from ..records import LOG, append_lines, read_json, read_json_lines
from ..reloading.examples import MOST, examples_of, write_examples
from ..tasks.base import Encoded
from ..whole import write_text
from ..workspace import Workspace

DONE = "done.json"
BORROWED = "borrowed"
"""Key of a line of the log that was logged by another run: the folder of the stage there."""


@dataclass(frozen=True)
class StageResult:
    """What a finished stage left.

    Args:
        folder: The stage's folder.
        facts: Steps, seconds, scores on source dev and the like.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """Folder of the stage's output model."""
        return self.folder / "model"


def borrow(folder: Path, fingerprint: str, runs: Sequence[Path], log: Path, title: str) -> None:
    """Copy a stage that another run has finished with these very settings; nothing happens where there is none.

    Args:
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        runs: Folders of other runs.
        log: The run's log, which takes over what the stage has logged.
        title: What the stage is called in this run.
    """
    if is_main_process() and finished(folder, fingerprint) is None:
        for path in sorted(place for run in runs for place in run.glob(f"stages/*/{DONE}")):
            if finished(path.parent, fingerprint) is not None:
                # Whoever has just finished it may be deleting what only a stopped stage needs.
                copy_folder(path.parent, folder, _unfinished)
                _take_log(path.parent, log, title)
                break
    wait_for_all()


def _take_log(stage: Path, log: Path, title: str) -> None:
    """Append what a stage of another run has logged to the log of this one, where the stage may be called otherwise."""
    for path in sorted(stage.rglob(LOG)):
        # Lines are for reading: one that a crash has cut off is no reason to train again.
        with contextlib.suppress(RunError):
            name = {"stage": title} if path.parent == stage else {}
            append_lines(log, (line | name | {BORROWED: str(stage)} for line in read_json_lines(path, "")))


def _unfinished(folder: str, names: list[str]) -> list[str]:
    """Return what a stage's folder holds only while it is trained."""
    in_round = Path(folder).name.startswith("round-")
    return [
        name for name in names if "checkpoint-" in name or name in ("head", "blocks") or (in_round and name == "model")
    ]


@dataclass(frozen=True)
class Before:
    """Model folders that earlier stages left for a stage to build upon.

    Args:
        encoder: Output of the newest pretrain stage.
        model: Task model of the newest stage that trained one.
        start: Task model that the newest ``finetune`` began with; None: the base model.
        twin: The twin after as many ``finetune`` stages.
    """

    encoder: Path | None = None
    model: Path | None = None
    start: Path | None = None
    twin: Path | None = None


def finished(folder: Path, fingerprint: str) -> StageResult | None:
    """Return the result of a stage that is already done with these very settings, else None."""
    path = folder / DONE
    if not path.is_file():
        return None
    facts = _facts(path)
    return StageResult(folder, facts) if facts["fingerprint"] == fingerprint else None


def recorded(model: Path) -> dict[str, Any]:
    """Return the facts of the finished stage that left a model."""
    return _facts(model.parent / DONE)


def _facts(path: Path) -> dict[str, Any]:
    return read_json(path, f"Delete the folder '{path.parent}': its stage is trained anew.", ["fingerprint"])


def begin(space: Workspace, folder: Path, fingerprint: str) -> None:
    """Drop the checkpoints of other data or settings: resuming from them would mix the two."""
    if is_main_process() and discard_others(folder, fingerprint):
        space.reporter.warn(f"{folder}: its data or settings have changed; the stage begins anew.")
    wait_for_all()


def resumed(space: Workspace, folder: Path, fingerprint: str) -> StageResult | None:
    """Return the result of a stage that is already done; else make its folder fit to begin or to go on."""
    done = finished(folder, fingerprint)
    if done is None:
        begin(space, folder, fingerprint)
    return done


def finish(space: Workspace, folder: Path, fingerprint: str, model: Any, facts: dict[str, Any]) -> StageResult:
    """Write the model, then ``done.json``; drop the checkpoints, which only a stopped stage needs."""
    facts = {"fingerprint": fingerprint} | facts
    if is_main_process():
        part = folder / "model.part"
        shutil.rmtree(part, ignore_errors=True)
        save_model(model, space, part)
        shutil.rmtree(folder / "model", ignore_errors=True)
        part.rename(folder / "model")
        if "task" in facts:
            write_examples(folder, examples_of(model, _some_texts(space)))
        write_text(folder / DONE, json.dumps(facts, indent=2) + "\n")
        for path in folder.glob("*checkpoint-*"):
            shutil.rmtree(path)
    wait_for_all()
    return StageResult(folder, facts)


def _some_texts(space: Workspace) -> list[list[int]]:
    """Return token ids of the first rows that a task model is tried on after reloading."""
    rows = space.splits.dev.rows
    few = rows.select(range(min(MOST, len(rows))))
    return [window.input_ids for window in space.task.encode(few, space.tokenizer, space.limits, False).windows]


def _base_name(base: finding.ResolvedModel) -> str:
    """Return the hub id of the base, or its folder so that it is found from everywhere on this machine."""
    return str(base.folder.resolve()) if base.local else base.id


def save_model(model: Any, space: Workspace, folder: Path) -> None:
    """Write a model as plain Hugging Face or PEFT files, with label names and the base model's true id."""
    with models.quiet():
        config = model.config
        if hasattr(model, "peft_config"):
            for peft in model.peft_config.values():
                peft.base_model_name_or_path = _base_name(space.base)
                peft.revision = space.base.revision or space.base.commit
            # Otherwise PEFT asks the hub, without a deadline, whether the vocabulary has grown.
            model.save_pretrained(folder, save_embedding_layers=False)
            config.save_pretrained(folder)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            model.save_pretrained(folder)
        models.save_tokenizer(space.tokenizer, folder)


def judged(space: Workspace, title: str, train: TrainSpec, chosen_by: str, dev: Encoded) -> Encoded | None:
    """Return the rows of source dev that are scored on the way; none where the weights of the last step are kept.

    Args:
        space: The run's workspace.
        title: Name of the training, for warnings.
        train: Its settings.
        chosen_by: What selects its checkpoint, from :func:`~nlp_transfer.selecting.selection_of`.
        dev: Encoded rows of source dev.
    """
    if chosen_by != LAST_STEP:
        return dev
    if train.early_stopping:
        space.reporter.warn(f"{title}: train.early_stopping has no effect, as no score selects the checkpoint.")
    return None
