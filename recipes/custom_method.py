#!/usr/bin/env python
"""An adaptation loss of your own: aligns mean and covariance of source and target features (Deep CORAL).

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


class Moments(Method):
    """Distance between the first two moments of the domains: ‖μₛ - μₜ‖² / H + ‖Cₛ - Cₜ‖² / H (Frobenius).

    Keyword-only arguments are the settings in a recipe, with their types and ranges.
    """

    citation = "after Sun and Saenko 2016, Deep CORAL, arXiv 1607.01719"

    def __init__(self, sizes: Sizes, *, mean_weight: Annotated[float, Field(ge=0)] = 1.0, **shared: Any):
        super().__init__(**shared)  # weight, schedule and begin
        self.mean_weight = mean_weight
        self.hidden = sizes.hidden

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return raw terms by name; the trainer weighs, adds and logs them (loss_moments_mean, …)."""
        source_UH, target_UH = (step.features_UH[step.domain_U == side] for side in (0, 1))
        if min(len(source_UH), len(target_UH)) < 2:  # no covariance of a single unit
            nothing = step.features_UH.sum() * 0.0
            return {"mean": nothing, "covariance": nothing}
        means_H = source_UH.mean(0) - target_UH.mean(0)
        covariances_HH = torch.cov(source_UH.T) - torch.cov(target_UH.T)
        return {
            "mean": self.mean_weight * means_H.square().sum() / self.hidden,
            "covariance": covariances_HH.square().sum() / self.hidden,
        }


def main() -> None:
    """Run the sentiment recipe with the new method in the place of dann."""
    methods = METHODS | {"moments": Moments}
    overrides = ["name=custom_method", "output=runs/custom_method", "methods=[{name: moments, weight: 1.0}]"]
    recipe = load_recipe(Path(__file__).resolve().parent / "dann_sentiment.yaml", overrides, methods)
    result = run(recipe, reporter=ConsoleReporter(), methods=methods)
    if is_main_process():
        show_run(result, recipe)


if __name__ == "__main__":
    main()
