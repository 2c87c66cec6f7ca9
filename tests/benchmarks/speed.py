"""Speed and peak memory beside plain `transformers` scripts, on the same work in the same run.

    python tests/benchmarks/speed.py --data DATA_FOLDER --output recipes/benchmarks/results/speed.json

The plain peer is the stock `Trainer` (or `pipeline`) with its default arguments, wired as the official example scripts
wire it: 16 rows a batch, random order, padding to the longest row of the batch; it computes in fp32. What trains the
whole model has a row of it with `bf16=True`, too, as this package takes bf16 where the processor has it. Each way runs
in a process of its own, alone; loading and tokenising are not counted. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from record import command_line, in_process, read_results, write_results

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MAX_LENGTH = 256
FROZEN_EPOCHS = 20
BF16 = "plain, bf16"


def read_rows(path: Path, count: int) -> list[dict[str, str]]:
    """First rows of a JSON-lines file."""
    with path.open(encoding="utf8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


class Job:
    """Rows, tokenizer and model folder that both ways share."""

    def __init__(self, data: Path, rows: int):
        from nlp_transfer import finding, models

        self.source = finding.resolve(MODEL)
        self.tokenizer = models.load_tokenizer(self.source)
        self.tokenizer.model_max_length = MAX_LENGTH
        self.labelled = read_rows(data / "sentiment/books/source_train.jsonl", rows)
        self.unlabelled = [row["text"] for row in read_rows(data / "sentiment/kitchen/target_unlabelled.jsonl", rows)]
        self.data = data

    def encode(self, texts: list[str]) -> list[dict[str, Any]]:
        ids = self.tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        return [{"input_ids": row} for row in ids]

    def tokens(self, texts: list[str]) -> int:
        return sum(len(row["input_ids"]) for row in self.encode(texts))


def stock_trainer(
    job: Job, model: Any, rows: list[dict[str, Any]], collator: Any, epochs: float = 1.0, bf16: bool = False
) -> float:
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            folder, per_device_train_batch_size=16, num_train_epochs=epochs, use_cpu=True, save_strategy="no",
            report_to="none", disable_tqdm=True, logging_strategy="no", bf16=bf16,
        )  # fmt: skip
        trainer = transformers.Trainer(model, args, data_collator=collator, train_dataset=rows)
        begun = time.perf_counter()
        trainer.train()
        return time.perf_counter() - begun


def labelled_rows(job: Job) -> list[dict[str, Any]]:
    rows = job.encode([row["text"] for row in job.labelled])
    return [{**row, "labels": int(given["label"] == "positive")} for row, given in zip(rows, job.labelled, strict=True)]


def finetune_stock(job: Job, bf16: bool = False) -> float:
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(job.source.folder, num_labels=2)
    collator = transformers.DataCollatorWithPadding(job.tokenizer)
    return stock_trainer(job, model, labelled_rows(job), collator, bf16=bf16)


def mlm_stock(job: Job, bf16: bool = False) -> float:
    import transformers

    model = transformers.AutoModelForMaskedLM.from_pretrained(job.source.folder)
    collator = transformers.DataCollatorForLanguageModeling(job.tokenizer, mlm_probability=0.15)
    return stock_trainer(job, model, job.encode(job.unlabelled), collator, bf16=bf16)


def frozen_stock(job: Job) -> float:
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(job.source.folder, num_labels=2)
    for name, parameter in model.bert.named_parameters():
        parameter.requires_grad = name.startswith("pooler")
    collator = transformers.DataCollatorWithPadding(job.tokenizer)
    return stock_trainer(job, model, labelled_rows(job), collator, FROZEN_EPOCHS)


def ours(job: Job, folder: Path, **changes: Any) -> float:
    """Return the seconds of a stage's training, with its evaluation and checkpoints, as the stock Trainer's are taken.

    For frozen features the whole stage counts, as computing them is a part of the work.
    """
    import datasets

    from nlp_transfer import parts
    from nlp_transfer.preparing.load import load_splits
    from nlp_transfer.recipe import resolve
    from nlp_transfer.reporter import Reporter
    from nlp_transfer.stages.base import Before
    from nlp_transfer.stages.finetune import finetune
    from nlp_transfer.stages.pretrain import pretrain
    from nlp_transfer.workspace import open_workspace

    recipe = {
        "name": "speed",
        "model": MODEL,
        "task": "sentiment",
        "data": {
            "source": {"train": "-"},
            "target": {"unlabelled": "-"},
            "max_length": MAX_LENGTH,
            "long_texts": "truncate",
        },
        "train": {"epochs": 1, "batch_size": 16},
    } | changes
    checked = resolve(parts.recipe_from(recipe))
    given = {
        "source.train": datasets.Dataset.from_list(job.labelled),
        "source.dev": datasets.Dataset.from_list(job.labelled[:4]),
        "target.unlabelled": datasets.Dataset.from_dict({"text": job.unlabelled}),
    }
    space = open_workspace(checked, load_splits(checked, given), folder, Reporter())
    stage = checked.stages[0]
    begun = time.perf_counter()
    if stage.name == "pretrain":
        done = pretrain(space, stage, folder / "stage", "speed", Before())
    else:
        done = finetune(space, stage, folder / "stage", "speed", Before(), title="speed")
    whole = time.perf_counter() - begun
    return whole if checked.tuning.name == "frozen" else float(done.facts["seconds"])


def finetune_ours(job: Job) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return ours(job, Path(folder))


def mlm_ours(job: Job) -> float:
    stages = [{"name": "pretrain", "block_length": 128, "head_steps": 0}, "finetune"]
    with tempfile.TemporaryDirectory() as folder:
        return ours(job, Path(folder), stages=stages)


def frozen_ours(job: Job) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return ours(job, Path(folder), tuning="frozen", train={"epochs": FROZEN_EPOCHS, "batch_size": 16})


def texts_to_predict(job: Job) -> list[str]:
    texts = [row["text"] for row in read_rows(job.data / "sentiment/kitchen/target_test.jsonl", 4 * len(job.labelled))]
    # Both ways read the same tokens: the pipeline cannot read on past its window.
    ids = job.tokenizer(texts, truncation=True, max_length=MAX_LENGTH, return_offsets_mapping=True)["offset_mapping"]
    return [text[: max(end for _, end in offsets)] for text, offsets in zip(texts, ids, strict=True)]


def _pipeline(job: Job, batch_size: int) -> float:
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(job.source.folder, num_labels=2)
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=job.tokenizer, device="cpu")
    texts = texts_to_predict(job)
    begun = time.perf_counter()
    pipe(texts, batch_size=batch_size, truncation=True)
    return time.perf_counter() - begun


def predict_stock(job: Job) -> float:
    return _pipeline(job, 1)


def predict_stock_batch_32(job: Job) -> float:
    return _pipeline(job, 32)


def predict_ours(job: Job) -> float:
    from nlp_transfer import models
    from nlp_transfer.data.windows import Limits
    from nlp_transfer.hardware import choose_precision
    from nlp_transfer.inference import Predictor
    from nlp_transfer.last_layer import read_first_token
    from nlp_transfer.tasks.classification import Classification

    task = Classification(["negative", "positive"])
    config = models.read_config(job.source, num_labels=2)
    model = models.load_model(task.auto_class, job.source, config).model.eval()
    read_first_token(model)
    predictor = Predictor(model, job.tokenizer, task, Limits(MAX_LENGTH, 32), bf16=choose_precision("auto").bf16)
    texts = texts_to_predict(job)
    begun = time.perf_counter()
    predictor(texts)
    return time.perf_counter() - begun


WAYS: dict[str, dict[str, Callable[[Job], float]]] = {
    "finetune": {"plain": finetune_stock, BF16: partial(finetune_stock, bf16=True), "nlp_transfer": finetune_ours},
    "mlm": {"plain": mlm_stock, BF16: partial(mlm_stock, bf16=True), "nlp_transfer": mlm_ours},
    "frozen": {"plain": frozen_stock, "nlp_transfer": frozen_ours},
    "predict": {"plain": predict_stock, "plain, batch 32": predict_stock_batch_32, "nlp_transfer": predict_ours},
}


def real_tokens(work: str, job: Job) -> int:
    """Tokens of real text that the work reads, in all epochs, special tokens included, padding not."""
    if work == "mlm":
        return job.tokens(job.unlabelled)
    if work == "predict":
        return job.tokens(texts_to_predict(job))
    return job.tokens([row["text"] for row in job.labelled]) * (FROZEN_EPOCHS if work == "frozen" else 1)


def run_one(work: str, way: str, data: Path, rows: int) -> None:
    """Run one way in this process and print its figures."""
    job = Job(data, rows)
    seconds = WAYS[work][way](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 2), "peak_mib": round(peak), "tokens": real_tokens(work, job)}))


def main() -> None:
    """Run every way, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with sentiment/books and sentiment/kitchen")
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--work", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--output", type=Path, help="JSON file; results of other work in it are kept")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(*options.one, options.data, options.rows)
        return
    results = read_results(options.output)
    for work in options.work:
        results[work] = {}
        for way in WAYS[work]:
            rows = options.rows // 2 if work == "frozen" else options.rows
            figures = in_process(__file__, "--data", options.data, "--rows", rows, "--one", work, way)
            figures["tokens_per_second"] = round(figures["tokens"] / figures["seconds"])
            results[work][way] = figures
            print(f"{work:10} {way:16} {figures}", flush=True)
        ratio = results[work]["plain"]["seconds"] / results[work]["nlp_transfer"]["seconds"]
        results[work]["times_faster"] = round(ratio, 2)
        print(f"{work:10} {ratio:.2f} times faster", flush=True)
    if options.output:
        command = command_line("speed", data="DATA", rows=options.rows, output=options.output)
        write_results(options.output, command, results)


if __name__ == "__main__":
    main()
