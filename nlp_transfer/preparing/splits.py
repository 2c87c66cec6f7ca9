"""The data of a run, with target labels held apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..data.corpus import Corpus
from ..data.load import Split
from ..data.seen import Seen
from ..data.split import distinct_labels


@dataclass(frozen=True)
class Source:
    """One source domain.

    Args:
        role: Key path below ``data``: ``source``, or ``source.0`` and so on.
        name: What it is called.
        train: Its labelled rows.
        dev: Those that select the checkpoint.
    """

    role: str
    name: str
    train: Split
    dev: Split


@dataclass(frozen=True)
class Splits:
    """The data of a run, with target labels held apart.

    Training reads ``sources``, ``unlabelled`` and ``corpora`` only, unless ``selection: oracle`` is written out; and
    ``target_train`` in stages that say so.

    Args:
        sources: The source domains.
        train: Labelled rows of all source domains together. Of several, rows say which one they come from.
        dev: Labelled rows of all source domains that select the checkpoint.
        unlabelled: Target text, without labels whatever the file holds.
        target_train: Labelled target rows to train on.
        scored: Labelled target splits by name (``target.dev``, ``target.test``), for the final scores only.
        labels: Labels of the task in the order of the logits.
        notes: What the user should know about the data.
        corpora: Further unlabelled text of pretrain stages, by key path (``stages.0.corpus``).
        seen: What was found of those that are streamed.
    """

    sources: list[Source]
    train: Split
    dev: Split
    unlabelled: Split | None
    target_train: Split | None
    scored: dict[str, Split]
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    corpora: dict[str, Corpus] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def new_labels(self) -> list[str]:
        """Labels that ``target_train`` has and no source row has, sorted."""
        return [] if self.target_train is None else new_labels(self.train, self.target_train)

    def named(self) -> dict[str, Split | Corpus]:
        """Return each split and corpus by its role."""
        named: dict[str, Split | Corpus] = {f"{source.role}.train": source.train for source in self.sources}
        named |= {f"{source.role}.dev": source.dev for source in self.sources} | self.scored
        for name, split in (("target.unlabelled", self.unlabelled), ("target.train", self.target_train)):
            named |= {} if split is None else {name: split}
        return named | self.corpora

    def fingerprints(self) -> dict[str, str]:
        """Return the sha256 of the rows of each split and corpus."""
        return {name: split.fingerprint for name, split in self.named().items()}


def corpus_role(number: int) -> str:
    """Return the key path of the corpus of a stage, counted from 0."""
    return f"stages.{number}.corpus"


def new_labels(train: Split, target_train: Split) -> list[str]:
    """Return the labels that target rows have and source rows have not, sorted."""
    return sorted({*distinct_labels(target_train)} - {*distinct_labels(train)})
