"""Write the README's results from the JSON files, between its `<!-- results -->` markers.

python tests/benchmarks/tables.py
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from spread import mean_interval

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "recipes" / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
SPEED_TITLES = {
    "finetune": "fine-tuning, classification",
    "mlm": "masked-LM pretraining",
    "frozen": "frozen features, 20 epochs",
    "predict": "prediction",
}


def quality_table(record: dict[str, Any], metric: str) -> list[str]:
    """One line a recipe: mean ± sd over seeds on source dev and target test, and optimizer steps."""
    lines = [f"| run | seeds | source dev {metric} | target test {metric} | steps |", "|---|---|---|---|---|"]
    for name, entry in record["results"].items():
        cells = [cell(entry, split) for split in ("source.dev", "target.test")]
        steps = " + ".join(str(count) for count in entry["runs"][0]["steps"].values())
        lines.append(f"| {name} | {len(entry['runs'])} | {cells[0]} | {cells[1]} | {steps} |")
    return lines


def intent_table(record: dict[str, Any]) -> list[str]:
    """One line a way and number of examples: mean ± sd over draws, the paired gain over fine-tuning, and steps."""
    head = "| examples of each intent: way | draws | test accuracy | over fine-tuning | steps |"
    lines = [head, "|---|---|---|---|---|"]
    for name, entry in record["results"].items():
        gain = entry.get("gain")
        told = points(gain) if gain else ""
        steps = " + ".join(str(count) for count in entry["runs"][0]["steps"].values())
        lines.append(f"| {name} | {len(entry['runs'])} | {cell(entry, 'target.test')} | {told} | {steps} |")
    return lines


def points(gain: dict[str, float]) -> str:
    """A gain with its interval in percentage points."""
    return f"{100 * gain['value']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def cell(entry: dict[str, Any], split: str) -> str:
    """Mean ± sd over seeds; for one seed the value with its bootstrap interval."""
    numbers = entry["summary"][split]
    if numbers["runs"] > 1:
        return f"{numbers['mean']:.3f} ± {numbers['sd']:.3f}"
    interval = entry["runs"][0]["scores"][split]
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def transfer_table(record: dict[str, Any], mean: bool = False) -> list[str]:
    """One line a strategy: its score in each case with the gain over the twin of equal steps.

    Args:
        record: The results.
        mean: The cases are so many and so much apart that they have a mean gain.
    """
    cases = record["results"]
    named = dict.fromkeys(name for case in cases.values() for name in case["strategies"])
    head = ["strategy", *cases, *(["mean gain"] if mean else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in named:
        entries = [case["strategies"].get(name) for case in cases.values()]
        gains = [entry["gain"]["value"] for entry in entries if entry is not None and "gain" in entry]
        lines.append(transfer_line(name, [transfer_cell(entry) for entry in entries], gains if mean else None))
        guarded = [entry["guarded"] for entry in entries if entry is not None and "guarded" in entry]
        if mean and len(guarded) == len(cases):
            gains = [statistics.fmean(gain or 0.0 for gain in one) for one in guarded]
            cells = [
                f"{100 * gain:+.1f} ({sum(kept is not None for kept in one)} of {len(one)} kept)"
                for gain, one in zip(gains, guarded, strict=True)
            ]
            lines.append(transfer_line(f"*{name}, guarded*", cells, gains))
    if all("picked" in case for case in cases.values()):
        gains = [picked_gain(case) for case in cases.values()]
        cells = [f"{case['picked']} ({100 * gain:+.1f})" for case, gain in zip(cases.values(), gains, strict=True)]
        lines.append(transfer_line("*picked without labels*", cells, gains if mean else None))
    if all("plain_soup" in case for case in cases.values()):
        lines.append(
            scores_line("mean of the source-only models", [case["plain_soup"] for case in cases.values()], cases)
        )
    if all("final" in case for case in cases.values()):
        # What the same averaging gives without adaptation stands beside the mean.
        ends = [case["final"] for case in cases.values()]
        reached = [one["scores"]["target.test"]["value"] for one in ends]
        plain = list(map(twins_score, cases.values()))
        lines.append(
            scores_line("what the comparison says to go on with", list(map(told_score, cases.values())), cases)
        )
        lines.append(scores_line("mean of the picked runs", reached, cases))
        lines.append(scores_line("mean of their source-only twins", plain, cases))
    return lines


def twins_score(case: dict[str, Any]) -> float:
    """Target score of the mean of the twins of the picked runs: of as many source-only models."""
    final = case["final"]
    return float(final["scores"]["target.test"]["value"] - final.get("gain", {"value": 0.0})["value"])


def told_score(case: dict[str, Any]) -> float:
    """Target score of the model that a comparison says to go on with: the mean of the picked runs, or one of them."""
    if case["final"]["advised"]:
        return float(case["final"]["scores"]["target.test"]["value"])
    _, strategy, seed = case["picked_run"].split("/")
    return float(case["strategies"][strategy]["scores"]["target.test"]["values"][case["seeds"].index(int(seed))])


def transfer_line(name: str, cells: list[str], gains: list[float] | None) -> str:
    """A line of the table above, with the mean of gains over cases where there is one."""
    return f"| {' | '.join([name, *cells, *([] if gains is None else [over_cases(gains)])])} |"


def scores_line(title: str, scores: list[float], cases: dict[str, Any]) -> str:
    """A line of scores that stand beside source-only's."""
    gains = [score - plain_score(case) for score, case in zip(scores, cases.values(), strict=True)]
    cells = [f"{100 * score:.1f} ({100 * gain:+.1f})" for score, gain in zip(scores, gains, strict=True)]
    return transfer_line(f"*{title}*", cells, gains)


