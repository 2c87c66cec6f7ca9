"""Self-training: the model labels target rows, and trains on those it is sure of, in rounds.

Class-balanced self-training after Zou et al. (2018, arXiv 1810.07911): each round alternates their two steps, labels
for fixed weights, then weights for fixed labels, on source and target rows together.

Every round has a folder of its own, ``round-N``, that is begun, resumed and finished as a stage is. Its labels are
written before training starts: a round that was stopped goes on with them, and no half-trained model labels anything.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers.trainer_utils import set_seed

from .. import jobs, parts
from ..caching import cached_encoder
from ..chosen import told
from ..hardware import default_device, is_main_process
from ..jobs import Job
from ..last_layer import read_first_token
from ..methods.base import Method
from ..methods.mean_teacher import MeanTeacher
from ..objectives import TaskObjective
from ..preparation import prepared, preparing
from ..processes import agree, wait_for_all
from ..pseudo_labels import PseudoLabel, Rule, one_class, share_of_round, summarise
from ..recipe.schema import Part, TrainSpec
from ..recipe.stages import SelfTrainStage
from ..records import read_json, read_json_lines
from ..runfolder import write_json, write_lines
from ..selecting import selection_of, selector
from ..workspace import Workspace
from . import base
from .frozen import read_once
from .model import task_model, unit_sizes
from .rows import Rows, fit_task, labelled_rows, with_unlabelled
from .weights import adopt_model

LABELS = "pseudo_labels.jsonl"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Plan:
    """What all rounds of a stage share.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the stage's result.
        before: What earlier stages left.
        rows: What rounds train on: the labelled rows of the last ``finetune``, and unlabelled target rows.
        chosen_by: What selects checkpoints.
        states: Hidden states that the rows name, under a frozen encoder.
    """

    space: Workspace
    stage: SelfTrainStage
    folder: Path
    fingerprint: str
    before: base.Before
    rows: Rows
    chosen_by: str
    states: list[Any] | None = None

    @property
    def train(self) -> TrainSpec:
        """Training settings of a round."""
        return TrainSpec.model_validate(self.stage.train)

    def model(self, folder: Path | None) -> Any:
        """Return a saved model, ready to be trained; None: the one that ``finetune`` began with."""
        folder = self.before.start if folder is None else folder
        model = task_model(self.space, self.train, self.before.encoder if folder is None else None, None)
        if folder is not None:
            adopt_model(model, folder)
        read_first_token(model)
        return model.to(default_device())

    @contextlib.contextmanager
    def reading(self, model: Any) -> Iterator[None]:
        """Let the model look the rows up inside the block, where its encoder is frozen."""
        with contextlib.nullcontext() if self.states is None else cached_encoder(model, self.states):
            yield

    def tuned_on_dev(self, model: Any) -> list[Any]:
        """Return the logits of source dev; the task's thresholds become those of this model."""
        logits = jobs.dev_logits(self.space, model, self.rows.dev)
        self.space.task.tune(self.space.splits.dev.rows, logits)
        return logits


def self_train(
    space: Workspace, stage: SelfTrainStage, folder: Path, fingerprint: str, before: base.Before
) -> base.StageResult:
    """Label the target and train on it, ``rounds`` times.

    The rounds end early when no row is kept, or when one class takes nearly all predictions; the stage then leaves the
    last model whose predictions were sound.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left; ``model`` labels the first round.

    Returns:
        The result; its facts hold what each round kept.
    """
    done = base.resumed(space, folder, fingerprint)
    if done is not None:
        return done
    plan = _plan(space, stage, folder, fingerprint, before)
    kept, facts = _rounds(plan)
    model = plan.model(kept)
    with plan.reading(model):
        plan.tuned_on_dev(model)
    result = base.finish(space, folder, fingerprint, model, facts | {"task": space.task.settings()})
    if is_main_process():
        for path in folder.glob("round-*/model"):
            shutil.rmtree(path)
    wait_for_all()
    return result


