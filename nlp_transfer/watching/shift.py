"""Whether a window differs from its reference by more than sampling explains, however many windows are looked at.

Shares of labels are compared by Fisher's exact test, confidences by the two-sample Kolmogorov-Smirnov test. Both count
the noise of the window and that of the reference. A window is tested at a level of its own (alpha spending), which its
tests divide among them (Bonferroni): while nothing shifts, the chance that a stream ever raises an alert is at most
alpha, if its texts are drawn independently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from .tally import Tally

CONFIDENCE = "confidence"
SHARE = "label share"
_TOTAL = 2.109742801236891974479
"""Sum of 1 / (k ln² k) over k ≥ 2 (OEIS A115563)."""


@dataclass(frozen=True)
class Test:
    """One comparison of a window with its reference.

    Args:
        of: :data:`SHARE` or :data:`CONFIDENCE`.
        label: The label, of a share.
        value: Share, or mean confidence, in the window.
        reference: The same in the reference.
        p: Chance of a difference as large while nothing has shifted.
        level: The p-value up to which it is an alert.
    """

    of: str
    label: str | None
    value: float
    reference: float
    p: float
    level: float

    @property
    def rejects(self) -> bool:
        """Whether it is an alert."""
        return self.p <= self.level

    @property
    def measure(self) -> tuple[str, str | None]:
        """What is compared."""
        return self.of, self.label


def level_of(number: int, alpha: float) -> float:
    """Return the level at which a window is tested.

    Alpha spending over an endless sequence (Lan and DeMets 1983; for sequences without an end Foster and Stine 2008):
    window t gets alpha · γ_t with γ_t = 1 / (c (t + 1) ln²(t + 1)), and all γ_t together are 1.

    Args:
        number: How many windows have been tested, this one included: 1 for the first one.
        alpha: Chance of a false alert over all windows together.
    """
    return alpha / (_TOTAL * (number + 1) * math.log(number + 1) ** 2)


def compare(window: Tally, reference: Tally, level: float) -> list[Test]:
    """Test whether labels and confidence of a window are those of the reference.

    Args:
        window: At least one text.
        reference: At least one text.
        level: Chance that any of these tests alerts falsely.
    """
    labels = sorted(
        label for label in {*window.counts, *reference.counts} if window.counts[label] + reference.counts[label]
    )
    if len(labels) == 2 and all(side.counts.total() == side.texts for side in (window, reference)):
        labels = labels[:1]  # of two labels that exclude each other, one tells all
    rated = bool(window.confidences and reference.confidences)
    each = level / (len(labels) + rated)
    tests = [
        Test(SHARE, label, window.share(label), reference.share(label), share_p(window, reference, label), each)
        for label in labels
    ]
    if rated:
        means = [fmean(side.confidences) for side in (window, reference)]
        tests.append(Test(CONFIDENCE, None, means[0], means[1], confidence_p(window, reference), each))
    return tests


def share_p(window: Tally, reference: Tally, label: str) -> float:
    """Compare the shares of a label: Fisher's exact test of the 2 × 2 table, two-sided (Fisher 1935).

    It is exact for any number of texts, where the chi-square approximation is not: alerts need very small p-values.
    """
    from scipy.stats import fisher_exact

    inside = [window.counts[label], reference.counts[label]]
    outside = [window.texts - inside[0], reference.texts - inside[1]]
    return float(fisher_exact([inside, outside]).pvalue)


def confidence_p(window: Tally, reference: Tally) -> float:
    """Compare the distributions of confidences: two-sample Kolmogorov-Smirnov test, two-sided (Hodges 1958)."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(window.confidences, reference.confidences).pvalue)
