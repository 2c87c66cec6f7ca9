"""Strategies of adaptation on real data, over pairs of domains and seeds, as JSON.

    python tests/benchmarks/transfer.py reviews --data DATA_FOLDER --seeds 1 2 3 \
        --strategies self_train pretrain+self_train --output recipes/benchmarks/results/reviews.json

Runs `nlp-transfer compare` on `recipes/benchmarks/<benchmark>.yaml` once for each case (a pair of domains). Finished
runs are kept in `runs/benchmarks/`, so it can be stopped, extended, and started in several terminals at once; what is
measured joins what the output file holds of other cases. With `--bound`, beside it the same model trained on the
target's unlabelled texts with their labels: what the adaptation could reach at most.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REVIEWS = ("books", "dvd", "kitchen")
ROOT = Path(__file__).resolve().parents[2]


def review_files(source: str, target: str) -> list[str]:
    """Overrides that choose a pair of review domains."""
    return [
        f"data.source.train=sentiment/{source}/source_train.jsonl",
        f"data.source.dev=sentiment/{source}/source_dev.jsonl",
        f"data.target.unlabelled=sentiment/{target}/target_unlabelled.jsonl",
        f"data.target.test=sentiment/{target}/target_test.jsonl",
    ]


CASES: dict[str, dict[str, list[str]]] = {
    "reviews": {f"{a}-{b}": review_files(a, b) for a in REVIEWS for b in REVIEWS if a != b},
    "reviews_rates": {domain: review_files(domain, domain)[:2] for domain in REVIEWS},
}


def measure(options: argparse.Namespace, case: str) -> dict[str, Any]:
    """Compare all strategies on one case; add what the picked one, guarded, comes to."""
    from nlp_transfer import compare, load_recipe

    folder = Path("runs/benchmarks") / options.benchmark / case
    recipe = load_recipe(recipe_file(options), [f"data.folder={options.data}", *CASES[options.benchmark][case]])
    summary: dict[str, Any] = compare(recipe, options.strategies, options.seeds, folder=folder).summary
    if "best" in summary:
        summary["picked_and_guarded"] = [guarded_score(folder, summary["picked"], seed) for seed in options.seeds]
    if options.bound:
        summary["bound"] = [bound(options, case.rpartition("-")[2], seed) for seed in options.seeds]
    return summary


def recipe_file(options: argparse.Namespace) -> Path:
    """The benchmark's recipe."""
    return ROOT / "recipes" / "benchmarks" / f"{options.benchmark}.yaml"


def guarded_score(folder: Path, strategy: str, seed: int) -> float:
    """Target score of what the run kept: the strategy's own model, or its twin."""
    metrics = json.loads((folder / "runs" / strategy / str(seed) / "metrics.json").read_text(encoding="utf8"))
    return float(metrics["scores"][metrics["kept"]]["target.test"]["interval"]["value"])


def bound(options: argparse.Namespace, target: str, seed: int) -> float:
    """Target score of the source-only recipe when it is trained on the target's unlabelled texts, labelled."""
    import datasets

    from nlp_transfer import load_recipe, run

    domain = options.data / "sentiment" / target
    files = [rows(domain / f"{name}.jsonl") for name in ("source_train", "source_dev")]
    labelled = {row["text"]: row["label"] for file in files for row in file}
    texts = [row["text"] for row in rows(domain / "target_unlabelled.jsonl")]
    missing = [text for text in texts if text not in labelled]
    if missing:
        raise SystemExit(f"{len(missing)} target texts have no label in the source files: no bound can be measured.")
    train = datasets.Dataset.from_list([{"text": text, "label": labelled[text]} for text in texts])
    held = [row for row in rows(domain / "source_dev.jsonl") if row["text"] not in set(texts)]
    overrides = [
        f"data.folder={options.data}",
        *review_files(target, target),
        "data.target.unlabelled=null",
        "stages=[finetune]",
        f"seed={seed}",
        f"output=runs/benchmarks/{options.benchmark}/bound/{target}/{seed}",
    ]
    given = {"source.train": train} | ({"source.dev": datasets.Dataset.from_list(held)} if len(held) > 1 else {})
    result = run(load_recipe(recipe_file(options), overrides), data=given)
    (scores,) = result.metrics["scores"].values()
    return float(scores["target.test"]["interval"]["value"])


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def main() -> None:
    """Measure all cases and write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(CASES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", help="by default all")
    parser.add_argument("--strategies", nargs="+", help="by default those of the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    output = options.output or ROOT / "recipes" / "benchmarks" / "results" / f"{options.benchmark}.json"
    for case in options.cases or CASES[options.benchmark]:
        summary = measure(options, case)
        results = json.loads(output.read_text(encoding="utf8"))["results"] if output.is_file() else {}
        write(output, options.benchmark, results | {case: summary})
        print(case, {name: entry["scores"] for name, entry in summary["strategies"].items()}, flush=True)


def write(path: Path, benchmark: str, results: dict[str, Any]) -> None:
    """Write results with what is needed to repeat them."""
    from nlp_transfer.hardware import describe

    record = {
        "command": f"python tests/benchmarks/transfer.py {benchmark} --data DATA --seeds … --output {path.name}",
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
