"""One trainer for all tasks, tunings and methods: a thin subclass of ``transformers.Trainer``.

``trainer.model`` stays a plain Hugging Face or PEFT model, so that checkpoints, DDP, mixed precision and loggers work
as everywhere. Adaptation methods hang on it as the submodule ``adaptation``; their weights go into a side file.

Private methods of the Trainer that are overridden, each with a test that fails when the library changes:
``_get_train_sampler`` (our order of rows), ``_save``, ``_load_from_checkpoint`` and ``_load_best_model`` (the side
files).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from .averaging import WeightAverage
from .callbacks import Bar, LogFile
from .data.batching import PairCollator
from .data.pairs import EpochSampler
from .errors import TrainingError
from .models import encoder_layers, encoder_of
from .objectives import Objective, mean_units
from .units import Step

SIDE_FILE = "_adaptation.safetensors"


class _EpochOrder(transformers.TrainerCallback):
    """Tell the sampler its epoch; the stock forwarding does not reach it when a resumed run skips batches under DDP."""

    def __init__(self, sampler: EpochSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.set_epoch(int(state.epoch + 1e-6))


class _Averaging(transformers.TrainerCallback):
    """Let the average see the weights after each step, before they are scored or saved."""

    def __init__(self, average: WeightAverage):
        self.average = average

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.average.update(model, state.global_step, state.max_steps)


class TransferTrainer(transformers.Trainer):
    """Train a model on an objective.

    Args:
        model: A plain Hugging Face or PEFT model, after tuning.
        args: From :func:`training_arguments`.
        objective: What is minimised.
        train_dataset: A :class:`~nlp_transfer.data.pairs.PairedDomains` or another dataset indexed by ``Pick``.
        sampler: The order of the rows.
        pad_id: Id of the padding token.
        tokenizer: Saved with every checkpoint.
        score_dev: Returns the scores of source dev for the current model; None without evaluation.
        rates: Learning-rate settings: ``head``, ``layer_decay``.
        average: Average of the weights that is scored on source dev and that the model ends with, or None.
        callbacks: Further callbacks.
    """

    def __init__(
        self,
        model: Any,
        args: transformers.TrainingArguments,
        objective: Objective,
        train_dataset: Any,
        sampler: EpochSampler,
        *,
        pad_id: int = 0,
        tokenizer: Any = None,
        score_dev: Callable[[Any], dict[str, float]] | None = None,
        rates: Mapping[str, float] | None = None,
        average: WeightAverage | None = None,
        callbacks: Sequence[transformers.TrainerCallback] = (),
    ):
        for method in objective.methods.values():
            method.attach(model)
        if objective.modules:
            model.adaptation = torch.nn.ModuleDict(dict(objective.modules))
            ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
            model._keys_to_ignore_on_save = ignored | {f"adaptation.{key}" for key in model.adaptation.state_dict()}
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset if score_dev is not None else None,
            data_collator=PairCollator(pad_id),
            processing_class=tokenizer,
            callbacks=[_EpochOrder(sampler), *([] if average is None else [_Averaging(average)]), *callbacks],
        )
        self.remove_callback(transformers.PrinterCallback)
        # The loss below is normalised by its own count of units; see compute_loss.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.objective: Objective = objective
        self.order = sampler
        self.units_per_step = mean_units(objective, train_dataset, sampler, PairCollator(pad_id))
        self.score_dev = score_dev
        self.average = average
        self.rates = {"head": args.learning_rate, "layer_decay": 1.0} | dict(rates or {})
        self._sums: dict[str, torch.Tensor] = {}
        self._parts = 0
        self._advised: set[str] = set()

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[Any]:
        return self.order

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Task loss plus weighted method terms.

        The task loss is the sum over labelled units ÷ the mean number of them in a global batch, so that every unit
        counts the same: divided by the number in its own batch, words of short sentences, which share batches, would
        count several times those of long ones. The Trainer divides by the accumulation steps and DDP averages over
        processes, so both are multiplied in here. Method terms are means over the units of each forward pass.
        """
        progress = self.state.global_step / max(1, self.state.max_steps)
        loss_sum, step = self.objective.loss_sum(model, inputs, progress)
        parts = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        task_loss = loss_sum * parts / self.units_per_step
        self._watch("loss_task", task_loss)
        self._parts += 1
        total = task_loss if step is None else task_loss + self._method_terms(step)
        if not bool(torch.isfinite(total)):
            # Stopped before the optimizer sees it: the newest checkpoint is sound.
            raise TrainingError(self._not_finite())
        return total

    def _not_finite(self) -> str:
        broken = sorted(name for name, value in self._sums.items() if not bool(torch.isfinite(value)))
        return (
            f"step {self.state.global_step}: {', '.join(broken)} is not a finite number. Lower the learning rate or "
            "the method's weight (or temperature, λ), or set train.precision: fp32. Checkpoints up to here are kept."
        )

    def _method_terms(self, step: Step) -> torch.Tensor:
        """Return the weighted sum of all methods' terms; log each by name."""
        total = torch.zeros((), device=step.logits_UC.device)
        for name, method in self.objective.methods.items():
            factor = method.factor(step.progress)
            for term, value in method.terms(step).items():
                total = total + factor * value
                self._watch(f"loss_{name}_{term}", value)
            for key, number in method.watch(step).items():
                self._watch(f"{name}_{key}", torch.tensor(number))
        return total

    def _watch(self, name: str, value: torch.Tensor) -> None:
        self._sums[name] = self._sums.get(name, torch.zeros((), device=self.args.device)) + value.detach().to(
            self.args.device
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add every named loss, averaged over steps and processes; then let the methods warn."""
        averages: dict[str, float] = {}
        if "loss" in logs and self._parts:
            names = sorted(self._sums)
            stacked = torch.stack(
                [self._sums[name] for name in names] + [torch.tensor(float(self._parts), device=self.args.device)]
            )
            totals = self.accelerator.reduce(stacked, reduction="sum")
            averages = dict(zip(names, (totals[:-1] / totals[-1]).tolist(), strict=True))
            logs.update(averages)
            self._sums, self._parts = {}, 0
        super().log(logs, start_time)
        if averages:
            self._advise(averages)

    def _advise(self, averages: dict[str, float]) -> None:
        """Tell what a method has to say of its averages: to the person at the bar, and to the log that outlives it."""
        for name, method in self.objective.methods.items():
            own = {key.removeprefix(f"loss_{name}_").removeprefix(f"{name}_"): value for key, value in averages.items()}
            advice = method.advice(own)
            if advice is None or name in self._advised or not self.is_world_process_zero():
                continue
            self._advised.add(name)
            # For our own log alone: other loggers take numbers only.
            words: Any = {"warning": advice}
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, Bar):
                    callback.reporter.warn(f"{callback.title}, step {self.state.global_step}: {advice}")
                if isinstance(callback, LogFile):
                    callback.on_log(self.args, self.state, self.control, words)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Group parameters by learning rate: encoder (with layer-wise decay), head, methods."""
        if self.optimizer is None:
            groups = parameter_groups(
                self.model,
                self.args.learning_rate,
                self.rates["head"],
                self.rates["layer_decay"],
                self.args.weight_decay,
            )
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(groups, **settings)
        return super().create_optimizer(model)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score source dev on whole texts and whole gold sequences, the way the final evaluation does.

        Does not call ``super()``: the stock loop scores windows, not texts, and holds all logits in memory.
        """
        assert self.score_dev is not None
        with contextlib.nullcontext() if self.average is None else self.average.applied(self.model):
            scores = {f"{metric_key_prefix}_{key}": value for key, value in self.score_dev(self.model).items()}
        self.log(dict(scores))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the model ends with the averaged weights where there is an average."""
        result = super().train(*args, **kwargs)
        self.take_average()
        return result

    def take_average(self) -> None:
        """Give the model the averaged weights for good: those that belong to the checkpoint it was loaded from last."""
        if self.average is not None:
            self.average.take(self.model)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(str(self.args.output_dir) if output_dir is None else output_dir)
        if self.average is not None and self.args.should_save:
            self.average.save(folder)
        if self.objective.modules and self.args.should_save:
            # Cloned: a head names one tensor twice at times, and safetensors saves none that share their memory.
            weights = {
                key: value.clone(memory_format=torch.contiguous_format)
                for key, value in self._adaptation().state_dict().items()
            }
            save_file(weights, folder / SIDE_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint), self.args.device)
        if self.objective.modules:
            self._adaptation().load_state_dict(load_file(Path(resume_from_checkpoint) / SIDE_FILE))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.average is not None:
            self.average.load(Path(str(self.state.best_model_checkpoint)), self.args.device)

    def _adaptation(self) -> torch.nn.Module:
        module: torch.nn.Module = self.accelerator.unwrap_model(self.model).adaptation
        return module


