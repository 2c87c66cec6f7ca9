"""A whole run: from a recipe to an adapted, evaluated, usable model in a run folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import finding, models, runfolder
from .arguments import check_batches
from .card.facts import facts_of, told_of
from .card.text import card_text
from .checkpoints import copy_folder
from .data.load import Split
from .data.seen import Seen
from .errors import HubError, ModelError, RunError, UnfitModelError, UserError
from .evaluation import evaluate_models, write_prediction_settings
from .fingerprints import identity
from .hardware import idle_gpus, is_main_process
from .hub.package import base_without_a_name, check_base
from .hub.push import check_place, push_as_told
from .merging import merge_into
from .parts import METHODS, Known
from .preparing.load import load_splits, say_notes
from .processes import agree, first_process_first, join, wait_for_all
from .recipe.defaults import resolve
from .recipe.publishing import HubSpec
from .recipe.schema import Recipe
from .recipe.stages import PretrainStage
from .records import look_up, read_json, rerun
from .reloading.check import check_reload
from .reloading.examples import read_examples, write_examples
from .report.measuring import write_domains
from .report.page import REPORT
from .report.record import Record, read_domains, read_log
from .report.run import report_run
from .reporter import Reporter
from .sequence import Outcome, train_stages
from .stages.base import StageResult
from .whole import write_text
from .workspace import Workspace, open_workspace

PATIENCE = timedelta(days=7)
"""How long a process waits for the one that reads and tokenises a corpus."""


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Args:
        folder: The run folder.
        metrics: What ``metrics.json`` holds: scores by model and split, the gain over the source-only twin, the verdict
            on it, and which model is kept.
    """

    folder: Path
    metrics: dict[str, Any]

    @property
    def model(self) -> Path:
        """Folder of the model that is kept."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The page that tells what came of it."""
        return self.folder / REPORT


def run(
    recipe: Recipe,
    *,
    fresh: bool = False,
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    methods: Known = METHODS,
    reuse: Sequence[Path] = (),
    checked: bool = True,
) -> RunResult:
    """Run a recipe: train its stages (and the source-only twin), evaluate, write the run folder.

    Running the same recipe again resumes where the last run stopped, or returns its result when it is done.

    Args:
        recipe: From :func:`nlp_transfer.load_recipe`.
        fresh: Delete an earlier run in the same folder first.
        data: ``datasets.Dataset`` objects that stand in for files, by key path below ``data``: ``source.train``
            (of several sources ``source.0.train``), ``target.test``, ….
        reporter: Where progress is told; silent by default.
        methods: Classes of the methods that the recipe may name; ``METHODS | {"mine": Mine}`` adds one of your own.
        reuse: Folders of other runs; a stage that one of them has finished with the same settings, data and seed is
            copied from there.
        checked: Reload the model in a fresh process at the end, which takes seconds, and compare its logits with those
            of training. Whoever pushes the model makes up for it.

    Returns:
        The run's folder and metrics.

    Raises:
        UserError: Anything the user can mend, before training starts where possible.
    """
    reporter = Reporter() if reporter is None or not is_main_process() else reporter
    recipe = resolve(recipe)
    check_batches(recipe, methods)
    if recipe.hub is not None:
        check_place(recipe.hub, Path(str(recipe.output)))
    if any(isinstance(stage, PretrainStage) and stage.corpus is not None for stage in recipe.stages):
        # One process streams or tokenises a corpus of any size, while the others wait.
        join(PATIENCE)
    if fresh:
        # What cannot be run again must not cost the results that are there.
        load_splits(recipe, data, probes=True)
        finding.resolve(recipe.model.id, recipe.model.revision)
    with first_process_first():
        folder = _claimed(recipe, fresh)
    done = folder / "metrics.json"
    if done.is_file():
        reporter.say(f"{folder} holds this run already, finished. Give --fresh to run it again.")
        _warn_if_data_changed(recipe, folder, data, reporter)
        if is_main_process() and not (folder / REPORT).is_file():
            _draw(folder, reporter)  # it was stopped, or its disk was full, when all but its page was written
        result = RunResult(folder, read_json(done, rerun(folder), ["scores", "kept"]))
    elif not is_main_process():
        return _run_claimed(recipe, folder, data, reporter, methods, reuse, checked)
    else:
        with runfolder.locked(folder), runfolder.full_disk(folder):
            result = _run_claimed(recipe, folder, data, reporter, methods, reuse, checked)
    if recipe.hub is not None and is_main_process():
        _push(recipe.hub, folder, reporter)
    return result


