"""What a diagnosis holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..intervals import Interval
from .advice import Advice
from .distance import ADistance, Mmd
from .label_shift import LabelShift
from .vocabulary import Overlap, Pieces


@dataclass(frozen=True)
class Skipped:
    """A measure that was not taken.

    Args:
        skipped: Why, and what to do to have it.
    """

    skipped: str


@dataclass(frozen=True)
class Texts:
    """One split, and what was looked at of it.

    Args:
        total: Rows of the split.
        rows: Rows of the sample; words are counted in them.
        encoded: Those of them that the encoder read.
        lengths: Tokens of the sampled rows: 5th, 50th and 95th percentile and maximum.
        mean_length: Their mean.
        longer: Share of them that are longer than ``data.max_length``.
        pieces: How the tokenizer cuts their words.
    """

    total: int
    rows: int
    encoded: int
    lengths: dict[str, int]
    mean_length: float
    longer: float
    pieces: Pieces


@dataclass(frozen=True)
class Classifier:
    """A logistic regression on frozen features of source training rows.

    Args:
        unit: What it labels: texts, decisions (a label of a text) or words.
        accuracy: On source dev, with its interval over rows.
        macro_f1: Mean F1 of the labels on source dev (for words: of the entity types).
        majority: Accuracy of always giving the most frequent answer.
        dev_confidence: Mean probability of its answers on source dev.
        target_confidence: The same on the target; None without target text.
        predicted_accuracy: Accuracy on the target as predicted from its confidence (ATC); None without target text.
    """

    unit: str
    accuracy: Interval
    macro_f1: float
    majority: float
    dev_confidence: float
    target_confidence: float | None
    predicted_accuracy: float | None


@dataclass(frozen=True)
class Candidate:
    """How a pretrained model suits the labels of the source.

    Args:
        model: Its id.
        logme: Log maximum evidence per unit; larger is better.
        leep: Log expected empirical prediction of its own head; larger is better.
        dev_accuracy: What logistic regression on its frozen features reaches on source dev.
    """

    model: str
    logme: float
    leep: float | Skipped
    dev_accuracy: float


@dataclass(frozen=True)
class Estimate:
    """How long a strategy would take on this machine.

    Args:
        strategy: Its name.
        seconds: Estimated seconds of its own training.
        run_seconds: Those of a run: with the source-only twin, where the recipe asks for one.
        basis: What was measured and multiplied up.
    """

    strategy: str
    seconds: float
    run_seconds: float
    basis: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found before any training. Target labels had no part in it.

    Args:
        name: Name of the recipe.
        task: Name of the task.
        model: Id of the encoder.
        splits: By role: ``source.train``, ``source.dev`` and, where the recipe names it, ``target.unlabelled``.
        a_distance: By what the domain classifier reads: ``features``, ``words`` and, for NER, ``word features``.
        sources: A-distance of the target from each source domain by name, on features of what the task labels; empty
            where there is one.
        mmd: Two-sample test on the features.
        overlap: Words that the domains share.
        perplexity: Pseudo-perplexity of the masked language model by domain.
        classifier: What frozen features reach.
        label_shift: Estimated shares of the labels in the target.
        models: Candidate models, best LogME first.
        time: Estimated times, shortest first.
        advice: What to try, in this order.
        notes: What the user should know about data and method.
        seconds: How long the diagnosis took.
    """

    name: str
    task: str
    model: str
    splits: dict[str, Texts]
    a_distance: dict[str, ADistance | Skipped]
    sources: dict[str, ADistance | Skipped]
    mmd: Mmd | Skipped
    overlap: Overlap | Skipped
    perplexity: dict[str, Interval] | Skipped
    classifier: Classifier
    label_shift: LabelShift | Skipped
    models: list[Candidate]
    time: list[Estimate]
    advice: list[Advice]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unit_distance(self) -> ADistance | Skipped:
        """The A-distance of what the task labels, which methods align: words for NER, else texts."""
        return self.a_distance.get("word features", self.a_distance["features"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what was left out is ``{"skipped": "why"}``."""
        return asdict(self)
