"""A run that dies by ``kill -9`` while it writes a checkpoint; started by ``test_resume.py`` as a process of its own.

python killed_run.py FOLDER MODEL KIND
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from helpers import data_of, make_recipe

RUN = {"max_steps": 7, "evaluate_every": 2, "keep_checkpoints": 3}


def main(folder: str, model: str, kind: str) -> None:
    """Run until the checkpoint of step 4 is half written."""
    import torch

    from nlp_transfer.running import run

    kept = torch.save

    def half(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        kept(value, path, *args, **kwargs)
        if "checkpoint-4" in str(path) and "optimizer" in str(path):
            os.truncate(path, Path(path).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    run(make_recipe(Path(folder), Path(model), kind, "full", ("dann",), **RUN), data=data_of(kind), checked=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