def _draw(folder: Path, reporter: Reporter) -> None:
    """Write the page of a finished run; what keeps it from being written does not keep the run from being used."""
    try:
        report_run(folder)
    except RunError as error:
        reporter.warn(f"{folder} has no report: {error}")


def _push(hub: HubSpec, folder: Path, reporter: Reporter) -> None:
    """Push as the recipe says; without success the run is finished all the same."""
    try:
        pushed = push_as_told(hub, folder)
    except UserError as error:
        # Not `nlp-transfer push`: it knows nothing of the recipe's section `hub`, such as that the report stays here.
        raise HubError(
            f"The run in '{folder}' is finished, but was not pushed: {error} To push it as its recipe says, run the "
            "same recipe again (without --fresh): a finished run is pushed, and nothing is trained again."
        ) from error
    reporter.say(f"pushed: {pushed.url}")


def changed_rows(recipe: Recipe, folder: Path, data: dict[str, Any] | None = None) -> list[str]:
    """Return the splits that hold other rows now than when a finished run was made.

    Args:
        recipe: The recipe that names them.
        folder: The run folder.
        data: As :func:`run` takes them.

    Raises:
        DataError: They cannot be read any more.
        RunError: The record of the run is damaged.
    """
    path = folder / "environment.json"
    recorded = look_up(read_json(path, rerun(folder)), path, rerun(folder), "data")
    now = load_splits(recipe, data, runfolder.read_seen(folder)).fingerprints()
    return [name for name, value in now.items() if recorded.get(name) != value]


def _warn_if_data_changed(recipe: Recipe, folder: Path, data: dict[str, Any] | None, reporter: Reporter) -> None:
    """Say so when a finished run was made from other rows than the recipe's files hold now."""
    try:
        changed = changed_rows(recipe, folder, data)
    except RunError:
        raise
    except UserError:
        # The files may be gone by now; the run is finished all the same.
        return
    if changed:
        reporter.warn(f"its data has changed since: {', '.join(changed)}. The results are those of the old rows.")


def _claimed(recipe: Recipe, fresh: bool) -> Path:
    assert recipe.output is not None
    return runfolder.claim(recipe, fresh) if is_main_process() else Path(recipe.output)


def _run_claimed(
    recipe: Recipe,
    folder: Path,
    data: dict[str, Any] | None,
    reporter: Reporter,
    methods: Known,
    reuse: Sequence[Path],
    checked: bool,
) -> RunResult:
    begun = time.time()
    # Agreed upon: the first process writes what the others would read.
    splits = load_splits(recipe, data, agree(_pins(folder, reuse) if is_main_process() else None))
    if is_main_process():
        runfolder.write_seen(folder, splits.seen)
    say_notes(splits, reporter)
    space = replace(open_workspace(recipe, splits, folder, reporter), methods=methods, reuse=tuple(reuse))
    if space.base.adapter is not None:
        with first_process_first():
            # Named by its weights: an adapter that was trained anew in the meantime is merged anew.
            place = folder / "stages" / f"base-{identity(space.base)[:12]}"
            space = replace(space, base=merge_into(space.base, place))
    if recipe.hub is not None:
        _check_base(recipe, recipe.hub, space.base)
    cut = _cut_rows(space)
    for note in cut:
        reporter.say(note)
    spare = idle_gpus()
    if spare:
        reporter.warn(
            f"{spare + 1} GPUs are visible, but one is used. To use all: accelerate launch --multi_gpu "
            f"--num_processes {spare + 1} -m nlp_transfer run {folder / 'recipe.yaml'}"
        )
    fingerprints = splits.fingerprints()
    record = runfolder.environment(recipe, fingerprints, _named(space.base))
    record |= {"rows": {name: len(rows) for name, rows in splits.named().items()}, "notes": [*splits.notes, *cut]}
    record["methods"] = told_of(methods, recipe.methods)
    try:
        outcome = train_stages(space, folder, fingerprints)
    except ModelError as error:
        # Known when the stage begins, where that of a model that is out of reach is known before.
        raise UnfitModelError(str(error)) from error
    if is_main_process():
        write_prediction_settings(space, outcome)
    wait_for_all()
    metrics = evaluate_models(space, outcome, folder)
    if is_main_process():
        record["seconds"] = {"total": round(time.time() - begun, 1)} | {
            name: result.facts.get("seconds") for name, result in outcome.named().items()
        }
        _complete(space, outcome, metrics, record, checked)
    wait_for_all()
    return RunResult(folder, read_json(folder / "metrics.json", rerun(folder)))