def reviews_table(record: dict[str, Any]) -> list[str]:
    """The transfers between domains of reviews, with the bound of each target below."""
    lines, cases = transfer_table(record, mean=True), record["results"]
    bounds = json.loads((RESULTS / "reviews_bound.json").read_text(encoding="utf8"))["results"]
    reached = [statistics.fmean(bounds[name.rpartition("-")[2]].values()) for name in cases]
    gaps = [score - plain_score(case) for score, case in zip(reached, cases.values(), strict=True)]
    lines.append(scores_line("trained on the target's labels", reached, cases))
    gains = {"the pick": [picked_gain(case) for case in cases.values()]}
    if all("plain_soup" in case for case in cases.values()):
        gains["the mean of the source-only models"] = [
            case["plain_soup"] - plain_score(case) for case in cases.values()
        ]
    if all("final" in case for case in cases.values()):
        gains["the model to go on with"] = [told_score(case) - plain_score(case) for case in cases.values()]
        gains["the mean of as many source-only models"] = [
            twins_score(case) - plain_score(case) for case in cases.values()
        ]
    told = "; ".join(f"{name} {share_text(own, gaps)}" for name, own in gains.items())
    return [*lines, "", f"Share of the mean gap that is closed, with 95 % intervals over the pairs: {told}."]


def share_text(gains: list[float], gaps: list[float]) -> str:
    """The sum of gains ÷ the sum of gaps, with the percentiles of a bootstrap over pairs."""
    draw = random.Random(0)
    pairs = list(zip(gains, gaps, strict=True))
    drawn = [draw.choices(pairs, k=len(pairs)) for _ in range(10_000)]
    shares = sorted(sum(gain for gain, _ in one) / sum(gap for _, gap in one) for one in drawn)
    return f"{sum(gains) / sum(gaps):.2f} [{shares[250]:.2f}, {shares[-251]:.2f}]"


def bound_table(record: dict[str, Any]) -> list[str]:
    """One line a target: mean ± sd over seeds of the model of its own labels."""
    lines = ["| target | seeds | accuracy |", "|---|---|---|"]
    for target, by_seed in record["results"].items():
        scores = [100 * score for score in by_seed.values()]
        lines.append(f"| {target} | {len(scores)} | {statistics.fmean(scores):.1f} ± {statistics.stdev(scores):.1f} |")
    return lines


def over_cases(gains: list[float]) -> str:
    """Mean gain over cases in percentage points with its interval over them; nothing where there are no gains."""
    return points(mean_interval(gains)) if len(gains) > 1 else ""


def rates_table(record: dict[str, Any]) -> list[str]:
    """One line a setting: its source-dev score in each domain."""
    cases = record["results"]
    lines = [f"| rate | {' | '.join(cases)} | mean |", "|---" * (len(cases) + 2) + "|"]
    for name in next(iter(cases.values()))["strategies"]:
        scores = [case["strategies"][name]["scores"]["source.dev"]["mean"] for case in cases.values()]
        cells = " | ".join(f"{100 * score:.1f}" for score in [*scores, statistics.fmean(scores)])
        lines.append(f"| {'5e-5' if name == 'source_only' else name} | {cells} |")
    return lines


