"""What commands show when they are done: tables for people, on standard output; ``rich`` is loaded on use."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fetching import is_url
from .recipe.schema import Recipe
from .recipe.shipped import HUB, resolve_path
from .tables import text_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from .comparison.compare import Comparison
    from .diagnosis.result import Diagnosis
    from .distillation.weigh import Distilled
    from .drawing import Drawn
    from .exporting.write import Exported
    from .hub.push import PushResult
    from .running import RunResult
    from .tasks.base import Score

PIPED_WIDTH = 160
"""Columns where standard output is no terminal: tables in a log or a file are not squeezed."""


def show(*items: RenderableType) -> None:
    """Print text and tables."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for item in items:
        console.print(item, soft_wrap=isinstance(item, str))


def show_json(values: Any) -> None:
    """Print plain values as JSON."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def show_run(result: RunResult, recipe: Recipe) -> None:
    """Print what a run gave: the scores, what they come to, where it lies, and what can be done with it next."""
    from .card.origins import with_origins
    from .conclusions import conclusions

    told = [line for text in conclusions(with_origins(result.metrics, result.folder)) for line in (text, "")]
    report = [f"Report: {result.report}"] if result.report.is_file() else []
    places = [f"Run folder: {result.folder}", *report]
    show("", score_table(result.metrics), "", *told, *places, "", "Next:", *next_commands(result, recipe))


def score_table(metrics: Mapping[str, Any]) -> Table:
    """Draw the scores of a run: a line for each split, a column for each model, and the gain.

    Args:
        metrics: Content of ``metrics.json``.
    """
    from .conclusions import interval_text
    from .guard import TWIN, called

    title = f"{metrics['headline']} [{metrics['confidence']:.0%} interval]"
    roles, gain = metrics["scores"], metrics.get("gain")
    # The baseline first: the table reads "source-only against adapted".
    names = sorted(roles, key=lambda role: role != TWIN)
    rows = []
    for split in next(iter(roles.values())):
        cells = [interval_text(roles[role][split]["interval"]) for role in names]
        rows.append([split, *cells, *([] if gain is None else [interval_text(gain[split], signed=True)])])
    shown = {name: called(name, metrics.get("target_labels")) for name in names}
    header = [f"{shown[name]} (kept)" if name == metrics.get("kept") else shown[name] for name in names]
    return text_table(title, ["split", *header, *([] if gain is None else ["gain"])], rows, no_wrap=True)


def show_drawn(drawn: Drawn) -> None:
    """Print what was drawn, and what to do with it."""
    show(
        f"{drawn.path}: {drawn.rows} of {drawn.among:,} distinct target texts that have no label, drawn at random.",
        f"Write in place of each question mark: {drawn.fill_in}.",
        f"Then give it to the recipe: --set data.target.test={shlex.quote(str(drawn.path.resolve()))}",
        f"So many rows tell an accuracy of 80 % to ±{100 * drawn.half_width:.0f} points (95 %).",
    )


def show_comparison(comparison: Comparison) -> None:
    """Print what a comparison found: a line for each strategy, the pick, and where the runs lie."""
    from .conclusions import comparison_words

    show(
        "",
        comparison_table(comparison.summary),
        "",
        *comparison_words(comparison.summary),
        "",
        f"Folder: {comparison.folder}",
        f"Report: {comparison.report}",
        f"Next: nlp-transfer predict {shlex.quote(str(comparison.picked))} --input FILE --output FILE",
    )


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Draw a comparison: a line for each strategy.

    Args:
        summary: Content of ``comparison.json``.
    """
    from .conclusions import interval_text

    table = summary["strategies"]
    splits = list(next(iter(table.values()))["scores"])
    many = f"{len(summary['seeds'])} seeds" if len(summary["seeds"]) > 1 else "one seed"
    title = f"{summary['headline']}, {many}; gains with simultaneous {summary['confidence']:.0%} intervals"
    rows = []
    for name, entry in table.items():
        scores = [_mean_text(entry["scores"][split]) for split in splits]
        gain = f"{interval_text(entry['gain'], signed=True)} {entry['gain']['verdict']}" if "gain" in entry else ""
        gain += f" (over {entry['over']})" if "over" in entry else ""
        memory = "" if entry["peak_mib"] is None else f"{entry['peak_mib']:,}"
        collapsed = "" if entry["collapsed"] is None else f"{entry['collapsed']} of {entry['runs']}"
        marked = f"{name} ←" if name == summary["picked"] else name
        cost = [f"{entry['steps']:,}", f"{entry['seconds']:.0f}", memory]
        rows.append([marked, *scores, gain, collapsed, f"{entry['mean_rank']:.2f}", *cost])
    header = ["strategy", *splits, "gain over its twin", "collapsed", "mean rank", "steps", "seconds", "MiB"]
    return text_table(title, header, rows, no_wrap=True)


