"""Domain adaptation and transfer learning for BERT-family models.

    from nlp_transfer import load_predictor, load_recipe, run

    result = run(load_recipe("recipes/quickstart.yaml"))
    print(load_predictor(result.model)("Crashes whenever I rotate the phone."))

Names are loaded when they are first used: importing the package takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .checking import check
    from .comparison.compare import Comparison, compare
    from .diagnosis.diagnose import diagnose
    from .diagnosis.result import Diagnosis
    from .distillation.distill import distill
    from .distillation.weigh import Distilled
    from .drawing import Drawn, draw
    from .exporting.write import Exported, export
    from .hub.push import push
    from .inference import evaluate, load_predictor
    from .methods.anchor import Anchor
    from .methods.base import Method
    from .methods.cdan import Cdan
    from .methods.coral import Coral
    from .methods.dann import Dann
    from .methods.joint_mlm import JointMlm
    from .methods.l2sp import L2sp
    from .methods.mcc import Mcc
    from .methods.mmd import Mmd
    from .objectives import TaskObjective
    from .parts import METHODS, load_recipe, recipe_from
    from .predictor import Predictor
    from .recipe import Recipe, resolve
    from .report.write import write_report
    from .running import RunResult, run
    from .serving.server import serve
    from .serving.settings import ServiceLimits
    from .streaming import predict_file
    from .tasks.classification import Classification, MultiLabel
    from .tasks.ner import Ner
    from .trainer import TransferTrainer
    from .tuning import Frozen, Full, Lora, TopLayers
    from .units import Sizes, Step
    from .watching.watch import watch

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "Anchor",
    "Cdan",
    "Classification",
    "Comparison",
    "Coral",
    "Dann",
    "Diagnosis",
    "Distilled",
    "Drawn",
    "Exported",
    "Frozen",
    "Full",
    "JointMlm",
    "L2sp",
    "Lora",
    "Mcc",
    "Method",
    "Mmd",
    "MultiLabel",
    "Ner",
    "Predictor",
    "Recipe",
    "RunResult",
    "ServiceLimits",
    "Sizes",
    "Step",
    "TaskObjective",
    "TopLayers",
    "TransferTrainer",
    "check",
    "compare",
    "diagnose",
    "distill",
    "draw",
    "errors",
    "evaluate",
    "export",
    "load_predictor",
    "load_recipe",
    "predict_file",
    "push",
    "recipe_from",
    "resolve",
    "run",
    "serve",
    "watch",
    "write_report",
]

_HOMES = {
    "checking": ("check",),
    "comparison.compare": ("Comparison", "compare"),
    "diagnosis.diagnose": ("diagnose",),
    "diagnosis.result": ("Diagnosis",),
    "distillation.distill": ("distill",),
    "distillation.weigh": ("Distilled",),
    "drawing": ("Drawn", "draw"),
    "exporting.write": ("Exported", "export"),
    "hub.push": ("push",),
    "inference": ("evaluate", "load_predictor"),
    "methods.anchor": ("Anchor",),
    "methods.base": ("Method",),
    "methods.cdan": ("Cdan",),
    "methods.coral": ("Coral",),
    "methods.dann": ("Dann",),
    "methods.joint_mlm": ("JointMlm",),
    "methods.l2sp": ("L2sp",),
    "methods.mcc": ("Mcc",),
    "methods.mmd": ("Mmd",),
    "objectives": ("TaskObjective",),
    "parts": ("METHODS", "load_recipe", "recipe_from"),
    "predictor": ("Predictor",),
    "recipe": ("Recipe", "resolve"),
    "report.write": ("write_report",),
    "running": ("RunResult", "run"),
    "serving.server": ("serve",),
    "serving.settings": ("ServiceLimits",),
    "streaming": ("predict_file",),
    "tasks.classification": ("Classification", "MultiLabel"),
    "tasks.ner": ("Ner",),
    "trainer": ("TransferTrainer",),
    "tuning": ("Frozen", "Full", "Lora", "TopLayers"),
    "units": ("Sizes", "Step"),
    "watching.watch": ("watch",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use (PEP 562)."""
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
