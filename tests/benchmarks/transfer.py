"""Strategies of adaptation on real data, over pairs of domains and seeds, as JSON.

    python tests/benchmarks/transfer.py reviews --data DATA_FOLDER --seeds 1 2 3 --strategies source_only dann mcc soup

Compares strategies on a recipe of `recipes/benchmarks/`, once for each case (a pair of domains). Finished runs are kept
in `runs/benchmarks/`, so it can be stopped, extended, and started in several terminals at once; what is measured joins
what the output file holds of other cases. With `--plain-soup`, beside it the mean of the weights of the source-only
models of all seeds: what the averaging of `soup` does without any adaptation. What adaptation could reach at most on
the reviews, `bound.py` measures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from record import command_line, command_of, read_results, write_results

if TYPE_CHECKING:
    from nlp_transfer.recipe.schema import Recipe

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


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        recipe: Recipe in `recipes/benchmarks/`.
        overrides: What is different from it.
    """

    recipe: str
    overrides: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The recipe's file."""
        return ROOT / "recipes" / "benchmarks" / f"{self.recipe}.yaml"


NEWS = "{name: finetune, train: {max_steps: 400}}"
FEW = {
    "target": "stages=[{name: finetune, on: target, train: {epochs: 30}}]",
    "source, then target": f"stages=[{NEWS}, {{name: finetune, on: target, train: {{epochs: 15}}}}]",
    "both": "stages=[{name: finetune, on: both, train: {max_steps: 400}}]",
}
SCIENCE = [f"data.target.{role}=ner/science/{file}.conll" for role, file in (("unlabelled", "dev"), ("test", "test"))]
BENCHMARKS: dict[str, dict[str, Case]] = {
    "reviews": {f"{a}-{b}": Case("reviews", review_files(a, b)) for a in REVIEWS for b in REVIEWS if a != b},
    "reviews_rates": {domain: Case("reviews_rates", review_files(domain, domain)[:2]) for domain in REVIEWS},
    "news_ner": {name: Case(f"conll_{name}", ["train.max_steps=400"]) for name in ("politics", "science")},
    "news_ner_few": {
        f"{name}: {way}": Case("conll_politics_few", [stages, *files])
        for name, files in (("politics", []), ("science", [*SCIENCE, "data.target.train=ner/science/train.conll"]))
        for way, stages in FEW.items()
    },
}


def measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Compare all strategies on one case."""
    from nlp_transfer import compare, load_recipe

    case = BENCHMARKS[options.benchmark][name]
    folder = Path("runs/benchmarks") / options.benchmark / "".join(c if c.isalnum() else "-" for c in name)
    recipe = load_recipe(case.path, [f"data.folder={options.data}", *case.overrides])
    siblings = [*folder.parent.glob("*/runs/source_only/*")]  # The same source with another target has the same twin.
    found = compare(recipe, options.strategies, options.seeds, folder=folder, reuse=siblings)
    summary: dict[str, Any] = found.summary
    for strategy, entry in summary["strategies"].items():
        runs = [folder / "runs" / strategy / str(seed) for seed in options.seeds]
        if "gain" in entry and any(map(_guard, runs)):
            entry["guarded"] = list(map(guarded, runs))
    if options.plain_soup:
        summary["plain_soup"] = plain_soup(recipe, folder, options.seeds)
    return summary


def guarded(run: Path) -> float | None:
    """Gain of the model that the guard keeps in a run of its own, where it asks for evidence; None: the twin."""
    from nlp_transfer.evidence import Vote
    from nlp_transfer.guard import ADAPTED, weigh
    from nlp_transfer.recipe.trust import GuardSpec

    seen = _guard(run)
    if "evidence" not in seen or seen["collapsed"]:  # too few units, or outputs that are no numbers
        return None
    votes = {name: Vote(value, seen["evidence_error"][name]) for name, value in seen["evidence"].items()}
    kept, _ = weigh(votes, GuardSpec())
    return float(_metrics(run)["gain"]["target.test"]["value"]) if kept == ADAPTED else None


def _guard(run: Path) -> dict[str, Any]:
    """What the guard of a run has measured; nothing where it has no twin, or its training failed."""
    found: dict[str, Any] = _metrics(run).get("guard", {})
    return found


def _metrics(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    return found


def plain_soup(recipe: Recipe, folder: Path, seeds: list[int]) -> float:
    """Target score of the mean of the weights of all source-only models: what averaging does without adaptation."""
    from nlp_transfer import run
    from nlp_transfer.recipe.comparing import StrategySpec
    from nlp_transfer.strategies import strategy_recipe

    first, *others = [folder / "runs" / "source_only" / str(seed) for seed in seeds]
    models = ", ".join(str((other / "model").resolve()) for other in others)
    stages = f"stages=[finetune, {{name: soup, models: [{models}]}}]"
    output = folder / f"plain-soup-{'-'.join(map(str, seeds))}"
    own = strategy_recipe(recipe, StrategySpec(name="source_only", set=[stages]), seeds[0], str(output))
    result = run(own.model_copy(update={"source_only": False, "guard": False}), reuse=[first], checked=False)
    (scores,) = result.metrics["scores"].values()
    return float(scores["target.test"]["interval"]["value"])


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def _command(options: argparse.Namespace, cases: list[str]) -> str:
    """Return the command that measures these cases."""
    return command_line(
        "transfer",
        options.benchmark,
        data="DATA",
        cases=cases if len(cases) < len(BENCHMARKS[options.benchmark]) else None,
        strategies=options.strategies,
        seeds=options.seeds,
        plain_soup=options.plain_soup,
        output=options.output,
    )


def main() -> None:
    """Measure all cases and write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", help="by default all")
    parser.add_argument("--strategies", nargs="+", help="by default those of the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--plain-soup", action="store_true", help="the mean of the source-only models of all seeds, too"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.plain_soup and len(options.seeds) < 2:
        parser.error("--plain-soup needs at least two seeds")
    output = options.output or ROOT / "recipes" / "benchmarks" / "results" / f"{options.benchmark}.json"
    held = read_results(output)
    others = [name for name in held if name not in (options.cases or BENCHMARKS[options.benchmark])]
    anew = bool(held) and command_of(output) != _command(options, list(held))
    if others and anew:
        parser.error(f"{output} holds {', '.join(others)}, measured by another command. Give another --output.")
    for name in options.cases or BENCHMARKS[options.benchmark]:
        summary = measure(options, name)
        results = ({} if anew else read_results(output)) | {name: summary}
        anew = False
        write_results(output, _command(options, list(results)), results)
        print(name, {strategy: entry["scores"] for strategy, entry in summary["strategies"].items()}, flush=True)


if __name__ == "__main__":
    main()
