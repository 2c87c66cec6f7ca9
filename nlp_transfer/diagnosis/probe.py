"""A frozen encoder's view of the samples: features, and a classifier that was fitted on them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import models
from ..calibration import softmax
from ..data.load import Split
from ..forward import window_logits
from ..hardware import default_device
from ..intervals import bootstrap_interval, ratio
from ..merging import merge_into
from ..tasks.base import Encoded
from ..workspace import Workspace
from .classifier import FrozenClassifier, Questions, macro_f1
from .confidence import negative_entropy, thresholded_accuracy
from .features import Features, encoded_first, extract
from .label_shift import LabelShift, Outputs, estimate_shift
from .result import Candidate, Classifier, Skipped
from .transferability import leep, logme

TRAIN, DEV, TARGET = "source.train", "source.dev", "target.unlabelled"
MAX_UNITS = 4000
"""Words of a split that the classifier is fitted on or asked about (NER)."""


@dataclass(frozen=True)
class Probe:
    """A frozen encoder's view.

    Args:
        questions: What the task asks about each unit.
        encoded: Windows of the samples by role.
        features: What the encoder makes of them.
        train_UQ: Gold answers of the source training units.
        dev_UQ: Gold answers of the source dev units.
        outputs: The classifier's log-probabilities on source dev and the target: for each role, (U, C) a question.
    """

    questions: Questions
    encoded: dict[str, Encoded]
    features: dict[str, Features]
    train_UQ: np.ndarray
    dev_UQ: np.ndarray
    outputs: dict[str, list[np.ndarray]]

    @property
    def right_UQ(self) -> np.ndarray:
        """Which decisions about source dev units are right."""
        given_UQ = np.stack([values_UC.argmax(-1) for values_UC in self.outputs[DEV]], axis=1)
        return np.asarray(given_UQ == self.dev_UQ)


@contextlib.contextmanager
def without_adapter(space: Workspace) -> Iterator[Workspace]:
    """Merge the adapter of a base, where it has one, into a folder that lasts as long as the block."""
    if space.base.adapter is None:
        yield space
        return
    with tempfile.TemporaryDirectory() as folder:
        yield replace(space, base=merge_into(space.base, Path(folder) / "base"))


def take(space: Workspace, samples: Mapping[str, Split], title: str = "frozen features") -> Probe:
    """Run the frozen encoder over the samples, and fit a classifier on those of source training rows.

    Args:
        space: The workspace of the encoder.
        samples: By role: source.train, source.dev and, where there is any, target.unlabelled.
        title: Of the progress bar.
    """
    model = models.load_model(space.task.auto_class, space.base, models.read_config(space.base)).model
    model.to(default_device())
    encoded = {role: encoded_first(space.task, one, space.tokenizer, space.limits) for role, one in samples.items()}
    with space.reporter.bar(title, sum(one.rows for one in encoded.values())) as advance:
        features = {
            role: first_units(
                extract(
                    model,
                    encoded[role],
                    one,
                    space.tokenizer.pad_token_id,
                    space.recipe.evaluate.batch_tokens,
                    space.precision.bf16,
                    advance,
                )
            )
            for role, one in samples.items()
        }
    questions = Questions.of(space.task.row_kind, space.task.labels)
    train_UQ, dev_UQ = (
        questions.of_units(samples[role].rows, features[role].rows_U, features[role].words_U) for role in (TRAIN, DEV)
    )
    classifier = FrozenClassifier(questions, features[TRAIN].units_UH, train_UQ)
    outputs = {role: classifier.log_probabilities(one.units_UH) for role, one in features.items() if role != TRAIN}
    return Probe(questions, encoded, features, train_UQ, dev_UQ, outputs)


def first_units(features: Features) -> Features:
    """Keep the first :data:`MAX_UNITS` units; the vectors of the texts stay."""
    kept = slice(MAX_UNITS)
    words_U = None if features.words_U is None else features.words_U[kept]
    return replace(features, units_UH=features.units_UH[kept], rows_U=features.rows_U[kept], words_U=words_U)


def quality(probe: Probe, resamples: int = 1000) -> Classifier:
    """Score the classifier on source dev, and predict its accuracy on the target from its confidence."""
    right_UQ = probe.right_UQ
    rows_U = probe.features[DEV].rows_U
    asked_N = np.bincount(rows_U) * right_UQ.shape[1]
    counts_N2 = np.stack([np.bincount(rows_U, right_UQ.sum(1)), asked_N], axis=1)
    given_UQ = np.stack([values_UC.argmax(-1) for values_UC in probe.outputs[DEV]], axis=1)
    usual_Q = [np.bincount(answers_U).argmax() for answers_U in probe.train_UQ.T]
    scores = {role: np.stack([negative_entropy(one) for one in found], axis=1) for role, found in probe.outputs.items()}
    sure = {role: float(np.mean([np.exp(one.max(-1)) for one in found])) for role, found in probe.outputs.items()}
    predicted = None
    if TARGET in scores:
        predicted = thresholded_accuracy(scores[DEV].ravel(), right_UQ.ravel(), scores[TARGET].ravel())
    return Classifier(
        unit=probe.questions.unit,
        accuracy=bootstrap_interval(counts_N2, ratio, resamples=resamples),
        macro_f1=macro_f1(probe.questions, probe.dev_UQ, given_UQ),
        majority=float((probe.dev_UQ == usual_Q).mean()),
        dev_confidence=sure[DEV],
        target_confidence=sure.get(TARGET),
        predicted_accuracy=predicted,
    )


def label_shift(probe: Probe, train: Split, seed: int) -> LabelShift:
    """Estimate the shares of the labels in the target.

    Args:
        probe: The encoder's view, with target text.
        train: All source training rows.
        seed: Seed of the resampling.
    """
    dev = [
        Outputs(values_UC, probe.features[DEV].rows_U, probe.dev_UQ[:, q])
        for q, values_UC in enumerate(probe.outputs[DEV])
    ]
    target = [Outputs(values_UC, probe.features[TARGET].rows_U) for values_UC in probe.outputs[TARGET]]
    return estimate_shift(probe.questions.names, probe.questions.shares(train.rows), dev, target, seed=seed)


def suitability(space: Workspace, probe: Probe) -> Candidate:
    """Score a model by how its features and its own head, where it has one, suit the labels."""
    columns = [
        np.eye(len(names))[answers_U][:, 1 if probe.questions.unit == "decisions" else 0 :]
        for names, answers_U in zip(probe.questions.names, probe.train_UQ.T, strict=True)
    ]
    score = logme(probe.features[TRAIN].units_UH, np.concatenate(columns, axis=1))
    return Candidate(space.base.id, score, _leep(space, probe), float(probe.right_UQ.mean()))


def _leep(space: Workspace, probe: Probe) -> float | Skipped:
    config = models.read_config(space.base)
    kind = space.task.auto_class.removeprefix("AutoModel")
    if not any(name.endswith(kind) for name in config.architectures or []):
        what = "words" if kind == "ForTokenClassification" else "texts"
        return Skipped(f"LEEP needs a head that was trained to label {what}; this checkpoint has none")
    if config.num_labels < 2 or config.problem_type == "multi_label_classification":
        return Skipped("LEEP needs a head that gives one of several labels")
    model = models.load_model(space.task.auto_class, space.base, config).model.to(default_device())
    encoded, features = probe.encoded[TRAIN], probe.features[TRAIN]
    logits = window_logits(
        model,
        encoded.windows,
        space.tokenizer.pad_token_id,
        space.recipe.evaluate.batch_tokens,
        autocast=space.precision.bf16,
    )
    if features.words_U is None:
        logits_UZ = np.stack(logits)
    else:
        units = [values_TZ[window.positions] for values_TZ, window in zip(logits, encoded.windows, strict=True)]
        logits_UZ = np.concatenate(units)[: len(features.rows_U)]
    theta_UZ = softmax(logits_UZ.astype(np.float64))
    return float(np.mean([leep(theta_UZ, answers_U) for answers_U in probe.train_UQ.T]))