def _mean_text(score: Mapping[str, Any]) -> str:
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return f"{score['mean']:.3f}{spread}"


def next_commands(result: RunResult, recipe: Recipe) -> list[str]:
    """Return the commands to try after a run, ready to paste.

    Args:
        result: The run.
        recipe: Its recipe; its target test file, where there is one, is what ``evaluate`` is shown with.
    """
    folder = shlex.quote(str(result.folder))
    test = recipe.data.target.test
    file = "FILE"
    if test is not None and test.columns is None and test.format is None and not test.path.startswith(HUB):
        file = shlex.quote(resolve_path(recipe.data, test.path))
    return [
        f"  echo 'Some text.' | nlp-transfer predict {folder} --input - --output -",
        f"  nlp-transfer predict {folder} --input texts.txt --output answers.jsonl",
        f"  nlp-transfer evaluate {folder} --data {file}",
    ]


def show_score(score: Score, as_json: bool = False, notes: Sequence[str] = ()) -> None:
    """Print the scores of one data set.

    Args:
        score: From :func:`nlp_transfer.evaluate`.
        as_json: As one JSON object instead of tables.
        notes: What target labels were used for in the making of the model, from
            :func:`nlp_transfer.card.origins.notes_of`.
    """
    if as_json:
        noted = {"notes": [*notes]} if notes else {}
        show_json({"headline": score.headline, "interval": score.interval.to_dict(), **score.metrics, **noted})
        return
    from .conclusions import interval_text

    dropped = score.metrics.get("dropped", {})
    plain = [[name, f"{value:.4f}"] for name, value in score.metrics.items() if isinstance(value, float)]
    parts = score.metrics.get("per_class", score.metrics.get("per_type", {}))
    rows = [
        [name, *(f"{part[key]:.4f}" for key in ("precision", "recall", "f1")), str(part["support"])]
        for name, part in parts.items()
    ]
    show(
        f"{score.headline} {interval_text(score.interval.to_dict())}",
        *(f"{told} dropped, as the model's {name} maps their label to null." for name, told in dropped.items()),
        text_table("", ["metric", "value"], plain, no_wrap=True),
        text_table("", ["label", "precision", "recall", "f1", "support"], rows, no_wrap=True),
        *notes,
    )


def show_check(found: Mapping[str, Any]) -> None:
    """Print what :func:`nlp_transfer.check` found."""
    recipe, data = found["recipe"], found["data"]
    methods = ", ".join(part["name"] for part in recipe["methods"]) or "none"
    show(
        f"The recipe '{recipe['name']}' is valid.",
        f"  task {recipe['task']['name']}, tuning {recipe['tuning']['name']}, methods {methods}",
        f"  selection {recipe['selection']['name']}, guard {'on' if recipe['guard'] else 'off'}",
        *(f"  stage {_stage(stage)}: {_done(stage)}" for stage in recipe["stages"]),
        f"  run folder {recipe['output']}" + (" (exists)" if Path(recipe["output"]).exists() else ""),
        *([f"  compare: {_planned(found['runs'], recipe['compare']['tune'])}"] if found["runs"] else []),
        *(f"Note: {note}" for note in found["notes"]),
    )
    if data is None:
        return
    from .data.inspect import render

    show(f"  model {data['model']['id']} ({data['model']['note']})", *data["notes"], "", *render(data))
    longer = {role: one["longer"] for role, one in data["splits"].items() if one["longer"]}
    if longer:
        done = "lose what is beyond it" if data["truncates"] else "are read in overlapping windows"
        shares = ", ".join(f"{role} {share:.1%}" for role, share in longer.items())
        show(f"Texts longer than {data['max_length']} tokens {done}: {shares}.")