def picked_gain(case: dict[str, Any]) -> float:
    """Gain over its twin of the strategy that was picked without target labels; 0 of source-only."""
    gain = case["strategies"][case["picked"]].get("gain", {"value": 0.0})
    return float(gain["value"])


def plain_score(case: dict[str, Any]) -> float:
    """Mean target score of source-only."""
    return float(case["strategies"]["source_only"]["scores"]["target.test"]["mean"])


def transfer_cell(entry: dict[str, Any] | None) -> str:
    """Mean ± sd over seeds in percent, with the gain and its interval."""
    if entry is None:
        return ""
    test = entry["scores"]["target.test"]
    spread = f" ± {100 * test['sd']:.1f}" if test["sd"] is not None else ""
    score = f"{100 * test['mean']:.1f}{spread}"
    if "gain" not in entry:
        return score
    gain = entry["gain"]
    value, interval = points(gain).split(" ", 1)
    return f"{score} (**{value}** {interval})" if gain["verdict"] == "helped" else f"{score} ({value} {interval})"


def speed_table(record: dict[str, Any]) -> list[str]:
    """One line a kind of work and way."""
    lines = ["| work | way | seconds | tokens/s | peak memory | times faster |", "|---|---|---|---|---|---|"]
    for work, entry in record["results"].items():
        for way, figures in entry.items():
            if isinstance(figures, dict):
                faster = f"**{entry['times_faster']:.1f}**" if way == "nlp_transfer" else ""
                lines.append(
                    f"| {SPEED_TITLES[work]} | {way} | {figures['seconds']:.1f} | {figures['tokens_per_second']:,} | "
                    f"{figures['peak_mib']:,} MiB | {faster} |"
                )
    return lines


def costs_table(record: dict[str, Any]) -> list[str]:
    """One line a strategy: everything relative to source-only."""
    lines = ["| strategy | steps | time | peak memory |", "|---|---|---|---|"]
    for name, one in record["results"].items():
        memory = f"{one['times_peak_mib']:.2f}× ({one['peak_mib']:,} MiB)"
        lines.append(f"| {name} | {one['times_steps']:.1f}× | {one['times_seconds']:.2f}× | {memory} |")
    return lines


def serving_table(record: dict[str, Any]) -> list[str]:
    """One line a kind of model and way of predicting."""
    lines = ["| model | way | texts/s | times faster | p50 | p99 | score |", "|---|---|---|---|---|---|---|"]
    for kind, ways in record["results"].items():
        for way, figures in ways.items():
            score = f"{figures['score']:.4f}" if "score" in figures else ""
            lines.append(
                f"| {kind} | {way} | {figures['texts_per_second']:.0f} | {figures['times_faster']:.1f} | "
                f"{figures['p50_ms']:.1f} ms | {figures['p99_ms']:.1f} ms | {score} |"
            )
    return lines


def service_table(record: dict[str, Any]) -> list[str]:
    """One line a number of clients; what came of more than the service can take."""
    lines = ["| clients | requests/s | p50 | p99 | lost | mixed up |", "|---|---|---|---|---|---|"]
    for one in record["results"]["throughput"]:
        latency = f"{one['p50_ms']:.0f} ms | {one['p99_ms']:.0f} ms"
        rate, faults = f"{one['requests_per_second']:.0f}", f"{one['lost']} | {one['mixed']}"
        lines.append(f"| {one['clients']} | {rate} | {latency} | {faults} |")
    more = record["results"]["overload"]
    statuses = ", ".join(f"{count} × {status}" for status, count in more["statuses"].items())
    told = (
        f"{more['clients']} clients without a pause on a queue of 2,000 tokens: {statuses}; {more['hanging']} hanging, "
        f"{more['mixed']} mixed up; the longest refusal took {more['longest_refusal_ms']:.0f} ms, the longest answer "
        f"{more['longest_answer_ms']:.0f} ms."
    )
    return [*lines, "", told]


