"""What each strategy of adaptation costs beside source-only, as JSON: optimizer steps, seconds and peak memory.

    python tests/benchmarks/costs.py --data DATA_FOLDER --output recipes/benchmarks/results/costs.json

Every strategy of `recipes/benchmarks/reviews.yaml` trains on the same few rows, in a process of its own and without its
twin. All of its stages count, in proportion to their rows, as does the fitting of a fresh masked-LM head; evaluation
does not. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from record import command_line, in_process, write_results
from transfer import Case, review_files, rows


def strategies() -> list[str]:
    """Return the names of the recipe's strategies, source-only first."""
    from nlp_transfer import load_recipe

    recipe = load_recipe(Case("reviews").path)
    assert recipe.compare is not None
    return [one.name for one in recipe.compare.strategies]


def measure(strategy: str, data: Path, count: int) -> dict[str, Any]:
    """Train one strategy in this process."""
    import datasets

    from nlp_transfer import load_recipe, run
    from nlp_transfer.recipe.comparing import StrategySpec
    from nlp_transfer.stages.pretrain import FRESH_HEAD_STEPS
    from nlp_transfer.strategies import strategy_recipe

    recipe = load_recipe(Case("reviews").path, [f"data.folder={data}", *review_files("books", "kitchen")])
    domain = data / "sentiment"
    few = {
        "source.train": rows(domain / "books" / "source_train.jsonl")[:count],
        "source.dev": rows(domain / "books" / "source_dev.jsonl")[: count // 10],
        "target.unlabelled": rows(domain / "kitchen" / "target_unlabelled.jsonl")[: count * 10 // 17],
        "target.test": rows(domain / "kitchen" / "target_test.jsonl")[: count // 10],
    }
    with tempfile.TemporaryDirectory() as folder:
        # Of fixed length, it would weigh more beside fewer rows.
        steps = round(FRESH_HEAD_STEPS * count / len(rows(domain / "books" / "source_train.jsonl")))
        # joint_mlm inherits the head of pretrain.
        first = next((part for part in ("pretrain", "joint_mlm") if part in strategy.split("+")), None)
        settings = [] if first is None else [f"{first}.head_steps={steps}"]
        own = strategy_recipe(recipe, StrategySpec(name=strategy, set=settings), 1, f"{folder}/run")
        own = own.model_copy(update={"source_only": False, "guard": False})
        result = run(own, data={role: datasets.Dataset.from_list(found) for role, found in few.items()}, checked=False)
        stages = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text().splitlines()]
    return {
        "steps": sum(stage["steps"] + stage.get("head_steps", 0) for stage in stages),
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "peak_mib": max(stage.get("peak_mib") or 0 for stage in stages),
    }


def main() -> None:
    """Measure every strategy, print the figures and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=340, help="source rows; in proportion those of the others")
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured; the shortest counts")
    parser.add_argument("--strategies", nargs="+", help="by default all of the recipe; source_only is always one")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.data, options.rows)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in strategies()}
    if options.strategies:
        found = {name: figures for name, figures in found.items() if name in ("source_only", *options.strategies)}
    for _ in range(options.rounds):
        for name, figures in found.items():
            figures.append(in_process(__file__, "--data", options.data, "--rows", options.rows, "--one", name))
            print(name, figures[-1], flush=True)
    results = {name: min(figures, key=lambda one: one["seconds"]) for name, figures in found.items()}
    base = results["source_only"]
    for figures in results.values():
        for key in ("steps", "seconds", "peak_mib"):
            figures[f"times_{key}"] = round(figures[key] / base[key], 2)
    if options.output:
        given = {key: getattr(options, key) for key in ("rows", "rounds", "strategies", "output")}
        command = command_line("costs", data="DATA", **given)
        write_results(options.output, command, results)


if __name__ == "__main__":
    main()
