"""Scores of recipes on real data, over seeds, as JSON.

    python tests/benchmarks/quality.py --data DATA_FOLDER --seeds 1 2 3 \
        --recipes recipes/benchmarks/books_kitchen_*.yaml --output recipes/benchmarks/results/books_kitchen.json

Each recipe runs once a seed in `runs/benchmarks/`; finished runs are kept, so it can be stopped and extended. With
`--plain-ner` a stock `Trainer` script (wired as the official token-classification example wires it: first subword
labelled, 16 rows a batch, random order) is trained on the CoNLL files with the same steps and learning rate; for a LoRA
recipe with plain PEFT adapters of the same rank on the same layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from record import command_line, read_results, write_results

SPLITS = {"train": "source.train", "dev": "source.dev", "test": "target.test"}


def run_recipe(path: Path, data: Path, seed: int) -> dict[str, Any]:
    """Run one recipe with one seed; return its scores, gains and times."""
    from nlp_transfer import load_recipe, run

    output = f"runs/benchmarks/{path.stem}-{seed}"
    overrides = [f"data.folder={data}", f"seed={seed}", f"output={output}", "source_only=false"]
    begun = time.perf_counter()
    result = run(load_recipe(path, overrides))
    print(path.stem, seed, f"{time.perf_counter() - begun:.0f} s", flush=True)
    (role,) = result.metrics["scores"]
    return described(result, role, seed)


def described(result: Any, role: str, seed: int) -> dict[str, Any]:
    """Return scores, steps and seconds of one of a run's models: `adapted` or `source-only`."""
    lines = (result.folder / "stages.jsonl").read_text(encoding="utf8").splitlines()
    both = len(result.metrics["scores"]) > 1
    stages = [
        stage
        for stage in map(json.loads, lines)
        if not both or stage["stage"].startswith("source-only") == (role == "source-only")
    ]
    scores = result.metrics["scores"][role]
    return {
        "seed": seed,
        "scores": {split: score["interval"] for split, score in scores.items()},
        "steps": {stage["stage"]: stage["steps"] for stage in stages},
        "training_seconds": {stage["stage"]: stage["seconds"] for stage in stages},
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of each split's headline number."""
    values = {split: [run["scores"][split]["value"] for run in runs] for split in runs[0]["scores"]}
    return {
        split: {
            "mean": statistics.mean(found),
            "sd": statistics.stdev(found) if len(found) > 1 else 0.0,
            "runs": len(found),
        }
        for split, found in values.items()
    }


def plain_ner(recipe_path: Path, data: Path, seed: int) -> dict[str, Any]:
    """Train a stock Trainer on the files of a NER recipe, with its epochs, rate and batch; score strict entity F1."""
    import peft
    import torch
    import transformers

    from nlp_transfer import finding, load_recipe, resolve
    from nlp_transfer.metrics import bootstrap_interval, entity_counts, f1_from_counts
    from nlp_transfer.preparing.load import load_splits

    recipe = resolve(load_recipe(recipe_path, [f"data.folder={data}", f"seed={seed}"]))
    splits = load_splits(recipe)
    settings = recipe.stages[-1].train
    transformers.set_seed(seed)
    folder = finding.resolve(recipe.model.id).folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    index = {tag: number for number, tag in enumerate(splits.labels)}
    names = {"id2label": dict(enumerate(splits.labels)), "label2id": index}
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder, num_labels=len(index), **names)
    if recipe.tuning.name == "lora":
        rank = recipe.tuning.settings["rank"]
        layers = ["query", "key", "value", "dense"]
        lora = peft.LoraConfig(task_type="TOKEN_CLS", r=rank, lora_alpha=2 * rank, target_modules=layers)
        model = peft.get_peft_model(model, lora)

    def encode(rows: Any) -> list[dict[str, Any]]:
        encoded = tokenizer(
            rows["words"][:], is_split_into_words=True, truncation=True, max_length=recipe.data.max_length
        )
        labels = []
        for number, tags in enumerate(rows["tags"][:]):
            words = encoded.word_ids(number)
            first = [word is not None and word != words[at - 1] for at, word in enumerate(words)]
            labels.append(
                [index[tags[w]] if new and w is not None else -100 for w, new in zip(words, first, strict=True)]
            )
        return [{"input_ids": ids, "labels": row} for ids, row in zip(encoded["input_ids"], labels, strict=True)]

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        args = transformers.TrainingArguments(
            scratch, seed=seed, use_cpu=not torch.cuda.is_available(), save_strategy="no", report_to="none",
            disable_tqdm=True, num_train_epochs=settings["epochs"], learning_rate=settings["learning_rate"],
            per_device_train_batch_size=settings["batch_size"],
        )  # fmt: skip
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        trainer = transformers.Trainer(model, args, train_dataset=encode(splits.train.rows), data_collator=collator)
        trainer.train()
        seconds = time.perf_counter() - begun
        scores = {}
        for name, split in {"source.dev": splits.dev, **splits.scored}.items():
            output = trainer.predict(encode(split.rows))
            guesses = output.predictions.argmax(-1)
            answers = [
                [splits.labels[guess] for guess, label in zip(row, labels, strict=True) if label != -100]
                for row, labels in zip(guesses, output.label_ids, strict=True)
            ]
            gold = split.rows["tags"][:]
            padded = [[*tags, *["O"] * (len(truth) - len(tags))] for truth, tags in zip(gold, answers, strict=True)]
            scores[name] = bootstrap_interval(entity_counts(gold, padded), f1_from_counts).to_dict()
    steps, took = {"finetune": trainer.state.global_step}, {"finetune": round(seconds, 1)}
    return {"seed": seed, "scores": scores, "steps": steps, "training_seconds": took}


def main() -> None:
    """Run everything and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, nargs="*", default=[])
    parser.add_argument("--plain-ner", type=Path, nargs="*", default=[], metavar="RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    results = read_results(options.output)
    jobs = [(path.stem, path, run_recipe) for path in options.recipes]
    jobs += [(f"plain Trainer, {path.stem}", path, plain_ner) for path in options.plain_ner]
    for name, path, work in jobs:
        for seed in options.seeds:
            runs = {run["seed"]: run for run in results.get(name, {}).get("runs", [])}
            runs.setdefault(seed, None)
            runs[seed] = runs[seed] or work(path, options.data, seed)
            ordered = [runs[key] for key in sorted(runs)]
            results[name] = {"summary": summary(ordered), "runs": ordered}
            write_results(options.output, _command(options, results), results)


def _command(options: argparse.Namespace, results: dict[str, Any]) -> str:
    """Return the command that measures all that is in the results."""
    folder = options.recipes[0].parent if options.recipes else options.plain_ner[0].parent
    plain = "plain Trainer, "
    return command_line(
        "quality",
        data="DATA",
        recipes=[folder / f"{name}.yaml" for name in results if not name.startswith(plain)],
        plain_ner=[folder / f"{name.removeprefix(plain)}.yaml" for name in results if name.startswith(plain)],
        seeds=sorted({run["seed"] for entry in results.values() for run in entry["runs"]}),
        output=options.output,
    )


if __name__ == "__main__":
    main()