def round_trip_table(record: dict[str, Any]) -> list[str]:
    """One line a run and form."""
    lines = [
        "| run | largest logit | largest difference | same bits | from the adapter unmerged | size |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in record["results"].items():
        same = "yes" if one["same_bits"] else "no"
        unmerged = one["largest_difference_unmerged"]
        apart = f"{one['largest_difference']:.2g} | {same} | {'' if unmerged is None else f'{unmerged:.2g}'}"
        figures = f"{one['largest_logit']} | {apart} | {one['megabytes']:.1f} MB"
        lines.append(f"| {name} | {figures} |")
    return lines


TABLES: list[tuple[str, str, Callable[[dict[str, Any]], list[str]]]] = [
    (
        "books_kitchen",
        "Sentiment, books → kitchen (Amazon reviews), all-MiniLM-L6-v2",
        partial(quality_table, metric="accuracy"),
    ),
    ("conll", "NER, CoNLL-2003, all-MiniLM-L6-v2, one epoch", partial(quality_table, metric="F1")),
    ("banking77", "Intents, BANKING77, a few examples of each of 77, the other 9,000 texts unlabelled", intent_table),
    (
        "reviews",
        "Adaptation, sentiment of reviews: target accuracy in percent (gain over the twin of equal steps)",
        reviews_table,
    ),
    ("reviews_final", "The same pairs, one method, and the models that the comparisons end with", reviews_table),
    ("reviews_bound", "The same model trained on 1,000 texts of the target with their labels, 214 steps", bound_table),
    (
        "reviews_unbounded",
        "The same with `bounded: false`: adversaries as in the papers",
        partial(transfer_table, mean=True),
    ),
    (
        "reviews_student",
        "The same with a student of the others (`ensemble`) in place of their mean",
        partial(transfer_table, mean=True),
    ),
    ("reviews_screen", "All strategies on two of these pairs, one seed", transfer_table),
    ("reviews_joint_mlm", "`joint_mlm` after `pretrain`, one pair, one seed", transfer_table),
    (
        "reviews_rates",
        "Rate and length of source-only there, by source dev alone (accuracy in percent)",
        rates_table,
    ),
    (
        "news_ner",
        "Adaptation, entities from news to politics and science without target labels: F1 in percent, 400 steps",
        transfer_table,
    ),
    ("news_ner_more", "The other methods there, one seed", transfer_table),
    ("news_ner_few", "200 labelled target sentences: entity F1 in percent, up to 400 steps on news", transfer_table),
    ("costs", "What a strategy costs, beside source-only", costs_table),
    ("speed", "Speed and memory beside plain `transformers`", speed_table),
    ("serving", "Prediction: stock `pipeline`, this package, and its exports", serving_table),
    ("service", "The HTTP service, one text a request", service_table),
    ("round_trip", "Logits after push, pull and reload beside those of the run", round_trip_table),
]
"""Name of the JSON file, title and maker of each table, in order."""

IN_README = {
    "reviews",
    "reviews_final",
    "news_ner",
    "news_ner_more",
    "news_ner_few",
    "banking77",
    "costs",
    "speed",
    "serving",
}
"""Those that users ask for first; all others stand beside the benchmarks' recipes."""
FURTHER = ROOT / "recipes" / "benchmarks" / "README.md"
ABOUT = """# Further results

Tables that the [README](../../README.md#results) leaves out. Each says which file it comes from and which command makes
it; `python tests/benchmarks/tables.py` writes this page.

"""


def machine(record: dict[str, Any]) -> str:
    """Hardware, versions and date of a record in one line."""
    hardware = record["hardware"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    precision = "bf16" if hardware["native_bf16"] else "fp32: no native bf16"
    return f"{hardware['processor']}, {hardware['cores']} cores ({precision}); {versions}; {record['date']}."


def section(title: str, name: str, table: list[str], record: dict[str, Any]) -> list[str]:
    """A titled table with how to reproduce it."""
    made = f"From `recipes/benchmarks/results/{name}.json`: {machine(record)}"
    made += f" {record['note']}" if "note" in record else ""
    return [f"**{title}**", "", *table, "", made, "", "```bash", record["command"], "```", ""]


def results_text(in_readme: bool) -> str:
    """The results of the README, or all others, as Markdown."""
    lines: list[str] = []
    for name, title, table in TABLES:
        path = RESULTS / f"{name}.json"
        if path.is_file() and (name in IN_README) == in_readme:
            record = json.loads(path.read_text(encoding="utf8"))
            lines += section(title, name, table(record), record)
    return "\n".join(lines)


def main() -> None:
    """Rewrite the README between the markers, and the page of further results."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf8")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    readme.write_text(f"{before}{BEGIN}\n{results_text(True)}{END}{after}", encoding="utf8")
    FURTHER.write_text(ABOUT + results_text(False).rstrip() + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
