"""Intents from a few examples of each, the other training texts unlabelled, as JSON.

    python tests/benchmarks/intent.py --data DATA_FOLDER --shots 5 10 --seeds 1 2 3 4 5

Fine-tuning, frozen features and self-training on BANKING77, each with as many steps of fine-tuning as a twin; each seed
draws its own examples of each intent. There are none to spare for a dev set, so the training rows stand in for one and
the number of steps is fixed beforehand: the score on `source.dev` is the fit, not a result. Finished runs are kept in
`runs/benchmarks/`, so it can be stopped and extended.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from quality import described, summary
from record import read_results, write_results
from transfer import rows

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "benchmarks" / "banking77.yaml"
STEPS = 800
STRATEGIES = {
    "fine-tuning": "source_only",
    "frozen": "frozen",
    "self-training": "self_train",
}
SELF_TRAIN = f"stages=[{{name: finetune}}, {{name: self_train, rounds: 2, train: {{max_steps: {STEPS // 2}}}}}]"


def few(data: Path, shots: int, seed: int) -> dict[str, Any]:
    """Draw so many examples of each intent; the texts of all others are unlabelled."""
    import datasets

    pool = rows(data / "intent" / "banking77" / "train.jsonl")
    random.Random(seed).shuffle(pool)
    drawn: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for row in pool:
        counts[row["label"]] = counts.get(row["label"], 0) + 1
        (drawn if counts[row["label"]] <= shots else rest).append(row)
    train = datasets.Dataset.from_list(drawn)
    unlabelled = datasets.Dataset.from_list([{"text": row["text"]} for row in rest])
    return {"source.train": train, "source.dev": train, "target.unlabelled": unlabelled}


def run_one(data: Path, shots: int, title: str, seed: int) -> dict[str, dict[str, Any]]:
    """Run one strategy with one draw of examples; return what is known of its model, and of its twin."""
    from nlp_transfer import load_recipe, run
    from nlp_transfer.recipe.comparing import StrategySpec
    from nlp_transfer.strategies import strategy_recipe

    texts = "data.target.unlabelled=intent/banking77/train.jsonl"  # What `few` gives takes its place.
    overrides = [f"data.folder={data}", texts, "train.epochs=null", f"train.max_steps={STEPS}", SELF_TRAIN]
    recipe = load_recipe(RECIPE, overrides)
    output = f"runs/benchmarks/banking77/{shots}/{title}/{seed}"
    strategy = strategy_recipe(recipe, StrategySpec(name=STRATEGIES[title]), seed, output)
    result = run(strategy, data=few(data, shots, seed))
    twin = len(result.metrics["scores"]) > 1
    return {
        f"{title}: its twin" if twin and role == "source-only" else title: described(result, role, seed)
        for role in result.metrics["scores"]
    }


def main() -> None:
    """Run everything and write the JSON after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--output", type=Path, default=RECIPE.parent / "results" / "banking77.json")
    options = parser.parse_args()
    command = "python tests/benchmarks/intent.py --data DATA --shots … --seeds … --output " + options.output.name
    for shots in options.shots:
        for seed in options.seeds:
            for title in STRATEGIES:
                if seed in seeds_of(read_results(options.output), f"{shots} examples: {title}"):
                    continue
                found = run_one(options.data, shots, title, seed)
                results = read_results(options.output)
                for name, new in ((f"{shots} examples: {name}", new) for name, new in found.items()):
                    runs = sorted([*results.get(name, {}).get("runs", []), new], key=lambda run: run["seed"])
                    results[name] = {"summary": summary(runs), "runs": runs}
                    print(name, seed, new["scores"]["target.test"], flush=True)
                write_results(options.output, command, results)


def seeds_of(results: dict[str, Any], name: str) -> set[int]:
    """Return the seeds that results hold of a strategy."""
    return {run["seed"] for run in results.get(name, {}).get("runs", [])}


if __name__ == "__main__":
    main()
