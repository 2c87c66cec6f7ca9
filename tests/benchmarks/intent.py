"""Intents from a few examples of each, the other training texts unlabelled, as JSON.

    python tests/benchmarks/intent.py --data DATA_FOLDER --shots 5 10 --seeds 1 2 3 4 5

On BANKING77: fine-tuning; frozen features; self-training, which takes as many steps in all as the fine-tuning that is
its twin; and SimCSE on the unlabelled texts before as much fine-tuning. Each seed draws its own examples of each
intent. There are none to spare for a dev set, so the training rows stand in for one. They select nothing (the number of
steps is fixed beforehand, and the weights of the last one are scored), but calibrate the confidence of pseudo-labels.
The score on `source.dev` is the fit, not a result. Finished runs are kept in `runs/benchmarks/`, so it can be stopped
and extended.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality import described, summary
from record import command_line, read_results, write_results
from spread import mean_interval
from transfer import rows

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "benchmarks" / "banking77.yaml"
PRETRAIN = "{name: pretrain, objective: simcse, train: {max_steps: 140, batch_size: 64, learning_rate: 3e-5}}"
"""One pass over the unlabelled texts, in the stage's own batches and rate."""


@dataclass(frozen=True)
class Way:
    """One way to use the examples.

    Args:
        strategy: The strategy's name.
        steps: Those of its fine-tuning, at the end of which it is looked at for the only time.
        over: The way that its gain is over; None: it is such a twin.
    """

    strategy: str
    steps: int
    over: str | None = None

    @property
    def stages(self) -> str:
        """The stages that strategies take theirs from; a round of self-training is half as long as the fine-tuning."""
        rounds = f"{{name: self_train, rounds: 2, train: {{max_steps: {self.steps // 2}}}}}"
        return f"stages=[{PRETRAIN}, {{name: finetune}}, {rounds}]"

    @property
    def length(self) -> list[str]:
        """What it sets beyond its strategy, whose tuning may have a length of its own."""
        return [f"train.max_steps={self.steps}", f"train.evaluate_every={self.steps}"]


SHORT, LONG = "fine-tuning", "fine-tuning, twice as long"
WAYS = {
    SHORT: Way("source_only", 400),
    LONG: Way("source_only", 800),
    "frozen": Way("frozen", 2000, SHORT),
    "self-training": Way("self_train", 200, SHORT),
    "self-training, twice as long": Way("self_train", 400, LONG),
    "simcse, fine-tuning": Way("pretrain", 400, SHORT),
}
"""Steps over cached features (`frozen`) take seconds."""


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


def run_one(data: Path, shots: int, title: str, seed: int) -> dict[str, Any]:
    """Run one way with one draw of examples; return what is known of its model."""
    from nlp_transfer import load_recipe, run
    from nlp_transfer.recipe.comparing import StrategySpec
    from nlp_transfer.strategies import strategy_recipe

    texts = "data.target.unlabelled=intent/banking77/train.jsonl"  # What `few` gives takes its place.
    way = WAYS[title]
    output = f"runs/benchmarks/banking77/{shots}/{title}/{seed}"
    common = load_recipe(RECIPE, [f"data.folder={data}", texts, "train.epochs=null", way.stages])
    recipe = strategy_recipe(common, StrategySpec(name=way.strategy, set=way.length), seed, output)
    recipe = recipe.model_copy(update={"source_only": False, "guard": False})
    result = run(recipe, data=few(data, shots, seed))
    (role,) = result.metrics["scores"]
    return described(result, role, seed)


def paired_gain(runs: list[dict[str, Any]], plain: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return the mean gain on the target over the seeds that both have, with its 95 % interval."""
    scores, base = ({run["seed"]: run["scores"]["target.test"]["value"] for run in some} for some in (runs, plain))
    gains = [scores[seed] - base[seed] for seed in sorted(scores.keys() & base.keys())]
    return mean_interval(gains) if len(gains) > 1 else None


def add_gains(results: dict[str, Any]) -> None:
    """Write into the results of each way its gain over its twin, as far as both have run by now."""
    for name, entry in results.items():
        shots, title = name.split(" examples: ")
        plain = results.get(f"{shots} examples: {WAYS[title].over}")
        gain = paired_gain(entry["runs"], plain["runs"]) if plain else None
        entry |= {} if gain is None else {"gain": gain}


def main() -> None:
    """Run everything and write the JSON after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--output", type=Path, default=RECIPE.parent / "results" / "banking77.json")
    options = parser.parse_args()
    for shots in options.shots:
        for seed in options.seeds:
            for title in options.ways:
                results = read_results(options.output)
                name = f"{shots} examples: {title}"
                runs = results.get(name, {}).get("runs", [])
                if any(run["seed"] == seed for run in runs):
                    continue
                runs = sorted([*runs, run_one(options.data, shots, title, seed)], key=lambda run: run["seed"])
                results[name] = {"summary": summary(runs), "runs": runs}
                add_gains(results)
                shown = {"shots": sorted({int(name.split()[0]) for name in results})}
                shown["seeds"] = sorted({run["seed"] for entry in results.values() for run in entry["runs"]})
                write_results(
                    options.output, command_line("intent", data="DATA", **shown, output=options.output), results
                )
                print(name, seed, runs[-1]["scores"]["target.test"], flush=True)


if __name__ == "__main__":
    main()
