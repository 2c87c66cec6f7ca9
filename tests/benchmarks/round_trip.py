"""Logits of pushed, pulled and reloaded models beside those of their runs, as JSON.

    python tests/benchmarks/round_trip.py --runs RUN … --texts FILE --output FILE.json

Each run is pushed by the real hub client to a stand-in server on loopback, as it is and, of an adapter, merged;
then it is pulled into an empty cache by its hub id, and answers for the texts in fp32. Beside what the run itself
answers, which merges an adapter as it is loaded, stands what plain PEFT answers with the adapter unmerged.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record import command_line, write_results

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hub_client
from stand_in_hub import Hub, serving

CARD = {"license": "other", "language": "en"}


def logits(model: str | Path, texts: list[str], unmerged: bool = False) -> np.ndarray:
    """Return the logits of all units of some texts: (U, C).

    Args:
        model: What a predictor is loaded from.
        texts: The texts.
        unmerged: That is an adapter folder, which plain PEFT loads in the place of the predictor's model.
    """
    import peft
    import torch
    import transformers

    from nlp_transfer import load_predictor
    from nlp_transfer.data.memory import Columns
    from nlp_transfer.data.spans import words as split_words
    from nlp_transfer.finding import resolve

    predictor = load_predictor(model, precision="fp32", device="cpu")
    if unmerged:
        loader = getattr(transformers, predictor.task.auto_class)
        labels = predictor.model.config.num_labels
        base = loader.from_pretrained(resolve(str(model)).folder, num_labels=labels, dtype=torch.float32)
        predictor.model = peft.PeftModel.from_pretrained(base, model).eval()
    columns: dict[str, Any] = {"text": texts}
    if predictor.task.row_kind == "ner":
        spans = [split_words(text) for text in texts]
        columns["words"] = [[text[begin:end] for begin, end in found] for text, found in zip(texts, spans, strict=True)]
        columns["starts"] = [[begin for begin, _ in found] for found in spans]
    return np.concatenate([np.atleast_2d(row) for row in predictor.logits(Columns(columns))])


def round_trip(run: Path, form: Any, repo: str, texts: list[str], hub: Hub, folder: Path) -> dict[str, Any]:
    """Push, pull and compare."""
    from nlp_transfer import push

    with pytest.MonkeyPatch.context() as patch:
        hub_client.use(hub.url, patch, folder / "pushing")
        begun = time.perf_counter()
        push(run, repo, form=form, card=CARD)
        pushed = time.perf_counter() - begun
        hub_client.use(hub.url, patch, folder / "pulling")
        expected, found = logits(run / "model", texts), logits(repo, texts)
    adapter = (run / "model" / "adapter_config.json").is_file()
    plain = logits(run / "model", texts, unmerged=True) if adapter else found
    size = sum(len(content) for content in hub.repos[repo].files.values())
    return {
        "units": len(expected),
        "largest_logit": round(float(np.abs(expected).max()), 3),
        "largest_difference": float(np.abs(found - expected).max()),
        "largest_difference_unmerged": float(np.abs(found - plain).max()) if adapter else None,
        "same_bits": bool(np.array_equal(found, expected)),
        "megabytes": round(size / 1e6, 1),
        "push_seconds": round(pushed, 1),
    }


def main() -> None:
    """Measure every run and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="finished runs")
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines with a column 'text'")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with options.texts.open(encoding="utf8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(options.rows), file, strict=False)]
    results: dict[str, Any] = {}
    with serving() as hub, tempfile.TemporaryDirectory() as folder:
        for run in options.runs:
            adapter = (run / "model" / "adapter_config.json").is_file()
            for form in ("as it is", "merged") if adapter else ("as it is",):
                name = f"{run.name}, {form}"
                repo, place = f"user/model-{len(results)}", Path(folder) / str(len(results))
                results[name] = round_trip(run, form, repo, texts, hub, place)
                print(name, results[name], flush=True)
    if options.output:
        runs = ["RUN"] * len(options.runs)
        command = command_line("round_trip", runs=runs, texts=options.texts, rows=options.rows, output=options.output)
        write_results(options.output, command, results)


if __name__ == "__main__":
    main()
