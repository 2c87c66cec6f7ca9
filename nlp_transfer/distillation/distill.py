"""Distilling a finished run into a smaller model: a run of its own, whose recipe names the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..hardware import is_main_process
from ..inference import load_predictor
from ..parts import recipe_from
from ..processes import agree, first_process_first
from ..recipe.schema import Recipe
from ..report.record import Record, read_record
from ..reporter import Reporter
from ..runfolder import write_json
from ..running import run
from ..strategies import OWN_TRAINING
from .student import write_student
from .weigh import Distilled, weigh

RESULT = "distillation.json"


def distill(
    teacher: str | Path,
    student: int | str | None = None,
    *,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    data: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Distilled:
    """Train a smaller model on the answers of a finished run, and compare the two.

    The student is a run with the teacher's data and settings, fully tuned: it learns from the teacher's logits on
    source and target text (Hinton et al. 2015, arXiv 1503.02531) and from the labels that the teacher learned: those
    of the target only where it was trained on them. The same call again resumes it.

    Args:
        teacher: Folder of a finished run.
        student: Number of layers to keep of the teacher's, by default half; or a model of the same vocabulary.
        output: Run folder of the student; by default beside the teacher's.
        overrides: Settings as ``train.epochs=5`` or ``methods.0.temperature=4``.
        data: See :func:`nlp_transfer.run`.
        reporter: Where progress is told.

    Returns:
        The student's run, and both models' scores, sizes and speeds; also in ``distillation.json`` of its folder.

    Raises:
        UserError: The run is not finished, has no target text, or the student does not fit it.
    """
    folder = Path(teacher).expanduser()
    # `.` has no name that the student's folder could be called after.
    folder = folder if folder.name else folder.resolve()
    record = read_record(folder)
    if isinstance(student, str):
        start, name = student, Path(student).name
    else:
        with first_process_first():
            place = write_student(load_predictor(folder, precision="fp32", device="cpu"), student, folder / "students")
        start, name = str(place.resolve()), place.name
    target = folder.with_name(f"{folder.name}-{name}") if output is None else Path(output)
    recipe = _recipe(record, start, target, overrides)
    result = run(recipe, data=data, reporter=reporter)
    distilled = None
    if is_main_process():
        # Speeds mean little where every process measures at once.
        distilled = weigh(record, result, recipe.evaluate)
        write_json(result.folder / RESULT, distilled.to_dict())
    weighed: Distilled = agree(distilled)
    return weighed


def _recipe(record: Record, start: str, output: Path, overrides: Sequence[str]) -> Recipe:
    """Return the teacher's recipe for a student: full tuning, its answers in place of adaptation."""
    left_out = {"compare", "guard", "selection", "tuning", "source_only", "hub"}
    values = record.recipe.model_dump(exclude=left_out)
    # What a stage says for itself goes before the recipe's section; the student's stage has source rows.
    stages = record.recipe.finetunes
    train = values["train"] | next((stage for stage in stages if stage.on != "target"), stages[0]).train
    if record.recipe.tuning.name != "full":
        train = {key: value for key, value in train.items() if key not in OWN_TRAINING[record.recipe.tuning.name]}
    values |= {
        "name": output.name,
        "output": str(output),
        "model": {"id": start},
        "methods": [{"name": "anchor", "teacher": str(record.folder.resolve())}],
        # A teacher that learned labels of the target may have some that the source lacks.
        "stages": [{"name": "finetune", "on": "both" if record.recipe.uses_target_labels else "source"}],
        "source_only": False,
        "train": train,
    }
    return recipe_from(values, overrides)