def parameter_groups(
    model: Any, rate: float, head_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Divide trainable parameters into groups of equal learning rate and weight decay.

    Args:
        model: A model, with methods under ``adaptation`` if there are any.
        rate: Rate of the top encoder layer.
        head_rate: Rate of everything outside the encoder, and of its pooler.
        layer_decay: Factor from each layer to the one below; embeddings come below the first layer.
        weight_decay: Not applied to biases and norms.

    Returns:
        Groups for a torch optimizer.
    """
    # By identity: under PEFT the names of ModernBERT's head also hold its encoder's prefix, "model.".
    inside = {id(parameter) for parameter in encoder_of(model).parameters()}
    layers = encoder_layers(model) if layer_decay != 1.0 else []
    depth = {
        id(parameter): len(layers) - 1 - number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    grouped: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_encoder = id(parameter) in inside and ".pooler." not in name
        if name.startswith("adaptation."):
            own_rate = model.adaptation[name.split(".")[1]].learning_rate(rate)
        elif in_encoder:
            below = len(layers) if "embed" in name else 0
            own_rate = rate * layer_decay ** depth.get(id(parameter), below)
        else:
            own_rate = head_rate
        decay = 0.0 if parameter.dim() < 2 else weight_decay
        grouped.setdefault((own_rate, decay), []).append(parameter)
    return [{"params": found, "lr": lr, "weight_decay": decay} for (lr, decay), found in grouped.items()]
