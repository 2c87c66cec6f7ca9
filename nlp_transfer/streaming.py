"""Answers for any number of texts, written in the order of the texts."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from . import __version__
from .bulk.belongings import belongings
from .bulk.job import Job
from .bulk.places import refuse_clashes
from .bulk.source import TextSource
from .bulk.writing import PARQUET, join_parts
from .data.texts import Row
from .errors import DataError, Problem
from .finding import ResolvedModel
from .fingerprints import answering
from .hardware import is_main_process, world_size
from .inference import find, load_found
from .predictor import CHUNK
from .processes import agree, join, place, wait_for_all

Predict = Callable[[Sequence[str]], list[dict[str, Any]]]
PATIENCE = timedelta(days=30)
"""How long a process that is done waits for the others."""


def predict_file(
    model: str | Path | Predict,
    input: str | Path | TextSource,
    output: str | Path,
    *,
    text_column: str = "text",
    format: str | None = None,
    batch_tokens: int = 2048,
    overwrite: bool = False,
    chunk: int = CHUNK,
) -> dict[str, Any]:
    """Predict for every text of a file or data set.

    The answer of a row is what :meth:`~nlp_transfer.predictor.Predictor.__call__` returns for its text; of a row that
    cannot be read it is ``{"error": "file:line: reason"}``, so that answers keep the order and number of the rows.

    A prediction that writes a file keeps its finished parts in a folder beside it, until all are there. Stopped or
    killed, it goes on from there when it is called again. Under several processes (``accelerate launch``) all must
    call; each computes a share of the parts. A resumed prediction may have another number of processes.

    Args:
        model: Run folder, model folder or hub id; or a predictor (whose predictions cannot be resumed).
        input: A txt (one text a line), jsonl, csv, tsv or parquet file, ``-`` for standard input; or a
            :class:`~nlp_transfer.bulk.source.TextSource`, for data sets of the hub.
        output: The file to write: Parquet if it ends in ``.parquet``, else JSON Lines; or ``-`` for standard output. A
            file appears under its name when it is complete.
        text_column: Column of the text (jsonl, csv, tsv, parquet), where the input is a path.
        format: Format of the input, where its suffix does not tell; standard input is ``txt`` by default.
        batch_tokens: Most padded tokens in one forward pass.
        overwrite: Replace an output file that exists, and drop an unfinished prediction from another input or model.
        chunk: Texts held in memory and sorted by length together; the rows of a part.

    Returns:
        ``rows``, ``errors`` (rows that could not be read), ``kept`` (rows that an earlier call had done), ``seconds``
        (without loading the model), and ``commit`` (of a model of the hub, else None).

    Raises:
        DataError: The input cannot be read, the output cannot be written, or an unfinished prediction for it has
            another input or model; checked before the model is loaded. Or finished parts were lost meanwhile.
        ModelError: The model is not found or has no task head.
    """
    source = input if isinstance(input, TextSource) else TextSource(str(input), text_column, format)
    owned = belongings(model) if isinstance(model, str | Path) else {}
    to_file = _check_output({**owned, "input": source.path}, str(output), overwrite)
    if world_size() > 1 and (source.is_read_once or not to_file):
        raise DataError([Problem("several processes can read and write files only", f"{source.origin}, {output}")])

    with source.rows() as rows:
        found, load = _loading(model, batch_tokens)
        if not to_file:
            size = 1 if source.is_standard_input and sys.stdin.isatty() else chunk
            return _stream(load(), rows, str(output), size) | _commit(found)
        join(PATIENCE)
        job = Job(Path(output))
        facts = _facts(found, source, chunk)
        # One process claims the output, for all of them.
        with job.claimed(facts, overwrite) if is_main_process() else contextlib.nullcontext():
            return _in_parts(load, rows, source, job, chunk) | _commit(found)


def _loading(
    model: str | Path | Predict, batch_tokens: int
) -> tuple[Path | ResolvedModel | None, Callable[[], Predict]]:
    """Return what a model's name stands for, looked up once, and what loads it."""
    if not isinstance(model, str | Path):
        return None, lambda: model
    found = find(model)
    return found, lambda: load_found(found, batch_tokens=batch_tokens)


