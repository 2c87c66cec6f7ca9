"""The stages of a run in their order, and the source-only twin that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from .arguments import optimizer_steps
from .fingerprints import identity, stage_fingerprint
from .guard import TWIN
from .prepare import corpus_role
from .recipe.schema import FinetuneStage, PretrainStage, SelfTrainStage, TrainSpec
from .selecting import ORACLE, SOURCE_DEV
from .stages.base import Before, StageResult, borrow
from .stages.finetune import finetune
from .stages.pretrain import pretrain
from .stages.self_train import self_train
from .vocabulary.extend import extended, shown
from .workspace import Workspace


@dataclass
class Outcome:
    """What the stages of a run left.

    Args:
        stages: Results by name (``pretrain``, ``pretrain-2``, ``finetune``), in the order of running.
        twin: The source-only twin, where the recipe adapts and asks for it.
    """

    stages: dict[str, StageResult] = field(default_factory=dict)
    twin: StageResult | None = None

    @property
    def final(self) -> StageResult:
        """The task model that the last stage left."""
        return list(self.stages.values())[-1]

    def kept(self, role: str) -> StageResult:
        """The result of the model that the run keeps: ``adapted`` or ``source-only``."""
        return self.twin if role == TWIN and self.twin is not None else self.final

    def named(self) -> dict[str, StageResult]:
        """All results by name, the twin's under ``source-only``."""
        return self.stages | ({} if self.twin is None else {TWIN: self.twin})


def train_stages(space: Workspace, folder: Path, fingerprints: dict[str, str]) -> Outcome:
    """Train the source-only twin where the recipe adapts, then the stages in order.

    The twin comes first: what adapts may hold on to it.

    Args:
        space: The workspace.
        folder: The run folder.
        fingerprints: Of the data, by split.
    """
    recipe = space.recipe
    outcome = Outcome()
    before = Before()
    adapted = with_new_tokens(space)
    base = identity(space.base)
    if recipe.adapts and recipe.source_only:
        train = twin_training(adapted)
        alone = [{"name": "finetune", "train": train.model_dump()}, []]
        own = stage_fingerprint(recipe, base, alone, learned_from(fingerprints, False), "")
        borrow(folder / "stages" / TWIN, own, space.reuse)
        outcome.twin = finetune(space, train, folder / "stages" / TWIN, own, before, adapt=False)
        before = replace(before, twin=outcome.twin.model)
    chain = ""
    teaches = any(space.methods[part.name].needs_teacher for part in recipe.methods)
    for number, stage in enumerate(recipe.stages, start=1):
        place = folder / "stages" / f"{number}-{stage.name}"
        methods = [] if isinstance(stage, PretrainStage) else [part.model_dump() for part in recipe.methods]
        settings = [stage.model_dump(), methods]
        chosen_by = SOURCE_DEV if isinstance(stage, PretrainStage) else recipe.selection.name
        if chosen_by != SOURCE_DEV:
            settings.append(recipe.selection.model_dump())
        if teaches and outcome.twin is not None:
            settings.append(outcome.twin.facts["fingerprint"])
        reads_target = bool(methods) or not isinstance(stage, FinetuneStage) or chosen_by != SOURCE_DEV
        corpus = corpus_role(number - 1)
        data = learned_from(fingerprints, reads_target, corpus, oracle=chosen_by == ORACLE)
        chain = stage_fingerprint(recipe, base, settings, data, chain)
        borrow(place, chain, space.reuse)
        name = stage.name if stage.name not in outcome.stages else f"{stage.name}-{number}"
        if isinstance(stage, PretrainStage):
            result = pretrain(adapted, stage, place, chain, before, space.splits.corpora.get(corpus))
            before = replace(before, encoder=result.model)
        elif isinstance(stage, SelfTrainStage):
            result = self_train(adapted, stage, place, chain, before)
        else:
            train = TrainSpec.model_validate(stage.train)
            result = finetune(adapted, train, place, chain, before, adapt=True)
            before = replace(before, model=result.model)
        outcome.stages[name] = result
    return outcome


def twin_training(space: Workspace) -> TrainSpec:
    """Return the training of the source-only twin: that of ``finetune``, as long as all that trains the task.

    A round of self-training takes its length from the source rows, not from what it keeps, so that the twin's length
    is known before anything is trained. Where rounds end early, the twin has trained longer than the adapted model.
    """
    tasks = [stage for stage in space.recipe.stages if not isinstance(stage, PretrainStage)]
    train = TrainSpec.model_validate(tasks[0].train)
    if len(tasks) == 1 and not space.new_tokens:
        return train
    rows = space.task.encode(space.splits.train.rows, space.tokenizer, space.limits, labelled=True).drawn
    steps = optimizer_steps(train, rows)
    for stage in tasks[1:]:
        assert isinstance(stage, SelfTrainStage)
        steps += stage.rounds * optimizer_steps(TrainSpec.model_validate(stage.train), rows)
    return train.model_copy(update={"max_steps": steps})


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


def learned_from(fingerprints: dict[str, str], target: bool, corpus: str = "", oracle: bool = False) -> dict[str, str]:
    """Return the fingerprints of the data that a stage depends on: labelled target rows only under an oracle."""
    names = [
        *(name for name in fingerprints if name.startswith("source.")),
        *(["target.unlabelled"] if target else []),
        *(["target.dev"] if oracle else []),
        corpus,
    ]
    return {name: fingerprints[name] for name in names if name in fingerprints}
