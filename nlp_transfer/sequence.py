"""The stages of a run in their order, and the twin without adaptation that they are compared with."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .arguments import optimizer_steps
from .chosen import ORACLE, SOURCE_DEV
from .fingerprints import identity, stage_fingerprint
from .guard import ADAPTED, TWIN
from .parts import METHODS, settings_model
from .preparing.splits import corpus_role
from .recipe.schema import Part, TrainSpec, teachers_of
from .recipe.stages import AnyStage, FinetuneStage, PretrainStage, SelfTrainStage, SoupStage
from .stages.base import Before, StageResult, borrow, recorded
from .stages.finetune import finetune
from .stages.model import alike
from .stages.pretrain import pretrain
from .stages.rows import labelled_rows
from .stages.self_train import self_train
from .stages.soup import soup
from .vocabulary.extend import extended, shown
from .workspace import Workspace

LEFT_OUT: dict[type, Any] = {
    FinetuneStage: {"adapt"},
    PretrainStage: {"corpus": {"rows", "streaming"}},
    SoupStage: {"models", "twins", "adapt"},
}
"""Settings that a stage's result does not follow from, or that other fingerprints hold: of methods, texts, models."""


@dataclass
class Outcome:
    """What the stages of a run left.

    Args:
        stages: Results by name (``pretrain``, ``pretrain-2``, ``finetune``), in the order of running.
        twins: What the ``finetune`` stages of the twin left, by name (``source-only``, ``source-only-2``), where the
            recipe adapts and asks for a twin.
    """

    stages: dict[str, StageResult] = field(default_factory=dict)
    twins: dict[str, StageResult] = field(default_factory=dict)

    @property
    def final(self) -> StageResult:
        """The task model that the last stage left."""
        return list(self.stages.values())[-1]

    @property
    def twin(self) -> StageResult | None:
        """The twin, where there is one."""
        return list(self.twins.values())[-1] if self.twins else None

    def kept(self, role: str) -> StageResult:
        """The result of the model that the run keeps: ``adapted`` or ``source-only``."""
        return self.twin if role == TWIN and self.twin is not None else self.final

    def named(self) -> dict[str, StageResult]:
        """All results by name."""
        return self.stages | self.twins

    @property
    def steps(self) -> dict[str, int]:
        """Optimizer steps of the task, by model; those of ``pretrain`` are no training of the task.

        As many for both, unless a score has stopped one of them early, or rounds of self-training have ended early.
        """
        trained = {name: result for name, result in self.stages.items() if not name.startswith("pretrain")}
        models = {ADAPTED: trained, TWIN: self.twins}
        return {role: sum(one.facts.get("steps", 0) for one in results.values()) for role, results in models.items()}


def train_stages(space: Workspace, folder: Path, fingerprints: dict[str, str]) -> Outcome:
    """Train the twin where the recipe adapts, then the stages in order.

    The twin comes first: what adapts may hold on to it. It goes through the same ``finetune`` stages, without methods,
    and is averaged with models of its own where the recipe's soup names some.

    Args:
        space: The workspace.
        folder: The run folder.
        fingerprints: Of the data, by split.
    """
    recipe = space.recipe
    outcome = Outcome()
    adapted = with_new_tokens(space)
    # A model that does not go with the others is better known before anything is trained.
    teachers = [identity(alike(adapted, place)) for part in recipe.methods for place in teachers_of(part)]
    last = recipe.stages[-1]
    models, twins = (last.models, last.twins or []) if isinstance(last, SoupStage) else ([], [])
    mixed = [identity(alike(adapted, place)) for place in models]
    twins_mixed = [identity(alike(space, place)) for place in twins]
    base = identity(space.base)
    if recipe.adapts and recipe.source_only:
        outcome.twins = _train_twin(space, twin_stages(adapted), folder, fingerprints, base, twins_mixed)
    before, chain, each_twin = Before(), "", iter(outcome.twins.values())
    teaches = any(space.methods[part.name].needs_teacher for part in recipe.methods)
    for number, stage in enumerate(recipe.stages, start=1):
        place = folder / "stages" / f"{number}-{stage.name}"
        name = stage.name if stage.name not in outcome.stages else f"{stage.name}-{number}"
        if isinstance(stage, FinetuneStage):
            twin = next(each_twin, None)
            before = replace(before, twin=None if twin is None else twin.model)
        corpus = corpus_role(number - 1)
        settings, data = _depends_on(space, stage, fingerprints, corpus)
        if teaches and settings[1] and before.twin is not None:
            settings.append(recorded(before.twin)["fingerprint"])
        if teachers and settings[1]:
            settings.append(teachers)
        if isinstance(stage, SoupStage):
            settings.append(mixed)
        chain = stage_fingerprint(recipe, base, settings, data, chain)
        # From the twin, too: a stage that does not adapt, and comes after none that does, is the twin's.
        title = stage.name if isinstance(stage, PretrainStage) else name  # what it logs as
        borrow(place, chain, [folder, *space.reuse], space.log, title)
        if isinstance(stage, PretrainStage):
            result = pretrain(adapted, stage, place, chain, before, space.splits.corpora.get(corpus))
            before = replace(before, encoder=result.model)
        elif isinstance(stage, SelfTrainStage):
            result = self_train(adapted, stage, place, chain, before)
            before = replace(before, model=result.model)
        elif isinstance(stage, SoupStage):
            result = soup(adapted, stage.models, place, chain, before)
        else:
            result = finetune(adapted, stage, place, chain, before, title=name)
            before = replace(before, model=result.model, start=before.model)
        outcome.stages[name] = result
    return outcome


