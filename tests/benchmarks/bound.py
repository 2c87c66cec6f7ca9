"""What adaptation could reach at most: the model of the reviews benchmark trained on the target's texts, labelled.

    python tests/benchmarks/bound.py --data DATA_FOLDER --seeds 1 2 3

It takes as many steps as source-only does there, and the weights of the last one are scored: no label of the test
takes part. The labels of the unlabelled texts are found by text in the files of the domain as a source. Finished runs
are kept in `runs/benchmarks/`, so it can be stopped and extended.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from record import command_line, read_results, write_results
from transfer import REVIEWS, ROOT, Case, review_files, rows

STEPS = 214
"""Optimizer steps of source-only: two epochs of 1,700 rows by 16."""


def labelled_texts(domain: Path) -> list[dict[str, Any]]:
    """Return the target's unlabelled texts with their labels."""
    labels = {row["text"]: row["label"] for name in ("train", "dev") for row in rows(domain / f"source_{name}.jsonl")}
    texts = [row["text"] for row in rows(domain / "target_unlabelled.jsonl")]
    missing = [text for text in texts if text not in labels]
    if missing:
        raise SystemExit(f"{len(missing)} target texts have no label in the source files: no bound can be measured.")
    return [{"text": text, "label": labels[text]} for text in texts]


def bound(data: Path, target: str, seed: int) -> float:
    """Return the target's score."""
    import datasets

    from nlp_transfer import load_recipe, run

    overrides = [
        f"data.folder={data}",
        *review_files(target, target),
        "data.target.unlabelled=null",
        "stages=[finetune]",
        "train.epochs=null",
        f"train.max_steps={STEPS}",
        f"train.evaluate_every={STEPS}",
        f"seed={seed}",
        f"output=runs/benchmarks/reviews_bound/{target}/{seed}",
    ]
    # The rows stand in for dev rows, too, which select nothing where the last step alone is scored.
    train = datasets.Dataset.from_list(labelled_texts(data / "sentiment" / target))
    result = run(load_recipe(Case("reviews").path, overrides), data={"source.train": train, "source.dev": train})
    (scores,) = result.metrics["scores"].values()
    return float(scores["target.test"]["interval"]["value"])


def main() -> None:
    """Measure all domains and write the JSON after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=ROOT / "recipes/benchmarks/results/reviews_bound.json")
    options = parser.parse_args()
    for target in REVIEWS:
        for seed in options.seeds:
            results = read_results(options.output)
            scores = results.get(target, {})
            if str(seed) not in scores:
                results[target] = scores | {str(seed): bound(options.data, target, seed)}
                command = command_line("bound", data="DATA", seeds=options.seeds, output=options.output)
                write_results(options.output, command, results)
                print(target, seed, results[target][str(seed)], flush=True)


if __name__ == "__main__":
    main()
