"""A long prediction as a folder of finished parts: it can be stopped at any time, resumed, and shared by processes.

Part *n* holds the answers to rows *n* · size to (*n* + 1) · size, whoever computes it and with however many others. It
counts once its record is there, which is written last.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, Problem
from ..hashing import file_sha256
from ..runfolder import locked, write_json
from ..whole import write_text

FACTS = "job.json"
CHANGED = {
    "version": "the version of nlp-transfer",
    "model": "the model",
    "input": "the input",
    "rows_per_part": "the rows of a part",
}


@dataclass(frozen=True)
class Part:
    """A part that is complete.

    Args:
        rows: Rows that it answers.
        errors: Those of them that could not be read.
        sha256: Hash of its file.
    """

    rows: int
    errors: int
    sha256: str


class Job:
    """The folder of a prediction's parts.

    Args:
        output: The file that the whole prediction becomes; the folder lies beside it, under its name and ``.parts``.
    """

    def __init__(self, output: Path):
        self.output = output
        self.folder = output.with_name(output.name + ".parts")

    @contextlib.contextmanager
    def claimed(self, facts: Mapping[str, Any] | None, overwrite: bool) -> Iterator[None]:
        """Keep other jobs out of the folder inside the block, and make sure that what lies there is of this job.

        Args:
            facts: Everything that the answers follow from; None where that is not known, so that nothing can be
                resumed: the folder is empty at first, and gone at the end, whatever happens.
            overwrite: Delete what another job has done, instead of refusing.

        Raises:
            DataError: The folder holds parts of a job of other facts, or something else.
            RunBusyError: Another live process works on this job.
        """
        if self.folder.exists() and not (self.folder / FACTS).is_file() and any(self.folder.glob("[!.]*")):
            raise DataError([Problem("this folder is in the way and is no unfinished prediction", str(self.folder))])
        self.folder.mkdir(exist_ok=True)
        with locked(self.folder):
            before = self._facts()
            changed = [key for key in CHANGED if before is None or facts is None or before[key] != facts[key]]
            if changed and before is not None and not overwrite:
                refusal = _unresumable(self.output) if facts is None else _refusal(changed, self.output)
                raise DataError([Problem(refusal, str(self.folder))])
            if changed:
                self._empty()
            write_json(self.folder / FACTS, facts)
            try:
                yield
            finally:
                if facts is None or not any(self.folder.glob("[0-9]*.json")):
                    self.remove()

    def complete(self) -> dict[int, Part]:
        """Return the parts that are complete and undamaged, by number."""
        found = {}
        for record in sorted(self.folder.glob("[0-9]*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                part = Part(**json.loads(record.read_text(encoding="utf8")))
                if file_sha256(self.path(int(record.stem))) == part.sha256:
                    found[int(record.stem)] = part
        return found

    def write(self, number: int, answers: Sequence[dict[str, Any]]) -> None:
        """Write a part, so that a crash leaves it whole or absent."""
        path = self.path(number)
        write_text(path, "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers))
        errors = sum("error" in answer for answer in answers)
        write_json(path.with_suffix(".json"), vars(Part(len(answers), errors, file_sha256(path))))

    def path(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"{number:08d}.jsonl"

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _facts(self) -> dict[str, Any] | None:
        """Return the facts of the job whose parts lie here; None where there is none that could go on."""
        try:
            before = json.loads((self.folder / FACTS).read_text(encoding="utf8"))
            return before if set(CHANGED) <= set(before) else None
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _empty(self) -> None:
        for pattern in ("*.json", "*.jsonl", "*.part"):
            for path in self.folder.glob(pattern):
                path.unlink()


def _refusal(changed: Sequence[str], output: Path) -> str:
    what = ", ".join(CHANGED[key] for key in changed)
    return (
        f"an unfinished prediction for '{output.name}' lies here, and {what} is not what it was begun with. Restore "
        "that to go on with it, name another output, or give --overwrite to delete it and begin anew"
    )


def _unresumable(output: Path) -> str:
    return (
        f"an unfinished prediction for '{output.name}' lies here, and one from standard input, a pipe or a predictor "
        "object cannot go on with it. Finish it with the command it was begun with, name another output, or give "
        "--overwrite to delete it and begin anew"
    )
