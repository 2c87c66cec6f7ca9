"""Source and target as two models see them: how well they can be told apart, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..diagnosis.distance import FEWEST, proxy_a_distance
from ..intervals import Interval
from .projection import project

SIDES = ("source", "target")


@dataclass(frozen=True)
class View:
    """The two domains in the eyes of one model.

    Args:
        model: What the model is called: ``pretrained``, ``source-only``, ``adapted`` or ``frozen``.
        distance: Proxy A-distance of the domains, 0 to 2; None where there are too few texts.
        accuracy: Share of texts whose domain a linear classifier finds (mean of the domains; chance is 0.5), or None.
        points: By domain, two coordinates for each text of the sample.
        shown: Share of the variance of the vectors that the two coordinates show.
    """

    model: str
    distance: Interval | None
    accuracy: float | None
    points: dict[str, list[list[float]]]
    shown: float


@dataclass(frozen=True)
class Domains:
    """The two domains before and after.

    Args:
        splits: By domain, the split that the texts are from.
        views: The model before, then the one after; one only where the encoder never moves.
    """

    splits: dict[str, str]
    views: list[View]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Domains:
        """Return what :meth:`to_dict` was taken of."""
        views = [
            View(**{**one, "distance": None if one["distance"] is None else Interval(**one["distance"])})
            for one in values["views"]
        ]
        return cls(values["splits"], views)


def compare_domains(
    vectors: Mapping[str, Mapping[str, np.ndarray]],
    texts: Mapping[str, Sequence[str]],
    splits: dict[str, str],
    seed: int,
) -> Domains:
    """Measure the domains in the vectors of one or two models.

    Args:
        vectors: By model and domain, one vector (N, H) a text.
        texts: By domain, what makes two texts the same: equal ones are never parted by cross-validation.
        splits: By domain, the split that the texts are from.
        seed: Of the cross-validation.
    """
    sizes = [len(texts[side]) for side in SIDES]
    both = {model: np.concatenate([sides[side] for side in SIDES]) for model, sides in vectors.items()}
    points, shown = project(both)
    domain_N = np.repeat([0, 1], sizes)
    _, group_N = np.unique(np.array([*texts["source"], *texts["target"]], dtype=str), return_inverse=True)
    enough = min(len(set(texts[side])) for side in SIDES) >= FEWEST
    views = []
    for model, vectors_NH in both.items():
        found = proxy_a_distance(vectors_NH, domain_N, group_N, seed) if enough else None
        halves = np.split(points[model].round(3), [sizes[0]])
        views.append(
            View(
                model,
                None if found is None else found.distance,
                None if found is None else found.accuracy,
                dict(zip(SIDES, (half.tolist() for half in halves), strict=True)),
                round(shown[model], 4),
            )
        )
    return Domains(splits, views)
