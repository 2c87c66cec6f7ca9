#!/usr/bin/env python
"""An adaptation loss of your own: makes the predictions for target text certain and diverse (nuclear norm).

    python recipes/custom_method.py
    torchrun --nproc_per_node 2 recipes/custom_method.py
    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \
        recipes/custom_method.py

The class below is all there is to a method. Handed over beside METHODS it works from a recipe like a built-in one: with
every task and tuning, checked settings, logging by name, resume and several processes.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from nlp_transfer import METHODS, Method, Sizes, Step, load_recipe, run
from nlp_transfer.hardware import is_main_process
from nlp_transfer.reporter import ConsoleReporter
from nlp_transfer.screen import show_run


class NuclearNorm(Method):
    """Batch nuclear-norm maximisation: −‖P‖_* / U for the predictions P of the U target units of a step.

    The nuclear norm (sum of singular values) is large where predictions are both certain and diverse.
    Keyword-only arguments are the settings in a recipe, with their types and ranges.
    """

    citation = "Cui et al. 2020, Towards Discriminability and Diversity, arXiv 2003.12237"

    def __init__(self, sizes: Sizes, *, temperature: Annotated[float, Field(gt=0)] = 1.0, **shared: Any):
        super().__init__(**shared)  # weight, schedule and begin
        self.temperature = temperature

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return raw terms by name; the trainer weighs, adds and logs them (here loss_nuclear_norm_target)."""
        logits_UC = step.logits_UC[step.domain_U == 1] / self.temperature
        if len(logits_UC) == 0:  # a step without target units
            return {"target": self.nothing(step)}
        return {"target": -torch.linalg.matrix_norm(logits_UC.softmax(-1), "nuc") / len(logits_UC)}


def main() -> None:
    """Run the sentiment recipe with the new method in the place of dann."""
    methods = METHODS | {"nuclear_norm": NuclearNorm}
    overrides = ["name=custom_method", "output=runs/custom_method", "methods=[{name: nuclear_norm, weight: 0.1}]"]
    recipe = load_recipe(Path(__file__).resolve().parent / "dann_sentiment.yaml", overrides, methods)
    result = run(recipe, reporter=ConsoleReporter(), methods=methods)
    if is_main_process():
        show_run(result, recipe)


if __name__ == "__main__":
    main()
