"""The rows of a training of the task: labelled ones of source, target or both, and unlabelled ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np

from ..data.load import ORIGIN, Split
from ..data.mixture import Mixture
from ..data.pairs import PairedDomains, RowOrder
from ..recipe.schema import Part
from ..recipe.stages import FinetuneStage
from ..selecting import Selector
from ..tasks.base import Encoded
from ..units import TARGET
from ..workspace import Workspace


@dataclass(frozen=True)
class Rows:
    """Rows of one training.

    Args:
        labelled: What the task is trained on; rows of several domains say which one they come from.
        dev: Labelled source rows that are scored on the way.
        mixture: How often the labelled rows of each domain are drawn; None: each once an epoch.
        target: Unlabelled target rows that methods read, or None.
        text: Source rows without labels, where the labelled ones are the target's and methods compare domains, or None.
        selector: Scores checkpoints, where source dev does not.
    """

    labelled: Encoded
    dev: Encoded
    mixture: Mixture | None = None
    target: Encoded | None = None
    text: Encoded | None = None
    selector: Selector | None = None

    @property
    def target_labels(self) -> int:
        """Number of labelled target rows."""
        pairs = zip(self.labelled.windows, self.labelled.features, strict=True)
        return len({window.row for window, row in pairs if row.get("origin") == TARGET})

    @property
    def draws_N(self) -> np.ndarray:
        """How often each labelled row is drawn, relative to the others (N,); of a long one, each window is a part."""
        windows = self.labelled.windows
        frequency = np.ones(len(windows)) if self.mixture is None else self.mixture.frequency_N
        weights = np.asarray([window.weight for window in windows]) * frequency
        return np.bincount([window.row for window in windows], weights, self.labelled.rows)

    @property
    def drawn(self) -> int:
        """Labelled windows that are drawn in an epoch: more than there are where small domains repeat."""
        return len(self.labelled.windows) if self.mixture is None else len(self.mixture)

    def each(self) -> Iterator[tuple[str, Encoded]]:
        """Yield every set of rows that there is, by its name."""
        for name in ("labelled", "dev", "target", "text"):
            rows = getattr(self, name)
            if rows is not None:
                yield name, rows

    def pairs(
        self, masked: Callable[[int, int, int], dict[str, Any]] | None = None, target: bool = True
    ) -> PairedDomains:
        """Return the dataset of the training.

        Args:
            masked: Masked copies of target rows, see :class:`~nlp_transfer.data.pairs.PairedDomains`.
            target: The target rows themselves are read, not only their masked copies.
        """
        beside = self.target.features if self.target is not None and target else None
        return PairedDomains(self.labelled.features, beside, masked, None if self.text is None else self.text.features)

    @property
    def order(self) -> RowOrder:
        """What the order of the rows goes by."""
        target, text = (None if rows is None else rows.lengths for rows in (self.target, self.text))
        return RowOrder(self.labelled.lengths, target, self.mixture, text)


def labelled_rows(space: Workspace, stage: FinetuneStage) -> Rows:
    """Return the rows that a stage trains the task on, and source dev.

    Args:
        space: The run's workspace.
        stage: Says whose rows, and the share of the target's where both sides' are mixed.
    """
    splits = space.splits
    dev = _encoded(space, splits.dev, labelled=False)
    if stage.on == "source":
        source = _encoded(space, splits.train)
        return Rows(source, dev, source.mixture(space.recipe.data.source_shares))
    assert splits.target_train is not None
    target = _encoded(space, splits.target_train)
    target = target.with_origins([TARGET] * target.rows)
    if stage.on == "target":
        return Rows(target, dev)
    source = _encoded(space, splits.train)
    if source.mixture() is None:
        source = source.with_origins([0] * source.rows)
    both = source.joined(target)
    return Rows(both, dev, both.mixture(_shares(space, source, stage)))


def with_unlabelled(
    space: Workspace, rows: Rows, stage: FinetuneStage, methods: Sequence[Part], target_too: bool = False
) -> Rows:
    """Add the unlabelled rows that methods read.

    Args:
        space: The run's workspace.
        rows: The labelled rows.
        stage: The stage that trains on them.
        methods: Its methods, as the recipe names them.
        target_too: Target rows are read whatever the methods are.
    """
    target = text = None
    known = space.methods
    needed = target_too or any(known[part.name].reads_target(part.settings) for part in methods)
    if space.splits.unlabelled is not None and needed:
        target = _encoded(space, space.splits.unlabelled, labelled=False)
    if stage.on == "target" and any(known[part.name].reads_source(part.settings) for part in methods):
        source = space.splits.train.rows
        text = _encoded(space, space.splits.train, labelled=False)
        text = text.with_origins(source[ORIGIN][:] if ORIGIN in source.column_names else [0] * len(source))
    return replace(rows, target=target, text=text)


def fit_task(space: Workspace, stage: FinetuneStage, rows: Rows) -> None:
    """Fit the task (its class weights) to the labelled rows as often as the stage draws them.

    Args:
        space: The run's workspace.
        stage: The stage.
        rows: What :func:`labelled_rows` returns for it.
    """
    splits = _splits(space, stage)
    columns = splits[-1].rows.column_names
    labelled = datasets.concatenate_datasets([split.rows.select_columns(columns) for split in splits])
    space.task.fit(labelled, rows.draws_N)


def _splits(space: Workspace, stage: FinetuneStage) -> list[Split]:
    wanted: dict[str, list[Split | None]] = {
        "source": [space.splits.train],
        "target": [space.splits.target_train],
        "both": [space.splits.train, space.splits.target_train],
    }
    return [split for split in wanted[stage.on] if split is not None]


def _shares(space: Workspace, source: Encoded, stage: FinetuneStage) -> dict[int, float]:
    """Share of each domain: the source domains divide what the target leaves, equally or as the recipe says."""
    assert stage.target_share is not None
    domains = {int(row["origin"]) for row in source.features}
    shares = space.recipe.data.source_shares or dict.fromkeys(domains, 1 / len(domains))
    return {domain: (1 - stage.target_share) * share for domain, share in shares.items()} | {TARGET: stage.target_share}


def _encoded(space: Workspace, split: Split, labelled: bool = True) -> Encoded:
    return space.task.encode(split.rows, space.tokenizer, space.limits, labelled=labelled)
