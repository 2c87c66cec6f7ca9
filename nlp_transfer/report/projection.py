"""Two models' vectors of the same texts in two dimensions, by one projection for both.

Shape suffixes: N texts, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def project(vectors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Project onto the two directions in which all vectors together vary most (PCA).

    Models differ in the place and the scale of their vectors, which says nothing of the domains: each model's are
    centred and divided by their root mean square distance from the centre first. Then one principal component analysis
    is made of all of them, so that a direction means the same in every picture. Labels and domains have no part in it.

    Args:
        vectors: By model, one vector (N, H) a text.

    Returns:
        By model, coordinates (N, 2), and the share of its variance that they show, 0 to 1.
    """
    scaled = {name: _scaled(values_NH.astype(np.float64)) for name, values_NH in vectors.items()}
    _, _, axes_HH = np.linalg.svd(np.concatenate(list(scaled.values())), full_matrices=False)
    axes_2H = axes_HH[:2]
    # The sign of an axis is arbitrary: its largest entry is made positive.
    largest = np.abs(axes_2H).argmax(1)
    axes_2H = axes_2H * np.sign(axes_2H[np.arange(len(axes_2H)), largest])[:, None]
    points = {name: values_NH @ axes_2H.T for name, values_NH in scaled.items()}
    shown = {name: float((points[name] ** 2).sum() / max((scaled[name] ** 2).sum(), 1e-12)) for name in scaled}
    return points, shown


def _scaled(values_NH: np.ndarray) -> np.ndarray:
    centred_NH = values_NH - values_NH.mean(0)
    spread = np.sqrt((centred_NH**2).sum(1).mean())
    return np.asarray(centred_NH / spread if spread > 0 else centred_NH)
