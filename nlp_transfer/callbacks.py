"""Observers of training: the progress bar and ``log.jsonl``. They never change anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import transformers
from transformers.trainer_callback import ExportableState

from .memory import peak_mib, reset_peak
from .records import append_lines
from .reporter import Reporter


class LogFile(transformers.TrainerCallback):
    """Append everything that is logged to JSON-lines files.

    Args:
        stage: Name of the stage, written on every line.
        paths: The files: that of the run, and that of the stage, which stays with its model.
    """

    def __init__(self, stage: str, *paths: Path):
        self.stage = stage
        self.paths = paths

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write one line."""
        line = {"stage": self.stage, "step": state.global_step, "time": round(time.time(), 3)} | dict(logs or {})
        for path in self.paths:
            append_lines(path, [line])


class Meter(transformers.TrainerCallback, ExportableState):
    """Seconds and peak memory of training over all its starts: the Trainer keeps both in checkpoints.

    Attributes:
        before: Seconds of the starts before this one.
        peak_before: Peak of their memory in MiB, 0 where it is not known.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self.peak_before = 0
        self.begun: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + (0.0 if self.begun is None else time.monotonic() - self.begun)

    @property
    def peak(self) -> int:
        """Peak memory so far in MiB, 0 where it is not known."""
        return self.peak_before if self.begun is None else max(self.peak_before, peak_mib() or 0)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {}, "attributes": {"before": self.seconds, "peak_before": self.peak}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        reset_peak()
        self.begun = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        self.before, self.peak_before, self.begun = self.seconds, self.peak, None


class Bar(transformers.TrainerCallback):
    """Show optimizer steps on a progress bar, and each evaluation as a line.

    Args:
        title: Text beside the bar.
        reporter: Where to show it.
    """

    def __init__(self, title: str, reporter: Reporter):
        self.title = title
        self.reporter = reporter
        self.context: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.context = self.reporter.bar(self.title, state.max_steps)
        self.advance = self.context.__enter__()
        self.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance by one step."""
        self.advance(1)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Say the score that selects the checkpoint."""
        name = args.metric_for_best_model
        if metrics is not None and name is not None and name in metrics:
            own = name.removeprefix("eval_")
            where = "" if own.startswith(("target_", "oracle_")) else "source dev "
            score = f"{where}{own} {metrics[name]:.4f}"
            self.reporter.say(f"{self.title}: step {state.global_step}, {score}")

    def close(self) -> None:
        """Close the bar, also after an error or Ctrl-C."""
        if self.context is not None:
            self.context.__exit__(None, None, None)
            self.context = None
