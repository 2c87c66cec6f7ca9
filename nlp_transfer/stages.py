"""The stages of a run: settings and an input model become a folder with an output model.

A stage's folder holds checkpoints while it runs, and ``model/`` and ``done.json`` when it is finished. Finished stages
are skipped, unfinished ones resume from their newest complete checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers.trainer_utils import set_seed

from . import jobs, models, parts
from .caching import as_cached_rows, cached_encoder, hidden_states
from .checkpoints import discard_others, write_text
from .data.masking import MaskedBlocks, pack
from .data.pairs import PairedDomains
from .data.windows import Window
from .errors import ModelError
from .hardware import default_device, is_main_process
from .jobs import Job
from .objectives import MaskedLMObjective, TaskObjective
from .prepare import Splits
from .processes import wait_for_all
from .recipe.schema import PretrainStage, TrainSpec
from .tasks.base import Encoded
from .units import Sizes
from .workspace import Workspace

DONE = "done.json"
FRESH_HEAD_STEPS = 200
DEFAULT_BLOCK = 128


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


def finished(folder: Path, fingerprint: str) -> StageResult | None:
    """Return the result of a stage that is already done with these very settings, else None."""
    path = folder / DONE
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf8"))
    return StageResult(folder, facts) if facts.get("fingerprint") == fingerprint else None


def pretrain(space: Workspace, stage: PretrainStage, folder: Path, fingerprint: str) -> StageResult:
    """Continue masked-LM training of the encoder on unlabelled text.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.

    Returns:
        The result; ``model/`` is a masked-LM checkpoint (or adapter) whose encoder the next stage adopts.
    """
    done = finished(folder, fingerprint)
    if done is not None:
        return done
    _begin(space, folder, fingerprint)
    train = TrainSpec.model_validate(stage.train)
    texts = _texts(space.splits, stage.text)
    if space.tokenizer.mask_token_id is None:
        raise ModelError(f"model '{space.base.id}': its tokenizer has no mask token, which stage 'pretrain' needs.")
    set_seed(space.recipe.seed)
    config = models.read_config(space.base, **dropouts(train, models.read_config(space.base)))
    loaded = models.load_model("AutoModelForMaskedLM", space.base, config)
    fresh_head = any(not name.startswith(models.encoder_prefix(loaded.model)) for name in loaded.fresh)
    block = min(DEFAULT_BLOCK, space.limits.max_length) if stage.block_length is None else stage.block_length
    blocks = pack(space.tokenizer, texts, block, stage.whole_words)
    data = MaskedBlocks(blocks, stage.mask_rate, space.tokenizer.mask_token_id, len(space.tokenizer), space.recipe.seed)
    space.reporter.say(f"pretrain: {len(texts)} texts packed into {len(blocks)} blocks of up to {block} tokens.")
    tuned = parts.build_tuning(space.recipe.tuning).apply(loaded, None)
    head_steps = (FRESH_HEAD_STEPS if fresh_head else 0) if stage.head_steps is None else stage.head_steps
    if head_steps and not jobs.moving_outside_encoder(tuned):
        raise ModelError(
            f"stage 'pretrain': head_steps is {head_steps}, but tuning '{space.recipe.tuning.name}' leaves the "
            "masked-LM head of this checkpoint as it is. Set head_steps: 0, or leave it out."
        )
    lengths = [len(item.input_ids) for item in blocks]
    with MaskedLMObjective(tuned) as objective:
        job = Job(space, train, folder, "pretrain", objective, data, lengths)
        if head_steps:
            which = "the checkpoint has no masked-LM head: a fresh one" if fresh_head else "the masked-LM head"
            why = " (a random head would damage the encoder)" if fresh_head else ""
            space.reporter.say(f"pretrain: {which} is fitted for {head_steps} steps, encoder frozen, first{why}.")
            jobs.fit_head(job, tuned, head_steps)
        facts = jobs.train(job, tuned)
    facts |= {"blocks": len(blocks), "block_length": block, "head_steps": head_steps, "fresh_head": fresh_head}
    return _finish(space, folder, fingerprint, tuned, facts)


def finetune(
    space: Workspace, train: TrainSpec, folder: Path, fingerprint: str, *, encoder: Path | None, adapt: bool
) -> StageResult:
    """Train the task on source rows.

    Args:
        space: The run's workspace.
        train: Training settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        encoder: Output model of a pretrain stage, or None to start from the base model.
        adapt: Use the recipe's methods. The source-only twin does not.

    Returns:
        The result; ``model/`` loads with plain ``transformers`` or ``peft``.
    """
    done = finished(folder, fingerprint)
    if done is not None:
        return done
    _begin(space, folder, fingerprint)
    recipe, task = space.recipe, space.task
    title = "finetune" if adapt else "source-only"
    set_seed(recipe.seed)
    loaded = models.load_model(task.auto_class, space.base, task_config(space, train))
    if models.label_names(space.base) not in (None, task.labels):
        space.reporter.say(f"{title}: the model's head is for other labels; it starts anew.")
        loaded = models.renew_head(loaded)
    tuning = parts.build_tuning(recipe.tuning)
    model = tuning.apply(loaded, task.peft_type)
    if encoder is not None:
        adopt_encoder(model, encoder)
    task.mean_pooling = models.pools_by_mean(model.config)
    sizes = Sizes(hidden=model.config.hidden_size, labels=len(task.labels))
    methods = parts.build_methods(recipe.methods, sizes, space.methods) if adapt else {}
    source = task.encode(space.splits.train.rows, space.tokenizer, space.limits, labelled=True)
    dev = task.encode(space.splits.dev.rows, space.tokenizer, space.limits, labelled=False)
    _say_long_rows(space, title, source)
    target = None
    if methods and space.splits.unlabelled is not None:
        target = task.encode(space.splits.unlabelled.rows, space.tokenizer, space.limits, labelled=False)
    with contextlib.ExitStack() as stack:
        if not tuning.moves_features:
            source, dev = stack.enter_context(_cached(space, model, source, dev))
        data = PairedDomains(source.features, None if target is None else target.features)
        job = Job(
            space,
            train,
            folder,
            title,
            TaskObjective(task, methods),
            data,
            [len(row["input_ids"]) for row in source.features],
            None if target is None else target.lengths,
            dev,
        )
        facts = jobs.train(job, model)
        task.tune(space.splits.dev.rows, jobs.dev_logits(space, model, dev))
    if methods:
        del model.adaptation
    facts |= {"source_rows": source.rows, "long_rows": source.long_rows, "task": task.settings()}
    return _finish(space, folder, fingerprint, model, facts)


def _say_long_rows(space: Workspace, title: str, source: Encoded) -> None:
    if source.long_rows:
        fate = "cut off there (data.long_texts)" if space.limits.truncate else "read in overlapping windows"
        space.reporter.say(
            f"{title}: {source.long_rows} of {source.rows} source texts are longer than {space.limits.max_length} "
            f"tokens: {fate}."
        )


def task_config(space: Workspace, train: TrainSpec) -> Any:
    """Return the model configuration for the task: label names, problem type, dropout."""
    task = space.task
    changes: dict[str, Any] = {
        "num_labels": len(task.labels),
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }
    if task.problem_type is not None:
        changes["problem_type"] = task.problem_type
    return models.read_config(space.base, **changes, **dropouts(train, models.read_config(space.base)))


def dropouts(train: TrainSpec, config: Any) -> dict[str, float]:
    """Return the configuration values that set dropout, by the names the architecture uses."""
    wanted = (
        (train.dropout, ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout")),
        (train.attention_dropout, ("attention_probs_dropout_prob", "attention_dropout")),
    )
    return {key: rate for rate, keys in wanted if rate is not None for key in keys if hasattr(config, key)}


def adopt_encoder(model: Any, folder: Path) -> None:
    """Give a model the encoder (or the adapters) that a pretrain stage has trained.

    The rest of the model stays as its base checkpoint has it: a masked-LM checkpoint holds no pooler, and reading the
    whole model from it would replace a trained pooler by a random one.

    Args:
        model: A model with a task head, after tuning.
        folder: Output model of the stage.

    Raises:
        ModelError: The folder's weights do not belong to this encoder.
    """
    adapter = (folder / "adapter_config.json").is_file()
    weights = load_file(folder / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    if adapter:
        own = {_saved_name(name): parameter for name, parameter in model.named_parameters() if "lora_" in name}
        wanted = {key: value for key, value in weights.items() if "lora_" in key}
    else:
        prefix = models.encoder_prefix(model)
        own = {name: parameter for name, parameter in model.named_parameters() if name.startswith(prefix)}
        wanted = {key: value for key, value in weights.items() if key.startswith(prefix)}
    missing = [name for name in own if name not in wanted and ".pooler." not in name]
    if missing or not wanted:
        raise ModelError(f"{folder} does not hold the weights of this encoder: {missing[:3]} …")
    with torch.no_grad():
        for key, value in wanted.items():
            if key in own:
                own[key].copy_(value)


def _saved_name(name: str) -> str:
    """Return the key under which PEFT saves a parameter: without the adapter's name (DoRA's also without `.weight`)."""
    magnitude = "lora_magnitude_vector" in name
    return name.replace(".default.weight" if magnitude else ".default", "")


@contextlib.contextmanager
def _cached(space: Workspace, model: Any, source: Encoded, dev: Encoded) -> Any:
    windows = source.windows + dev.windows
    model.to(default_device())
    with space.reporter.bar("frozen features", len(windows)) as advance:
        states = hidden_states(
            model, windows, space.tokenizer.pad_token_id, space.recipe.evaluate.batch_tokens, advance
        )
    first = len(source.windows)
    cached_dev = [
        Window(w.row, [first + number] * len(states[first + number]), w.weight, w.positions, w.words)
        for number, w in enumerate(dev.windows)
    ]
    with cached_encoder(model, states):
        yield (
            Encoded(source.windows, source.rows, as_cached_rows(source.features)),
            Encoded(cached_dev, dev.rows, []),
        )


def _texts(splits: Splits, wanted: str) -> list[str]:
    texts = [] if wanted == "target" else list(splits.train.rows["text"])
    if wanted != "source":
        assert splits.unlabelled is not None
        texts += list(splits.unlabelled.rows["text"])
    return texts


def _begin(space: Workspace, folder: Path, fingerprint: str) -> None:
    """Drop the checkpoints of other data or settings: resuming from them would mix the two."""
    if is_main_process() and discard_others(folder, fingerprint):
        space.reporter.warn(f"{folder}: data or settings are not those that it was begun with; it begins anew.")
    wait_for_all()


def _finish(space: Workspace, folder: Path, fingerprint: str, model: Any, facts: dict[str, Any]) -> StageResult:
    """Write the model, then ``done.json``; drop the checkpoints, which only a stopped stage needs."""
    facts = {"fingerprint": fingerprint} | facts
    if is_main_process():
        part = folder / "model.part"
        shutil.rmtree(part, ignore_errors=True)
        save_model(model, space, part)
        shutil.rmtree(folder / "model", ignore_errors=True)
        part.rename(folder / "model")
        write_text(folder / DONE, json.dumps(facts, indent=2) + "\n")
        for path in folder.glob("*checkpoint-*"):
            shutil.rmtree(path)
    wait_for_all()
    return StageResult(folder, facts)


def _base_name(base: models.ResolvedModel) -> str:
    """Return the hub id of the base, or its folder so that it is found from everywhere on this machine."""
    local = Path(base.id).expanduser().is_dir()
    return str(base.folder.resolve()) if local else base.id


def save_model(model: Any, space: Workspace, folder: Path) -> None:
    """Write a model as plain Hugging Face or PEFT files, with label names and the base model's true id."""
    with models.quiet():
        config = model.config
        if hasattr(model, "peft_config"):
            for peft in model.peft_config.values():
                peft.base_model_name_or_path = _base_name(space.base)
                peft.revision = space.base.revision
            # Otherwise PEFT asks the hub, without a deadline, whether the vocabulary has grown.
            model.save_pretrained(folder, save_embedding_layers=False)
            config.save_pretrained(folder)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            model.save_pretrained(folder)
        space.tokenizer.save_pretrained(folder)
