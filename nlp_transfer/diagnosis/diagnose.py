"""The diagnosis of a recipe: every measure that its data and model allow, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import parts
from ..arguments import check_batches
from ..chosen import ORACLE
from ..data.load import Split
from ..errors import RecipeError
from ..hardware import default_device
from ..intervals import Interval
from ..models import load_model, quiet, read_config
from ..preparing.load import load_splits
from ..preparing.splits import Splits
from ..recipe.comparing import SOUP
from ..recipe.defaults import resolve
from ..recipe.schema import ModelSpec, Recipe, TargetData
from ..recipe.stages import FinetuneStage, PretrainStage
from ..recipe.trust import SelectionSpec
from ..reporter import Reporter
from ..strategies import STAGES, other_tokens
from ..workspace import Workspace, open_workspace
from .advice import SOUP_OF, Evidence, advise, comparisons
from .between import NO_TARGET, a_distances, source_distances
from .distance import FEWEST, Mmd, mmd_test
from .features import MAX_ROWS, encoded_first, sample
from .fluency import hidden_one_by_one, masked_log_probabilities, pseudo_perplexity
from .label_shift import LabelShift
from .probe import DEV, TARGET, TRAIN, Probe, label_shift, quality, suitability, take, without_adapter
from .result import Candidate, Diagnosis, Skipped, Texts
from .texts import describe, words_of
from .timing import estimate_times
from .variant import variant
from .vocabulary import Overlap, overlap

SOURCE_ALONE = "the labels of target.train are not looked at: everything here is said of training on the source alone."
NO_ORACLE = "the labels that `selection: oracle` looks at are not looked at here: times are those with source_dev."


def diagnose(
    recipe: Recipe,
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    *,
    models: Sequence[str] = (),
    max_rows: int = MAX_ROWS,
    methods: parts.Known = parts.METHODS,
) -> Diagnosis:
    """Measure, before any training, how far apart the domains are, what the encoder knows and what may help.

    Labels of the target have no part in it: files of ``target.dev`` and ``target.test`` are not even opened, and of
    ``target.train`` only the text is read, if there is no other. The same seed gives the same answer, but for the
    times.

    Args:
        recipe: From :func:`nlp_transfer.load_recipe`.
        data: ``datasets.Dataset`` objects that stand in for files, as :func:`nlp_transfer.run` takes them.
        reporter: Where progress is told; silent by default.
        models: Ids of further models to compare with the recipe's.
        max_rows: Rows of a split that are looked at, drawn by the recipe's seed.
        methods: Classes of the methods that the recipe may name.

    Returns:
        The diagnosis.

    Raises:
        UserError: What a run would stop at before training; or a model of ``models`` cannot be used.
    """
    begun = time.monotonic()
    reporter = Reporter() if reporter is None else reporter
    check_batches(resolve(recipe), methods)
    aside = [SOURCE_ALONE] if recipe.uses_target_labels else []
    aside += [NO_ORACLE] if recipe.selection.name == ORACLE else []
    recipe, data = _without_target_labels(recipe, data)
    splits = load_splits(recipe, data)
    space = replace(_workspace(recipe, splits, reporter), methods=methods)
    samples = _samples(splits, max_rows, recipe.seed)
    names = usable(recipe, methods)
    with without_adapter(space) as bare:
        probe = take(bare, samples)
        perplexity = _perplexity(bare, probe)
        reporter.say("timing a few steps of training")
        with quiet():
            times = estimate_times(bare, samples[TRAIN], samples[DEV], samples.get(TARGET), names)
        candidates = _candidates(bare, probe, samples, models)
    found = Diagnosis(
        name=recipe.name,
        task=recipe.task.name,
        model=space.base.id,
        splits=_described(space, probe, samples),
        a_distance=a_distances(probe, samples, recipe.seed),
        sources=source_distances(probe, samples, [source.name for source in splits.sources], recipe.seed),
        mmd=_mmd(probe, recipe.seed),
        overlap=_overlap(samples),
        perplexity=perplexity,
        classifier=quality(probe),
        label_shift=_label_shift(probe, splits, recipe.seed),
        models=candidates,
        time=times,
        advice=[],
        notes=[*splits.notes, *aside],
    )
    advice = advise(evidence(found, space), names)
    if not any(SOUP in names.split(",") for names in comparisons(advice)):
        found = replace(found, time=[one for one in times if one.strategy != SOUP])
    return replace(found, advice=advice, seconds=round(time.monotonic() - begun, 1))


def usable(recipe: Recipe, methods: parts.Known) -> list[str]:
    """Return the names of the methods and stages that a recipe for this task and this data may have.

    ``soup`` is among them where the models that it was measured with can be had: one that is frozen is no match for
    others, and other tokens have no mean.
    """
    found = [name for name in (*STAGES, *methods) if _fits(recipe, name, methods)]
    moves = parts.TUNINGS[recipe.tuning.name].moves_features
    return [*found, *([SOUP] if moves and {*SOUP_OF} <= {*found} and not other_tokens(recipe, ()) else [])]


def _fits(recipe: Recipe, name: str, methods: parts.Known) -> bool:
    try:
        variant(recipe, name, methods)
    except RecipeError:
        return False
    return True


def evidence(found: Diagnosis, space: Workspace) -> Evidence:
    """Pick from a diagnosis what the rules of :mod:`~nlp_transfer.diagnosis.advice` look at."""
    frozen = not parts.TUNINGS[space.recipe.tuning.name].moves_features
    home, away = found.splits[TRAIN], found.splits.get(TARGET)
    if away is None:
        return Evidence(target_rows=0, frozen=frozen)
    distance, words, surprise = found.unit_distance, found.overlap, found.perplexity
    shift, answers = found.label_shift, found.classifier
    return Evidence(
        target_rows=away.total,
        words=answers.unit == "words",
        target_tokens=away.mean_length * away.total,
        a_distance=None if isinstance(distance, Skipped) else distance.distance,
        unseen_gap=None if isinstance(words, Skipped) else words.unseen - words.unseen_at_home,
        pieces_gap=away.pieces.per_word - home.pieces.per_word,
        perplexity_ratio=None if isinstance(surprise, Skipped) else surprise["target"].value / surprise["source"].value,
        shift=None if isinstance(shift, Skipped) else shift.shift,
        shift_clear=not isinstance(shift, Skipped) and shift.clear,
        weak=answers.accuracy.low <= answers.majority,
        frozen=frozen,
    )


def _without_target_labels(recipe: Recipe, data: dict[str, Any] | None) -> tuple[Recipe, dict[str, Any] | None]:
    """Take the labelled target splits out, so that nothing below can look at them.

    Where ``target.train`` is all the text of the target that there is, its text stays. A recipe that trains on its
    labels becomes one that trains on the source only.
    """
    labelled = ("target.train", "target.dev", "target.test")
    target, given = recipe.data.target, dict(data or {})
    text = target.train if target.unlabelled is None else target.unlabelled
    if target.unlabelled is None and "target.train" in given:
        given.setdefault("target.unlabelled", given["target.train"])
    bare: dict[str, Any] = {"data": recipe.data.model_copy(update={"target": TargetData(unlabelled=text)})}
    if recipe.selection.name == ORACLE:
        bare["selection"] = SelectionSpec()
    if recipe.uses_target_labels:
        finetune = recipe.finetunes[0].model_copy(update={"on": "source", "target_share": None, "adapt": True})
        others = [stage for stage in recipe.stages if not isinstance(stage, FinetuneStage)]
        place = sum(isinstance(stage, PretrainStage) for stage in others)
        # Labels that only the target has, and their weights, are not known without its rows.
        task = recipe.task.model_copy(update={"labels": None, "class_weights": None})
        bare |= {"stages": [*others[:place], finetune, *others[place:]], "task": task}
    kept = {role: rows for role, rows in given.items() if role not in labelled}
    return recipe.model_copy(update=bare), None if data is None else kept


def _workspace(recipe: Recipe, splits: Splits, reporter: Reporter) -> Workspace:
    # The folder is for a run's log, which nothing here writes.
    return open_workspace(recipe, splits, Path(), reporter)


def _whole(splits: Splits, role: str) -> Split:
    found = {TRAIN: splits.train, DEV: splits.dev, TARGET: splits.unlabelled}[role]
    assert found is not None
    return found


def _samples(splits: Splits, most: int, seed: int) -> dict[str, Split]:
    roles = [TRAIN, DEV, *([TARGET] if splits.unlabelled is not None else [])]
    return {role: sample(_whole(splits, role), most, seed) for role in roles}


def _described(space: Workspace, probe: Probe, samples: Mapping[str, Split]) -> dict[str, Texts]:
    longest = space.limits.max_length
    return {
        role: describe(one, len(_whole(space.splits, role)), len(probe.features[role]), space.tokenizer, longest)
        for role, one in samples.items()
    }


def _mmd(probe: Probe, seed: int) -> Mmd | Skipped:
    if TARGET not in probe.features:
        return NO_TARGET
    sides = [probe.features[role].texts_NH for role in (TRAIN, TARGET)]
    if min(map(len, sides)) < FEWEST:
        return Skipped(f"{min(map(len, sides))} texts in one domain; at least {FEWEST} are needed to measure it")
    return mmd_test(sides[0], sides[1], seed=seed)


def _overlap(samples: Mapping[str, Split]) -> Overlap | Skipped:
    if TARGET not in samples:
        return NO_TARGET
    return overlap(words_of(samples[TRAIN]), words_of(samples[DEV]), words_of(samples[TARGET]))


def _label_shift(probe: Probe, splits: Splits, seed: int) -> LabelShift | Skipped:
    if TARGET not in probe.features:
        return NO_TARGET
    fewest = min(len(probe.features[role]) for role in (DEV, TARGET))
    if fewest < FEWEST:
        return Skipped(f"{fewest} texts of source dev or of the target; at least {FEWEST} are needed to measure it")
    return label_shift(probe, splits.train, seed)


def _perplexity(space: Workspace, probe: Probe) -> dict[str, Interval] | Skipped:
    """Measure the pseudo-perplexity of source and target texts, where the checkpoint has a masked-LM head."""
    mask_id = space.tokenizer.mask_token_id
    if mask_id is None:
        return Skipped("the tokenizer has no mask token")
    loaded = load_model("AutoModelForMaskedLM", space.base, read_config(space.base))
    if loaded.fresh_head:
        return Skipped("the checkpoint has no masked-LM head (it was trained for something else)")
    model = loaded.model.to(default_device())
    found = {}
    for role in (TRAIN, TARGET):
        if role in probe.encoded:
            special = frozenset(space.tokenizer.all_special_ids)
            copies, positions_M, tokens_M, texts_M = hidden_one_by_one(
                probe.encoded[role].windows, mask_id, special, space.recipe.seed
            )
            logs_M = masked_log_probabilities(
                model, copies, positions_M, tokens_M, space.tokenizer.pad_token_id, autocast=space.precision.bf16
            )
            found[role.split(".")[0]] = pseudo_perplexity(logs_M, texts_M)
    return found


def _candidates(space: Workspace, own: Probe, samples: Mapping[str, Split], ids: Sequence[str]) -> list[Candidate]:
    """Score the recipe's model and the others, best first, on the same rows; nothing where no others are named."""
    if not ids:
        return []
    data = space.recipe.data.model_copy(update={"max_length": None, "stride": None})
    recipes = {
        model_id: space.recipe.model_copy(update={"model": ModelSpec(id=model_id), "data": data})
        for model_id in dict.fromkeys(ids)
        if model_id != space.recipe.model.id
    }
    others = {model_id: _workspace(recipe, space.splits, space.reporter) for model_id, recipe in recipes.items()}
    same = _read_by_all([space, *others.values()], {role: one for role, one in samples.items() if role != TARGET})
    if any(len(one) < own.encoded[role].rows for role, one in same.items()):
        own = take(space, same)
    found = [replace(suitability(space, own), model=space.recipe.model.id)]
    for model_id, named in others.items():
        with without_adapter(named) as other:
            found.append(replace(suitability(other, take(other, same, model_id)), model=model_id))
    return sorted(found, key=lambda one: -one.logme)


def _read_by_all(spaces: Sequence[Workspace], samples: Mapping[str, Split]) -> dict[str, Split]:
    """Return the first rows of samples that every model has room for: LogME grows with the rows, as evidence does."""
    return {
        role: one.select(
            list(range(min(encoded_first(each.task, one, each.tokenizer, each.limits).rows for each in spaces)))
        )
        for role, one in samples.items()
    }