def show_diagnosis(found: Diagnosis, as_json: bool = False, output: Path | None = None) -> None:
    """Print a diagnosis, and write it to a file where one is named.

    Args:
        found: From :func:`nlp_transfer.diagnosis.diagnose.diagnose`.
        as_json: As one JSON object instead of text and tables.
        output: JSON file to write; a folder gets a ``diagnosis.json``.
    """
    if output is not None:
        path = output / "diagnosis.json" if output.is_dir() else output
        path.write_text(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    if as_json:
        show_json(found.to_dict())
        return
    from .diagnosis.report import render

    show(*render(found))


def _planned(runs: Mapping[str, int], tune: Mapping[str, Any] | None) -> str:
    each = next(iter(runs.values()))
    before = "" if tune is None else "; before, a search of settings for each"
    return f"{', '.join(runs)}; {each} seed{'' if each == 1 else 's'}, {sum(runs.values())} runs{before}"


def _stage(stage: Mapping[str, Any]) -> str:
    """Name a stage; one that trains on target labels says so."""
    if stage.get("on", "source") == "source":
        return str(stage["name"])
    share = "" if stage["target_share"] is None else f" with a share of {stage['target_share']:g}"
    return f"{stage['name']} on {stage['on']} (trains on the labels of data.target.train{share})"


def _done(stage: Mapping[str, Any]) -> str:
    """Say how a stage trains, or what it averages."""
    if "train" not in stage:
        return f"the mean of the weights of {1 + len(stage['models'])} models"
    train = stage["train"]
    long = f"{train['epochs']:g} epochs" if train["max_steps"] is None else f"{train['max_steps']} steps"
    rates = f"learning rate {train['learning_rate']:g}"
    if train["head_learning_rate"] != train["learning_rate"]:
        rates += f" (head {train['head_learning_rate']:g})"
    return f"{long}, {train['batch_size']} rows a step, {rates}"


def show_recipes(recipes: Sequence[tuple[str, str, Path]]) -> None:
    """Print the shipped recipes by name."""
    width = max(len(name) for name, _, _ in recipes)
    show(*(f"{name:<{width}}  {title}" for name, title, _ in recipes))


def show_predicted(summary: Mapping[str, Any], output: str) -> None:
    """Say on standard error what a prediction did, and whether rows could not be read."""
    where = "standard output" if output == "-" else output
    if summary["kept"]:
        print(f"rows that an earlier, unfinished prediction had done: {summary['kept']}", file=sys.stderr)
    if summary["commit"] is not None:
        print(f"answered by commit {summary['commit']}", file=sys.stderr)
    print(f"rows: {summary['rows']} in {summary['seconds']} s, written to {where}", file=sys.stderr)
    if summary["errors"]:
        print(f'rows that could not be read: {summary["errors"]}; their lines hold {{"error": …}}', file=sys.stderr)


def show_exported(exported: Exported) -> None:
    """Print how close an export is to its model, its size and its folder."""
    parities = {"fp32": exported.fp32} | ({} if exported.int8 is None else {"int8": exported.int8})
    lines = [f"{name}: {parity.told}" for name, parity in parities.items()]
    show(*lines, f"Export: {exported.folder} ({exported.size / 1e6:.1f} MB)")


def show_distilled(distilled: Distilled) -> None:
    """Print a student beside its teacher: scores of the same rows, size, speed, and where its run lies."""
    from .card.origins import with_origins
    from .conclusions import interval_text, label_notes

    rows = [
        [
            name,
            *(f"{value:.4f}" for value in side.scores.values()),
            f"{side.parameters:,}",
            f"{side.texts_per_second:.0f}",
        ]
        for name, side in (("teacher", distilled.teacher), ("student", distilled.student))
    ]
    gain = [interval_text(interval.to_dict(), signed=True) for interval in distilled.gain.values()]
    smaller = distilled.teacher.parameters / distilled.student.parameters
    faster = distilled.student.texts_per_second / distilled.teacher.texts_per_second
    rows.append(["student − teacher", *gain, f"{smaller:.1f} times smaller", f"{faster:.1f} times faster"])
    header = ["model", *distilled.gain, "weights", "texts/s"]
    run = distilled.run
    notes = [line for note in label_notes(with_origins(run.metrics, run.folder)) for line in (note, "")]
    show("", text_table(run.metrics["headline"], header, rows, no_wrap=True), "", *notes, f"Run folder: {run.folder}")


def show_push(result: PushResult) -> None:
    """Print what was pushed and where it lies; of a dry run the files and the card."""
    if result.url is not None:
        show(f"{len(result.files)} files, {sum(result.files.values()):,} bytes: {result.url}")
        return
    width = max(map(len, result.files))
    private = "" if is_url(result.repo) else ", private" if result.private else ", public"
    show(
        f"Nothing is pushed. To {result.repo}{private}:",
        *(f"  {name:<{width}}  {size:>13,}" for name, size in result.files.items()),
        "",
        result.card,
    )