def _plan(space: Workspace, stage: SelfTrainStage, folder: Path, fingerprint: str, before: base.Before) -> Plan:
    recipe, last = space.recipe, space.recipe.finetunes[-1]
    named = recipe.methods if stage.adapt else []
    rows = labelled_rows(space, last)
    fit_task(space, last, rows)
    rows = with_unlabelled(space, rows, last, named, target_too=True)
    chosen_by = selection_of(recipe, space.splits, last)
    rows = replace(rows, selector=selector(space, chosen_by))
    plan = Plan(space, stage, folder, fingerprint, before, rows, chosen_by)
    assert before.model is not None
    model = plan.model(before.model)
    if parts.TUNINGS[recipe.tuning.name].moves_features:
        return plan
    with preparing(folder, "features"):
        states, rows = read_once(space, model, rows)
    return replace(plan, rows=rows, states=states)


def _rounds(plan: Plan) -> tuple[Path, dict[str, Any]]:
    """Do the rounds; return the folder of the model to keep, and facts."""
    space, rounds = plan.space, plan.stage.rounds
    source_groups = space.task.groups(space.task.gold(space.splits.train.rows))
    assert plan.before.model is not None
    sound, reports, stopped = [plan.before.model], [], None
    last: list[PseudoLabel] | None = None
    for number in range(1, rounds + 2):
        labels, temperature = _labels(plan, number, sound[-1])
        summary = summarise(labels, last)
        space.reporter.say(f"self_train: {_told(number, rounds, asdict(summary), temperature)}")
        lost = one_class(labels, source_groups)
        if lost is not None:
            share = summary.predicted_shares[lost]
            stopped = _collapse(number, lost, share, source_groups.count(lost) / len(source_groups))
            # The model that gave these labels is the one that has collapsed.
            sound = sound[:-1] if len(sound) > 1 else sound
        elif number <= rounds and not summary.kept:
            stopped = _nothing_kept(plan.stage, number)
        reports.append({"round": number, "temperature": round(temperature, 4)} | asdict(summary))
        if stopped is not None or number > rounds:
            break
        result = _round(plan, number, labels, sound[-1])
        shown = ("steps", "seconds", "peak_mib", "best_", "selected_step")
        reports[-1] |= {key: value for key, value in result.facts.items() if key.startswith(shown)}
        sound.append(result.model)
        last = labels
    if stopped is not None:
        space.reporter.warn(f"self_train: {stopped}")
    trained = [report for report in reports if "steps" in report]
    before = prepared(plan.folder)
    return sound[-1], {
        "steps": sum(report["steps"] for report in trained),
        "seconds": round(before.seconds + sum(report["seconds"] for report in trained), 2),
        "peak_mib": max([before.peak_mib, *(report.get("peak_mib") or 0 for report in trained)]) or None,
        "rounds": trained,
        "after": {key: reports[-1][key] for key in ("predicted_shares", "agreement", "temperature")},
        "model_of_round": len(sound) - 1,
        "stopped": stopped,
        "selection": told(plan.chosen_by),
    }


def _labels(plan: Plan, number: int, labeller: Path) -> tuple[list[PseudoLabel], float]:
    """Return the labels of a round: the written ones of a run that was stopped, or new ones, which are written first.

    After the last round the target is labelled once more, to see what became of its predictions.
    """
    folder = plan.folder / (f"round-{number}" if number <= plan.stage.rounds else "after")
    base.begin(plan.space, folder, f"{plan.fingerprint} {number}")
    if not agree((folder / LABELS).is_file()):
        with preparing(plan.folder, f"labels of {folder.name}"):
            found, temperature = _guess(plan, number, labeller)
        if is_main_process():
            write_json(folder / CALIBRATION, {"temperature": temperature})
            write_lines(folder / LABELS, [{"row": row, **label.to_dict()} for row, label in enumerate(found)])
        wait_for_all()
    mend = f"Delete the folder '{folder}': its rows are labelled anew."
    needed = ("answer", "group", "confidence", "kept")
    lines = read_json_lines(folder / LABELS, mend, needed)
    labels = [PseudoLabel(**{key: value for key, value in line.items() if key != "row"}) for line in lines]
    return labels, float(read_json(folder / CALIBRATION, mend, ["temperature"])["temperature"])


def _guess(plan: Plan, number: int, labeller: Path) -> tuple[list[PseudoLabel], float]:
    task, stage = plan.space.task, plan.stage
    model = plan.model(labeller)
    with plan.reading(model):
        dev = plan.tuned_on_dev(model)
        assert plan.rows.target is not None
        logits = jobs.dev_logits(plan.space, model, plan.rows.target)
    temperature = task.temperature(plan.space.splits.dev.rows, dev)
    share = share_of_round(number, stage.share, stage.growth)
    rule = Rule(stage.select, stage.threshold, share, bool(stage.class_balanced), stage.class_cap, stage.soft_labels)
    return task.guess(logits, temperature, rule), temperature


