"""Throughput and latency of prediction: stock `pipeline`, this package with torch, and its exports, in one run.

    python tests/benchmarks/serving.py --data DATA_FOLDER --classifier RUN … --tagger RUN … --output FILE.json

Kitchen reviews for classifiers and CoNLL-2003 sentences for taggers. Each way runs in a process of its own,
alone; ways take turns. Loading is not counted, tokenising is. The pipeline reads the first window of a text only; the
others read all of it, in batches of `--batch-tokens`. It computes in fp32 unless told otherwise, and so has a row in
bf16, too, as the predictor takes bf16 where the processor has it. Throughput is that of all texts handed over at once,
the best of `--rounds`; latency that of one text after the other, over all rounds. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import command_line, in_process, write_results

FILES = {"classifier": "sentiment/kitchen/target_test.jsonl", "tagger": "ner/conll2003/test.conll"}
PIPELINES = {"classifier": "text-classification", "tagger": "token-classification"}
STOCK, STOCK_BF16 = "pipeline, batch 32", "pipeline, batch 32, bf16"
WAYS = (STOCK, STOCK_BF16, "torch", "ONNX fp32", "ONNX int8")


def read_texts(kind: str, file: Path, rows: int) -> list[str]:
    """Return the first texts of a file."""
    from nlp_transfer.data.load import load_split

    split = load_split(str(file), name="data", kind="words" if kind == "tagger" else "text")
    return list(split.rows["text"][:rows])


def stock(kind: str, run: Path, bf16: bool) -> Callable[[list[str]], Any]:
    """Return the pipeline of a run's whole model, as the library loads it, with its best known arguments."""
    import torch
    import transformers

    limits = {} if kind == "tagger" else {"truncation": True, "max_length": tokens_of(run)}
    grouped = {"aggregation_strategy": "first"} if kind == "tagger" else {}
    pipe = transformers.pipeline(
        PIPELINES[kind],
        model=str(run / "model"),
        dtype=torch.bfloat16 if bf16 else torch.float32,
        device="cpu",
        **grouped,
    )
    return lambda texts: pipe(texts, batch_size=32, **limits)


def measure(way: str, kind: str, place: Path, file: Path, rows: int, single: int, batch_tokens: int) -> dict[str, Any]:
    """Time one way in this process."""
    from nlp_transfer import load_predictor

    texts = read_texts(kind, file, rows)
    own = way not in (STOCK, STOCK_BF16)
    answer = load_predictor(place, batch_tokens=batch_tokens) if own else stock(kind, place, way == STOCK_BF16)
    answer(texts[:8])
    begun = time.perf_counter()
    answer(texts)
    seconds = time.perf_counter() - begun
    times = []
    for text in texts[:single]:
        begun = time.perf_counter()
        answer([text])
        times.append(1000 * (time.perf_counter() - begun))
    return {"texts_per_second": round(len(texts) / seconds, 1), "times": times}


def summed_up(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best throughput, and the latency over all rounds."""
    p50, p99 = np.percentile([time for one in rounds for time in one["times"]], [50, 99])
    highest = max(one["texts_per_second"] for one in rounds)
    return {"texts_per_second": highest, "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def score(way: str, kind: str, place: Path, file: Path) -> float:
    """Return the headline score of a model, export or pipeline on all rows of a file."""
    from nlp_transfer import evaluate

    if way in (STOCK, STOCK_BF16):
        value = stock_score(kind, stock(kind, place, way == STOCK_BF16), file)
    else:
        value = evaluate(place, str(file), resamples=1).interval.value
    return round(value, 4)


def stock_score(kind: str, answer: Callable[[list[str]], Any], file: Path) -> float:
    """Accuracy of a pipeline's labels; of a tagger strict entity F1 by the characters of its entities."""
    from nlp_transfer.data.load import load_split
    from nlp_transfer.data.tags import to_spans

    rows = load_split(str(file), name="data", kind="ner" if kind == "tagger" else "classification").rows
    given = answer(list(rows["text"]))
    if kind == "classifier":
        return float(np.mean([one["label"] == gold for one, gold in zip(given, rows["label"], strict=True)]))
    hits = predicted = truths = 0
    for row, found in zip(rows, given, strict=True):
        gold = {(one["start"], one["end"], one["label"]) for one in to_spans(row["words"], row["starts"], row["tags"])}
        own = {(one["start"], one["end"], one["entity_group"]) for one in found}
        hits, predicted, truths = hits + len(gold & own), predicted + len(own), truths + len(gold)
    return 2 * hits / max(1, predicted + truths)


def tokens_of(run: Path) -> int:
    """Return how many tokens of a text the model of a run reads."""
    from nlp_transfer import load_predictor

    return load_predictor(run, device="cpu").limits.max_length


def compare(kind: str, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every way for one model."""
    from nlp_transfer import export

    file = options.data / FILES[kind]
    with tempfile.TemporaryDirectory() as folder:
        places = dict.fromkeys(WAYS, run)
        for way, int8 in (("ONNX fp32", False), ("ONNX int8", True)):
            exported = export(run, Path(folder) / way.replace(" ", "-"), int8=int8, force=True, data=str(file))
            places[way] = exported.folder
            print(f"{kind:10} {way:18} {(exported.int8 or exported.fp32).told}", flush=True)
        settings = (file, options.rows, options.single, options.batch_tokens)
        asked = {way: json.dumps([way, kind, place, *settings], default=str) for way, place in places.items()}
        rounds = [{way: in_process(__file__, "--one", asked[way]) for way in WAYS} for _ in range(options.rounds)]
        results = {way: summed_up([one[way] for one in rounds]) for way in WAYS}
        for way in WAYS:
            figures = results[way]
            figures["times_faster"] = round(figures["texts_per_second"] / results[WAYS[0]]["texts_per_second"], 2)
            figures["score"] = score(way, kind, places[way], file)
            print(f"{kind:10} {way:18} {figures}", flush=True)
    return results


def main() -> None:
    """Run every way, print the figures and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with sentiment/kitchen and ner/conll2003")
    parser.add_argument(
        "--classifier", type=Path, nargs="+", default=[], help="finished runs that classify reviews, with whole weights"
    )
    parser.add_argument(
        "--tagger", type=Path, nargs="+", default=[], help="finished runs that tag entities, with whole weights"
    )
    parser.add_argument("--rows", type=int, default=1000, help="texts for throughput")
    parser.add_argument("--single", type=int, default=200, help="texts for latency")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, kind, place, file, *numbers = json.loads(options.one)
        print(json.dumps(measure(way, kind, Path(place), Path(file), *map(int, numbers))))
        return
    given = {kind: getattr(options, kind) for kind in FILES if getattr(options, kind)}
    if options.data is None or not given:
        parser.error("--data and at least one of --classifier and --tagger are needed")
    runs = {f"{kind}, {tokens_of(run)} tokens": (kind, run) for kind, some in given.items() for run in some}
    if len(runs) < sum(map(len, given.values())):
        parser.error("two runs of a kind read equally many tokens")
    results = {name: compare(kind, run, options) for name, (kind, run) in runs.items()}
    if options.output:
        named: dict[str, Any] = {kind: ["RUN"] * len(some) for kind, some in given.items()}
        counts = {key: getattr(options, key) for key in ("rows", "single", "rounds", "batch_tokens")}
        write_results(
            options.output, command_line("serving", data="DATA", **named, **counts, output=options.output), results
        )


if __name__ == "__main__":
    main()
