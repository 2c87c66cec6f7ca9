#!/usr/bin/env python
"""Run a recipe from Python, then use the model: what a notebook would do.

    python recipes/finetune_and_predict.py
    torchrun --nproc_per_node 2 recipes/finetune_and_predict.py
    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \
        recipes/finetune_and_predict.py

The last two start two processes, with or without GPUs; `accelerate launch --cpu --num_processes 2` silently starts one.
"""

from pathlib import Path

from nlp_transfer import evaluate, load_predictor, load_recipe, run
from nlp_transfer.hardware import is_main_process
from nlp_transfer.reporter import ConsoleReporter

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Train on film reviews, then ask about software."""
    overrides = ["name=finetune_and_predict", "output=runs/finetune_and_predict"]
    recipe = load_recipe(HERE / "sentiment_frozen.yaml", overrides)
    result = run(recipe, reporter=ConsoleReporter())
    # Prediction is shared between the processes, so all of them call it; only the first one talks.
    predictor = load_predictor(result.folder)
    answers = predictor(["Starts at once, never crashes, and the help is written by people.", "It ate my photographs."])
    again = evaluate(predictor, HERE.parent / "data" / "sentiment" / "target_test.jsonl")
    if not is_main_process():
        return

    for model, splits in result.metrics["scores"].items():
        for split, scores in splits.items():
            print(f"{model} on {split}: accuracy {scores['accuracy']:.3f}, macro F1 {scores['macro_f1']:.3f}")
    for answer in answers:
        print(f"{answer['label']} ({answer['score']:.2f}): {answer['text']}")
    print(f"scored once more, on the target test file: {again.interval}")


if __name__ == "__main__":
    main()