def _settings(space: Workspace, part: Part) -> dict[str, Any]:
    """Return a method's settings with its defaults: another version may have others."""
    method: Any = space.methods[part.name]
    return {"name": part.name, **settings_model(method).model_validate(part.settings).model_dump()}


def _own_code(space: Workspace, part: Part) -> dict[str, str]:
    """Return the source of a method that does not come with the package: edited, it is another one."""
    method = space.methods[part.name]
    if method is METHODS.get(part.name):
        return {}
    try:
        return {"code": inspect.getsource(method)}
    except (OSError, TypeError):  # typed into an interpreter
        return {}


def twin_name(number: int) -> str:
    """Return what a stage of the twin is called: ``source-only``, ``source-only-2``, ….

    Args:
        number: Which one, from 1.
    """
    return TWIN if number == 1 else f"{TWIN}-{number}"


def _train_twin(
    space: Workspace,
    stages: Sequence[FinetuneStage],
    folder: Path,
    fingerprints: dict[str, str],
    base: str,
    mixed: Sequence[str],
) -> dict[str, StageResult]:
    """Train the stages of the twin, each on top of the one before; where the soup names twins, average it with them."""
    results: dict[str, StageResult] = {}
    before, chain = Before(), ""
    last = space.recipe.stages[-1]
    each: list[FinetuneStage | SoupStage] = [*stages, *([last] if mixed and isinstance(last, SoupStage) else [])]
    for number, stage in enumerate(each, start=1):
        name = twin_name(number)
        place = folder / "stages" / name
        settings, data = _depends_on(space, stage, fingerprints, twin=True)
        if isinstance(stage, SoupStage):
            settings.append(mixed)
        chain = stage_fingerprint(space.recipe, base, settings, data, chain)
        borrow(place, chain, space.reuse, space.log, name)
        if isinstance(stage, SoupStage):
            results[name] = soup(space, stage.twins or [], place, chain, before)
        else:
            results[name] = finetune(space, stage, place, chain, before, title=name, twin=True)
        before = replace(before, model=results[name].model)
    return results


def twin_stages(space: Workspace) -> list[FinetuneStage]:
    """Return the stages of the twin: the recipe's ``finetune`` stages, the last as long as all that comes after it.

    A round of self-training takes its length from the labelled rows, not from what it keeps, so that the twin's length
    is known before anything is trained. Where rounds end early, the twin has trained longer than the adapted model.
    """
    stages = space.recipe.finetunes
    rounds = [stage for stage in space.recipe.stages if isinstance(stage, SelfTrainStage)]
    found = []
    for stage in stages:
        after = rounds if stage is stages[-1] else []
        if after or space.new_tokens:
            train, rows = TrainSpec.model_validate(stage.train), labelled_rows(space, stage).drawn
            steps = optimizer_steps(train, rows) + sum(
                one.rounds * optimizer_steps(TrainSpec.model_validate(one.train), rows) for one in after
            )
            stage = stage.model_copy(update={"train": train.model_copy(update={"max_steps": steps}).model_dump()})
        found.append(stage)
    return found


def _depends_on(
    space: Workspace, stage: AnyStage, fingerprints: dict[str, str], corpus: str = "", twin: bool = False
) -> tuple[list[Any], dict[str, str]]:
    """Return the settings and the fingerprints of the data that a stage's result follows from.

    Labelled target rows count only for a stage that trains on them, or under an oracle.
    """
    recipe = space.recipe
    adapts = not twin and isinstance(stage, FinetuneStage | SelfTrainStage) and stage.adapt
    settings: list[Any] = [
        stage.model_dump(exclude=LEFT_OUT.get(type(stage))),
        [_settings(space, part) | _own_code(space, part) for part in recipe.methods] if adapts else [],
    ]
    selects = not twin and isinstance(stage, FinetuneStage | SelfTrainStage)
    selection = recipe.selection.name if selects else SOURCE_DEV
    settings += [] if selection == SOURCE_DEV else [recipe.selection.model_dump()]
    settings += [] if isinstance(stage, PretrainStage) else [space.task.labels]
    shares = recipe.data.source_shares
    settings += (
        [] if shares is None or isinstance(stage, PretrainStage) else [{"source_shares": sorted(shares.items())}]
    )
    reads_target = bool(settings[1]) or isinstance(stage, PretrainStage | SelfTrainStage) or selection != SOURCE_DEV
    names = [
        *(name for name in fingerprints if name.startswith("source.")),
        *(["target.unlabelled"] if reads_target else []),
        *(["target.train"] if isinstance(stage, FinetuneStage) and stage.on != "source" else []),
        *(["target.dev"] if selection == ORACLE else []),
        corpus,
    ]
    return settings, {name: fingerprints[name] for name in names if name in fingerprints}


def with_new_tokens(space: Workspace) -> Workspace:
    """Return the workspace with tokens for the target in the tokenizer, where the recipe asks for them."""
    wanted = space.recipe.model.extend_vocabulary
    if wanted is None:
        return space
    assert space.splits.unlabelled is not None
    tokenizer, new = extended(space.tokenizer, space.splits.unlabelled.rows["text"], wanted.tokens)
    which = f": {shown(tokenizer, new)}" if new else ", as the vocabulary holds every word that occurs twice"
    space.reporter.say(f"vocabulary: {len(new)} new tokens for the target{which}")
    return replace(space, tokenizer=tokenizer, new_tokens=new)
