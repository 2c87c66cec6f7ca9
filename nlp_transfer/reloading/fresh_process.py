"""Load a model with plain transformers or peft, in a process of its own, and write its logits; imports nothing of ours.

python fresh_process.py FOLDER EXAMPLES SEED: the last line of standard output is JSON, the logits of each example.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch


def load(folder: Path) -> Any:
    """Load a model as a reader of its card would."""
    config = _read(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        import peft

        # The architecture in an adapter's config.json is that of its base.
        token = _read(folder / "adapter_config.json")["task_type"] == "TOKEN_CLS"
        count = len(config.get("id2label", "01"))
        auto = getattr(peft, f"AutoPeftModelFor{_head(token)}")
        return auto.from_pretrained(folder, num_labels=count, ignore_mismatched_sizes=True)
    import transformers

    token = "TokenClassification" in config["architectures"][0]
    return getattr(transformers, f"AutoModelFor{_head(token)}").from_pretrained(folder, dtype=torch.float32)


def _head(token: bool) -> str:
    return "TokenClassification" if token else "SequenceClassification"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


@torch.inference_mode()
def main(folder: str, examples: str, seed: str) -> None:
    """Print the logits of every example."""
    torch.manual_seed(int(seed))
    model = load(Path(folder)).eval()
    texts = [torch.tensor([one["input_ids"]]) for one in json.loads(Path(examples).read_text(encoding="utf8"))]
    found = [model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().tolist() for ids in texts]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
