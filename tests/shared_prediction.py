"""A prediction that ``test_bulk.py`` runs in several processes.

torchrun --nproc-per-node 2 shared_prediction.py MODEL INPUT OUTPUT
"""

from __future__ import annotations

import os
import sys

from nlp_transfer import predict_file

CHUNK = 4


def main(model: str, input: str, output: str) -> None:
    """Predict, and say what came of it, in one write a process."""
    summary = predict_file(model, input, output, chunk=CHUNK)
    os.write(1, f"{os.environ['WORLD_SIZE']} {summary['rows']} {summary['kept']}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