def _round(plan: Plan, number: int, labels: list[PseudoLabel], start: Path) -> base.StageResult:
    """Train on labelled rows and the kept target rows."""
    folder, fingerprint = plan.folder / f"round-{number}", f"{plan.fingerprint} {number}"
    done = base.finished(folder, fingerprint)
    if done is not None:
        return done
    # Otherwise every round would draw the same batches.
    recipe = plan.space.recipe.model_copy(update={"seed": plan.space.recipe.seed + number})
    space, task = replace(plan.space, recipe=recipe), plan.space.task
    set_seed(recipe.seed)
    model = plan.model(None if plan.stage.restart else start)
    assert plan.rows.target is not None
    target = task.attach(plan.rows.target, labels, plan.stage.target_weight)
    with plan.reading(model):
        methods = _methods(plan, model)
        if not _reads_unlabelled(plan):
            target = target.only([label.kept for label in labels])
        rows = replace(plan.rows, target=target)
        title, objective = f"self_train {number}", TaskObjective(task, methods)
        data, dev = rows.pairs(), base.judged(space, title, plan.train, plan.chosen_by, rows.dev)
        job = Job(space, plan.train, folder, title, objective, data, rows.order, dev, rows.selector)
        facts = jobs.train(job, model)
        plan.tuned_on_dev(model)
    if methods:
        del model.adaptation
    return base.finish(space, folder, fingerprint, model, facts | {"task": task.settings()})


def _reads_unlabelled(plan: Plan) -> bool:
    """Whether rows without a pseudo-label take part; otherwise they would only thin out those that have one."""
    known, named = plan.space.methods, _named(plan)
    return plan.stage.mean_teacher is not None or any(known[part.name].reads_target(part.settings) for part in named)


def _named(plan: Plan) -> list[Part]:
    return plan.space.recipe.methods if plan.stage.adapt else []


def _methods(plan: Plan, model: Any) -> dict[str, Method]:
    space, teacher = plan.space, plan.stage.mean_teacher
    methods = parts.build_methods(_named(plan), unit_sizes(space, model), space.methods)
    if teacher is not None:
        methods["mean_teacher"] = MeanTeacher(model, decay=teacher.decay, ramp=teacher.ramp, weight=teacher.weight)
    return methods


def _told(number: int, rounds: int, summary: dict[str, Any], temperature: float) -> str:
    def shares(which: str) -> str:
        return ", ".join(f"{name} {share:.0%}" for name, share in summary[which].items()) or "none"

    same = summary["agreement"]
    agreed = "" if same is None else f"; {same:.1%} of the answers are those of the last round"
    if number > rounds:
        return f"after the last round: predictions {shares('predicted_shares')}{agreed}."
    left_out = summary["left_out"]
    doubtful = "" if left_out is None else f"; {left_out:.0%} of their words or labels are doubtful and left out"
    return (
        f"round {number} of {rounds}: {summary['kept']} of {summary['rows']} target rows are kept "
        f"({shares('kept_shares')}){doubtful}; predictions {shares('predicted_shares')}; temperature "
        f"{temperature:.2f}{agreed}."
    )


def _collapse(number: int, name: str, share: float, in_source: float) -> str:
    said = f"'{name}' takes {share:.0%} of the predictions on the target, and {in_source:.0%} of the source."
    if number == 1:
        return (
            f"{said} Self-training would only confirm that, so no round is trained and the model of 'finetune' is "
            "kept. Adapt it before (stage 'pretrain', methods), or look at what the target text is."
        )
    model = "the model of 'finetune'" if number == 2 else f"the model of round {number - 2}"
    return (
        f"{said} The model of round {number - 1} has collapsed; the rounds end here and {model} is kept. Lower the "
        "stage's share, class_cap, target_weight or train.learning_rate, or set restart: true."
    )


def _nothing_kept(stage: SelfTrainStage, number: int) -> str:
    what = "row" if stage.select == "threshold" else "row with a word or label above the threshold"
    return (
        f"no target {what} is kept in round {number} (threshold {stage.threshold}): the rounds end here and the last "
        "model is kept. Lower the stage's threshold, or take select: top_share."
    )
