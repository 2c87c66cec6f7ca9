"""From a torch model to an ONNX graph, and from that to one of int8 weights. Needs the extra ``export``."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, first_line

LARGEST_FILE = 2**31
"""Bytes that one protobuf file can hold; weights of larger models go beside the graph."""


class _Logits(torch.nn.Module):
    """A model that takes and gives plain tensors."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def require() -> None:
    """Check that what writes graphs is installed.

    Raises:
        ModelError: The extra is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{error.name} is missing; exports need: pip install 'nlp-transfer[export]'") from error


def write_graph(model: Any, pad_id: int, path: Path) -> None:
    """Write a model as an ONNX graph of any batch size and length.

    Inputs are ``input_ids`` and ``attention_mask`` (N, T), the output is ``logits`` (N, C) or (N, T, C).

    Args:
        model: A ``transformers`` model with a task head, in fp32 on the CPU.
        pad_id: Id of the padding token.
        path: File to write.

    Raises:
        ModelError: The architecture cannot be exported.
    """
    model.eval().set_attn_implementation("eager")
    # Sizes 0 and 1 would be taken for constants; the second row is padded, so that the mask is not optimised away.
    ids_NT = torch.full((2, 8), pad_id)
    ids_NT[:, :6] = torch.arange(6) % model.config.vocab_size
    mask_NT = torch.ones_like(ids_NT)
    mask_NT[1, 6:] = 0
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Logits(model),
                (ids_NT, mask_NT),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=(any_size, any_size),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
            program.save(path, external_data=size > LARGEST_FILE)
    except Exception as error:
        # Tracers fail in many ways; what they share is that this model cannot be exported.
        raise ModelError(f"a '{model.config.model_type}' cannot be exported to ONNX: {first_line(error)}") from error


def quantise(graph: Path, path: Path, reduced: bool) -> None:
    """Write a graph whose matrices are int8, one scale for each column; activations are quantised while it runs.

    Args:
        graph: What :func:`write_graph` wrote; it loses the shapes that are noted in it.
        path: File to write, in another folder.
        reduced: Use 7 of the 8 bits, which processors need whose products overflow; see
            :func:`~nlp_transfer.exporting.processor.saturates`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph, load_external_data=False)
    # Matrices of linear layers are transposed on the way; the shapes that the exporter noted would contradict them.
    del model.graph.value_info[:]
    onnx.save(model, graph)
    with _quiet():
        quantize_dynamic(
            graph,
            path,
            per_channel=True,
            reduce_range=reduced,
            weight_type=QuantType.QInt8,
            use_external_data_format=graph.with_name(f"{graph.name}.data").is_file(),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what exporters tell of themselves."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", None):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
