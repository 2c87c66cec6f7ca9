"""An exported model that answers: ONNX Runtime in place of torch, everything else as for any predictor."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.windows import Window
from ..errors import ModelError, first_line
from ..predictor import Predictor
from ..reading import read_batches
from ..settings import SETTINGS, limits_of, read_settings, task_of
from .processor import warn_if_wrong_here
from .record import GRAPH, RECORD

CACHED_TOKENS = 512
"""Most padded tokens in one pass: what lies between layers should stay in the processor's cache. MiniLM in int8 takes
107 µs a token in batches of 512, 128 µs in batches of 2,048 (texts of 32 tokens; of 128: 131 and 152)."""


class OnnxPredictor(Predictor):
    """A predictor whose ``model`` is an ``onnxruntime.InferenceSession``.

    ``batch_tokens`` above :data:`CACHED_TOKENS` are not used.
    """

    def window_logits(self, windows: Sequence[Window], shared: bool = False) -> list[np.ndarray]:
        """Return the logits of windows: (C,) each for text tasks, (T, C) for token tasks.

        Args:
            windows: W windows in any order.
            shared: Of no effect: each process reads all windows.
        """

        def of_batch(ids_NT: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
            [logits] = self.model.run(["logits"], {"input_ids": ids_NT, "attention_mask": mask_NT})
            return np.asarray(logits)

        tokens = min(self.batch_tokens, CACHED_TOKENS)
        results = read_batches(of_batch, windows, self.tokenizer.pad_token_id, tokens)
        return [results[index] for index in range(len(windows))]


def load_export(folder: Path, max_length: int | None = None, batch_tokens: int = 2048) -> OnnxPredictor:
    """Load an exported model for prediction, without torch; warns where this processor answers otherwise.

    Args:
        folder: What :func:`nlp_transfer.exporting.write.export` wrote.
        max_length: Tokens in a window; by default as in training.
        batch_tokens: Most padded tokens in one forward pass.

    Raises:
        ModelError: The export is damaged, ``onnxruntime`` is missing, or ``max_length`` is more than it can read.
    """
    from transformers import PreTrainedTokenizerFast

    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf8"))
        settings = read_settings(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        labels, longest = record["labels"], record["longest"]
        if settings is None:
            raise FileNotFoundError(f"{SETTINGS} is missing")
    except Exception as error:
        # The tokenizers library raises bare exceptions.
        raise ModelError(f"the export '{folder}' is damaged: {error}. Export the run again.") from error
    warn_if_wrong_here(record, folder)
    task = task_of(settings, labels, str(folder))
    task.mean_pooling = record["mean_pooling"]
    limits = limits_of(settings, longest, max_length, str(folder))
    maps = {key: settings.get(key) for key in ("polarity", "label_map")}
    return OnnxPredictor(open_session(folder / GRAPH), tokenizer, task, limits, batch_tokens, False, **maps)


def open_session(graph: Path) -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the CPU; ``OMP_NUM_THREADS`` bounds its threads as it does torch's.

    Raises:
        ModelError: ``onnxruntime`` is missing, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("exports run with onnxruntime: pip install 'nlp-transfer[export]'") from error
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    # Batches are of many shapes; a plan of memory would be kept for each of them.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its errors share no base class but Exception.
        raise ModelError(
            f"the export '{graph.parent}' cannot be opened: {first_line(error)}. Export the run again."
        ) from error
