"""What a finished run has left in its folder, read for its report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data.canonical import Kind
from ..errors import RecipeError, RunError
from ..guard import ADAPTED, TWIN
from ..parts import row_kind
from ..predictions import file_of, read_answers
from ..recipe import load
from ..recipe.schema import Recipe
from ..records import LOG, read_json, read_json_lines, rerun, warnings_in
from ..verdict import JUDGES

DOMAINS = "domains.json"


@dataclass(frozen=True)
class Record:
    """A finished run.

    Args:
        folder: The run folder.
        recipe: Its resolved recipe.
        metrics: Content of ``metrics.json``.
        environment: Content of ``environment.json``.
        stages: Facts of the stages, in the order of running; the twin's come last.
        log: Lines of ``log.jsonl``.
        domains: Content of ``domains.json``, None where the run has not written any.
    """

    folder: Path
    recipe: Recipe
    metrics: dict[str, Any]
    environment: dict[str, Any]
    stages: list[dict[str, Any]]
    log: list[dict[str, Any]]
    domains: dict[str, Any] | None

    @property
    def roles(self) -> list[str]:
        """The models that were scored: the source-only one first, where there is one."""
        return [role for role in (TWIN, ADAPTED) if role in self.metrics["scores"]]

    @property
    def own(self) -> str:
        """The model that the recipe is about."""
        return self.roles[-1]

    @property
    def has_twin(self) -> bool:
        """Whether an adapted model and its source-only twin can be compared."""
        return len(self.roles) == 2

    @property
    def judge(self) -> str | None:
        """The labelled target split that the verdict is read off, None where there is none."""
        return next((name for name in JUDGES if name in self.metrics["scores"][self.own]), None)

    @property
    def kind(self) -> Kind:
        """What the task labels."""
        return row_kind(self.recipe.task)

    @cached_property
    def answers(self) -> dict[str, list[dict[str, Any]]]:
        """Scored rows of the split that is looked at closely (the judge's, else source dev) by model."""
        return {role: read_answers(self.folder, role, self.looked_at) for role in self.roles}

    @property
    def warnings(self) -> list[str]:
        """What methods have warned of in training: that of this run, and of the models that it averages."""
        averaged = [warning for stage in self.stages for warning in stage.get("warnings", [])]
        return [*warnings_in(self.log), *averaged]

    @property
    def looked_at(self) -> str:
        """The split that scores by class and length, confusions and examples are taken from."""
        return self.judge or "source.dev"


def read_record(folder: Path) -> Record:
    """Read a run folder.

    Raises:
        RunError: There is no finished run in the folder, or a file of it is missing or damaged.
    """
    try:
        recipe, problems = load(folder / "recipe.yaml")
        if recipe is None:
            raise RecipeError(problems)
        record = Record(
            folder,
            recipe,
            read_json(folder / "metrics.json", rerun(folder), ["scores", "kept"]),
            read_json(folder / "environment.json", rerun(folder), ["data"]),
            read_json_lines(folder / "stages.jsonl", rerun(folder), ["stage"]),
            read_log(folder),
            read_domains(folder),
        )
        missing = [role for role in record.roles if not file_of(folder, role, record.looked_at).is_file()]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RunError(f"'{folder}' holds no finished run that can be reported on: {error}") from error
    if missing:
        raise RunError(f"'{folder}' lacks predictions/{missing[0]}.{record.looked_at}.jsonl. Run its recipe again.")
    return record


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the log of a run; none where nothing was trained.

    Raises:
        RunError: A line is damaged.
    """
    path = folder / LOG
    return read_json_lines(path, rerun(folder)) if path.is_file() else []


def read_domains(folder: Path) -> Any:
    """Return the content of ``domains.json``, None where the run has not written any."""
    path = folder / DOMAINS
    return read_json(path, rerun(folder)) if path.is_file() else None
