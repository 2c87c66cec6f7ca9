"""How far the target is from the source, and from each source domain where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.load import ORIGIN, Split
from .distance import FEWEST, ADistance, bag_of_words, proxy_a_distance
from .probe import TARGET, TRAIN, Probe
from .result import Skipped
from .texts import words_of

NO_TARGET = Skipped("there is no target text: name it with data.target.unlabelled")


def a_distances(probe: Probe, samples: Mapping[str, Split], seed: int) -> dict[str, ADistance | Skipped]:
    """Measure the A-distance on what a text method, a bag of words and, for NER, a word method sees."""
    if TARGET not in samples:
        return {"features": NO_TARGET}
    sides = [probe.features[role] for role in (TRAIN, TARGET)]
    words = [words_of(samples[role])[: len(side)] for role, side in zip((TRAIN, TARGET), sides, strict=True)]
    groups = [np.array(side.groups_N, dtype=object) for side in sides]
    found = {
        "features": _a_distance(np.concatenate([side.texts_NH for side in sides]), groups, seed),
        "words": _a_distance(bag_of_words(words[0] + words[1]), groups, seed),
    }
    if probe.questions.unit == "words":
        groups = [of_text[side.rows_U] for of_text, side in zip(groups, sides, strict=True)]
        found["word features"] = _a_distance(np.concatenate([side.units_UH for side in sides]), groups, seed)
    return found


def source_distances(
    probe: Probe, samples: Mapping[str, Split], names: Sequence[str], seed: int
) -> dict[str, ADistance | Skipped]:
    """Measure the A-distance of the target from each source domain, on encoder features of what the task labels.

    All are measured on as many texts, as the distance grows with their number; domains of too few texts are left out.

    Args:
        probe: The encoder's view of the samples.
        samples: Sampled splits by role; source rows say which domain they come from.
        names: Names of the source domains.
        seed: Seed of the folds and resamples.

    Returns:
        By name; nothing where there is one source domain, or no target text.
    """
    if len(names) == 1 or TARGET not in samples:
        return {}
    home, away = probe.features[TRAIN], probe.features[TARGET]
    origins_N = np.asarray(samples[TRAIN].rows[ORIGIN][:])[: len(home)]
    rows_of = [np.flatnonzero(origins_N == number) for number in range(len(names))]
    most = min((len(rows) for rows in rows_of if len(rows) >= FEWEST), default=0)
    groups_N = np.array(home.groups_N, dtype=object)
    away_U = np.array(away.groups_N, dtype=object)[away.rows_U]
    found = {}
    for name, rows in zip(names, rows_of, strict=True):
        units = np.isin(home.rows_U, rows[:most] if len(rows) >= FEWEST else rows)
        groups = [groups_N[home.rows_U[units]], away_U]
        found[name] = _a_distance(np.concatenate([home.units_UH[units], away.units_UH]), groups, seed)
    return found


def _a_distance(features_UX: Any, groups: Sequence[np.ndarray], seed: int) -> ADistance | Skipped:
    fewest = min(len(set(side)) for side in groups)
    if fewest < FEWEST:
        return Skipped(f"{fewest} different texts in one domain; at least {FEWEST} are needed to measure it")
    domain_U = np.repeat([0, 1], [len(side) for side in groups])
    _, group_U = np.unique(np.concatenate(groups).astype(str), return_inverse=True)
    return proxy_a_distance(features_UX, domain_U, group_U, seed)
