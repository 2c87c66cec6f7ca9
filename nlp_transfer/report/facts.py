"""Everything that the report of a run tells, gathered from its record; nothing here knows how it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..calibration import Reliability
from ..conclusions import in_one_sentence, kept_model, label_notes
from ..data.canonical import Kind
from ..intervals import Interval
from ..recipe import dump
from ..recipe.schema import Part, Recipe
from .confusion import Confusion, confusion
from .curves import Training, trainings
from .domains import Domains
from .examples import Changes, changes
from .record import Record
from .slices import Level, Slice, by_class, by_length

_NUMBER = re.compile(r"-\d+$")
"""What tells several stages of one name apart."""


@dataclass(frozen=True)
class Calibration:
    """How far a model's confidence can be believed.

    Args:
        temperature: Fitted on source dev.
        plain: Confidence as it is, on the split that is looked at.
        scaled: The same under the temperature.
    """

    temperature: float
    plain: Reliability
    scaled: Reliability


@dataclass(frozen=True)
class Data:
    """One split.

    Args:
        name: Its role in the recipe.
        rows: Number of rows; None where the record does not tell.
        fingerprint: sha256 of the rows.
    """

    name: str
    rows: int | None
    fingerprint: str


@dataclass(frozen=True)
class RunFacts:
    """What the report of a run tells.

    Args:
        name: Name of the run.
        kind: What the task labels: ``classification``, ``multi_label`` or ``ner``.
        setup: What was done, by heading: task, model, tuning, methods, stages, selection, seed.
        verdict: ``helped``, ``hurt``, ``no evidence``; empty where nothing can be judged.
        sentence: The verdict in a sentence.
        oracle: What target labels were used for but the scores: to select, or to be trained on; empty elsewhere.
        kept_because: Which model is kept and why; empty without adaptation.
        headline: Name of the score.
        level: Of all intervals.
        selection: What selected the checkpoint.
        kept: The model that the run keeps.
        scores: Scores of each split.
        looked_at: The split that everything below but domains and curves is about.
        classes: F1 of each class.
        lengths: Scores of texts by length.
        confusions: By model, which class is taken for which; empty for several labels a text.
        changes: Rows that the two models read differently, on a labelled target split; None without one, or without two
            models.
        calibrations: By model; empty where there is nothing to calibrate.
        domains: Source and target in the eyes of the models; None without target text.
        trainings: Learning curves of the stages.
        selected: By stage, the step whose checkpoint was selected.
        untold: Trained stages that the log does not hold, as another run has trained them.
        data: The splits.
        notes: What was noticed when they were read.
        made: When, where and with what the run was made, by heading.
        costs: By stage, optimizer steps and seconds.
        recipe: The resolved recipe as YAML.
    """

    name: str
    kind: Kind
    setup: dict[str, str]
    verdict: str
    sentence: str
    oracle: str
    kept_because: str
    headline: str
    level: Level
    selection: str
    kept: str
    scores: list[Slice]
    looked_at: str
    classes: list[Slice]
    lengths: list[Slice]
    confusions: dict[str, Confusion]
    changes: Changes | None
    calibrations: dict[str, Calibration]
    domains: Domains | None
    trainings: list[Training]
    selected: dict[str, int]
    untold: list[str]
    data: list[Data]
    notes: list[str]
    made: dict[str, str]
    costs: dict[str, tuple[int, float]]
    recipe: str


def gather(record: Record) -> RunFacts:
    """Gather what the report of a run tells.

    Args:
        record: The run's record.
    """
    metrics, recipe = record.metrics, record.recipe
    level = Level(recipe.evaluate.confidence, recipe.evaluate.resamples)
    curves = trainings(record.log, metrics["headline"], [stage.name for stage in recipe.stages])
    logged = {one.stage for one in curves}
    verdict = metrics.get("verdict", {})
    tables = {role: confusion(rows, record.kind) for role, rows in record.answers.items()}
    return RunFacts(
        name=recipe.name,
        kind=record.kind,
        setup=setup_of(recipe, metrics["selection"]),
        verdict=verdict.get("verdict", ""),
        sentence=in_one_sentence(metrics),
        oracle=" ".join(label_notes(metrics)),
        kept_because=" ".join(kept_model(metrics)),
        headline=metrics["headline"],
        level=level,
        selection=metrics["selection"],
        kept=metrics["kept"],
        scores=_scores(record),
        looked_at=record.looked_at,
        classes=by_class(record.answers, record.kind, level),
        lengths=by_length(record.answers, record.kind, level),
        confusions={role: table for role, table in tables.items() if table is not None},
        changes=_changes(record),
        calibrations=_calibrations(record),
        domains=None if record.domains is None else Domains.from_dict(record.domains),
        trainings=curves,
        selected={one["stage"]: one["selected_step"] for one in record.stages if "selected_step" in one},
        untold=[one["stage"] for one in record.stages if one["steps"] and _NUMBER.sub("", one["stage"]) not in logged],
        data=_data(record.environment),
        notes=[*record.environment.get("notes", []), *record.warnings],
        made=made_with(record.environment),
        costs={one["stage"]: (one["steps"], one["seconds"]) for one in record.stages},
        recipe=dump(recipe.model_copy(update={"output": None})),
    )


def setup_of(recipe: Recipe, selection: str) -> dict[str, str]:
    """Return what a recipe does, by heading."""
    several = " (any number of labels)" if recipe.task.multi_label else ""
    return {
        "Task": f"{recipe.task.name}{several}",
        "Model": model_name(recipe),
        "Tuning": _part(recipe.tuning),
        "Methods": "; ".join(map(_part, recipe.methods)) or "none",
        "Stages": " → ".join(stage.name for stage in recipe.stages),
        "Checkpoint selected on": selection,
        "Seed": str(recipe.seed),
    }


def model_name(recipe: Recipe) -> str:
    """Return the base model; of a local folder the last name only."""
    path = Path(recipe.model.id).expanduser()
    return path.name if path.is_dir() else recipe.model.id


def made_with(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return when, where and with what a run was made, by heading; no names of files or users."""
    hardware = environment["hardware"]
    machine = [hardware["processor"], f"{hardware['cores']} cores", *hardware["gpus"]]
    made = {
        "Begun": environment["started"],
        "Machine": ", ".join(str(part) for part in machine if part),
        "Processes": str(hardware["processes"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
    }
    return made | ({"Commit of nlp_transfer": environment["commit"]} if environment.get("commit") else {})


def _part(part: Part) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in part.settings.items())
    return f"{part.name} ({settings})" if settings else part.name


def _scores(record: Record) -> list[Slice]:
    scores, gain, rows = record.metrics["scores"], record.metrics.get("gain"), record.environment.get("rows", {})
    return [
        Slice(
            split,
            rows.get(split),
            {role: Interval(**scores[role][split]["interval"]) for role in record.roles},
            None if gain is None else Interval(**gain[split]),
        )
        for split in scores[record.own]
    ]


def _changes(record: Record) -> Changes | None:
    if not record.has_twin or record.judge is None:
        return None
    before, after = (record.answers[role] for role in record.roles)
    return changes(before, after, record.kind, record.roles)


def _calibrations(record: Record) -> dict[str, Calibration]:
    found = {}
    for role in record.roles:
        own = record.metrics.get("calibration", {}).get(role)
        if own is not None:
            sides = (Reliability.from_dict(own["splits"][record.looked_at][kind]) for kind in ("plain", "scaled"))
            found[role] = Calibration(own["temperature"], *sides)
    return found


def _data(environment: Mapping[str, Any]) -> list[Data]:
    rows = environment.get("rows", {})
    return [Data(name, rows.get(name), fingerprint) for name, fingerprint in environment["data"].items()]