def _commit(found: Path | ResolvedModel | None) -> dict[str, str | None]:
    """Return the hub's commit of what answered."""
    return {"commit": None if found is None or isinstance(found, Path) else found.own_commit}


def _in_parts(
    load: Callable[[], Predict], rows: Iterator[Row], source: TextSource, job: Job, chunk: int
) -> dict[str, Any]:
    """Answer into a file: each process computes a share of its parts, which are joined when all are there."""
    stamp = source.stamp()
    done = agree(job.complete() if is_main_process() else None)
    predict = load()
    begun = time.monotonic()
    count = _compute(predict, rows, job, set(done), chunk)
    wait_for_all()
    if source.stamp() != stamp:
        raise DataError([Problem("the input was changed while it was read; predict for it again", source.origin)])
    parts = agree(job.complete() if is_main_process() else None)
    missing = [number for number in range(count) if number not in parts]
    if missing:
        raise DataError([Problem(_lost(missing, count), str(job.folder))])
    if is_main_process():
        join_parts([job.path(number) for number in range(count)], job.output)
        job.remove()
    wait_for_all()
    return {
        "rows": sum(part.rows for part in parts.values()),
        "errors": sum(part.errors for part in parts.values()),
        "kept": sum(part.rows for part in done.values()),
        "seconds": round(time.monotonic() - begun, 2),
    }


def _facts(found: Path | ResolvedModel | None, source: TextSource, chunk: int) -> Mapping[str, Any] | None:
    """Return everything that the answers follow from; None where that cannot be told."""
    if found is None or source.is_read_once:
        return None
    return {"version": __version__, "model": answering(found), "input": source.identity(), "rows_per_part": chunk}


def _compute(predict: Predict, rows: Iterator[Row], job: Job, done: set[int], chunk: int) -> int:
    """Compute this process's share of the parts that are not done yet; return how many the whole prediction has."""
    rank, world = place()
    missing = count = 0
    for number, batch in enumerate(iter(lambda: list(itertools.islice(rows, chunk)), [])):
        count += 1
        if number in done:
            continue
        if missing % world == rank:
            job.write(number, list(_answers(predict, batch)))
        missing += 1
    return count


def _lost(missing: Sequence[int], count: int) -> str:
    named = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
    return (
        f"of the {count} parts of this prediction, {len(missing)} are missing or damaged though they were written "
        f"({named}): another program has been at work here. Nothing was put together; predict again to compute them"
    )


def _stream(predict: Predict, rows: Iterator[Row], output: str, chunk: int) -> dict[str, Any]:
    """Answer into a pipe or a device."""
    begun = time.monotonic()
    summary: dict[str, Any] = {"rows": 0, "errors": 0, "kept": 0}
    with _opened(output) as sink:
        for batch in iter(lambda: list(itertools.islice(rows, chunk)), []):
            for answer in _answers(predict, batch):
                sink.write(json.dumps(answer, ensure_ascii=False) + "\n")
            sink.flush()
            summary["rows"] += len(batch)
            summary["errors"] += sum(row.text is None for row in batch)
    return summary | {"seconds": round(time.monotonic() - begun, 2)}


def _answers(predict: Predict, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    texts = [row.text for row in rows if row.text is not None]
    answers = iter(predict(texts) if texts else [])
    for row in rows:
        yield {"error": row.error} if row.text is None else next(answers)


def _check_output(reads: Mapping[str, str | Path | None], output: str, overwrite: bool) -> bool:
    """Refuse what would fail, or destroy something, after hours of work; return whether it is a file to write."""
    path = Path(output)
    refuse_clashes(reads, {"output": output})
    if output == "-":
        return False
    if path.is_dir():
        raise DataError([Problem("this is a folder; name a file in it as output", output)])
    if not path.parent.is_dir():
        raise DataError([Problem(f"there is no folder '{path.parent}' to write the output to", output)])
    if path.exists() and not path.is_file():  # a pipe or a device
        if path.suffix.lower() == PARQUET:
            raise DataError([Problem("Parquet can be written to files only", output)])
        return False
    if path.is_file() and not overwrite:
        raise DataError([Problem("the output file exists already; give --overwrite to replace it", output)])
    return True


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield sys.stdout
        return
    with Path(output).open("w", encoding="utf-8") as sink:
        yield sink