def _pins(folder: Path, reuse: Sequence[Path]) -> dict[str, Seen]:
    """Return what the run has seen of streamed corpora, else what the runs have whose stages it shares.

    Otherwise the runs of a comparison would read other texts where the data set moves on between two of them.
    """
    pins: dict[str, Seen] = {}
    for other in reversed(reuse):
        with contextlib.suppress(RunError):  # it is that run's to mend
            pins |= runfolder.read_seen(other)
    return pins | runfolder.read_seen(folder)


def _check_base(recipe: Recipe, hub: HubSpec, base: finding.ResolvedModel) -> None:
    """Refuse an adapter that could not be pushed at the end, since nobody else has its base."""
    adapter = recipe.tuning.name == "lora" and not hub.merged
    check_base(hub.base, None if base.local else base.id, adapter)
    if adapter and base.local and hub.base is None:
        raise base_without_a_name("the adapter that is about to be trained", base.id)


def _cut_rows(space: Workspace) -> list[str]:
    """Say of each split how many texts lose words, where the recipe says to cut them off."""
    if not space.limits.truncate or not is_main_process():
        return []
    found = {
        role: space.task.encode(split.rows, space.tokenizer, space.limits, labelled=False).long_rows
        for role, split in space.splits.named().items()
        if isinstance(split, Split)
    }
    return [
        f"{role}: {count} texts are longer than {space.limits.max_length} tokens; the task does not read the rest of "
        "them (data.long_texts: truncate)."
        for role, count in found.items()
        if count
    ]


def _named(base: finding.ResolvedModel) -> dict[str, Any]:
    """Return what tells which model a run began with."""
    labels = models.label_names(base)
    merged = None
    if base.adapter_id is not None:
        merged = {"id": base.adapter_id, "commit": base.adapter_commit, "local": finding.is_local(base.adapter_id)}
    return {
        "id": base.id,
        "revision": base.revision,
        "commit": base.commit,
        "files": base.note,
        "local": base.local,
        "head": None if labels is None else len(labels),
        "merged": merged,
    }


def _complete(
    space: Workspace, outcome: Outcome, metrics: dict[str, Any], record: dict[str, Any], checked: bool
) -> None:
    """Write everything into the run folder that a finished run has; ``metrics.json``, which says so, nearly last."""
    folder = space.log.parent
    kept = outcome.kept(metrics["kept"])
    copy_folder(kept.model, folder / "model")
    _check_model(space, kept, folder, checked)
    runfolder.write_json(folder / "environment.json", record)
    facts = [{"stage": name} | result.facts for name, result in outcome.named().items()]
    runfolder.write_lines(folder / "stages.jsonl", facts)
    write_domains(space, outcome, folder)
    told = Record(folder, space.recipe, metrics, record, facts, _logged(folder), read_domains(folder))
    write_text(folder / "README.md", card_text(told, facts_of(told)))
    runfolder.write_json(folder / "metrics.json", metrics)
    report_run(folder)


def _logged(folder: Path) -> list[dict[str, Any]]:
    # A line that a crash has cut off is no reason to lose the run.
    with contextlib.suppress(RunError):
        return read_log(folder)
    return []


def _check_model(space: Workspace, kept: StageResult, folder: Path, checked: bool) -> None:
    """Keep what the model can be tried on, and make sure that a fresh process gets from ``model/`` what was trained."""
    examples = read_examples(kept.folder)
    write_examples(folder, examples)
    if checked:
        worst = check_reload(folder / "model", examples, space.base.folder)
        space.reporter.say(f"model/ loads in a fresh process with the logits of training (to {worst:.1g})")
