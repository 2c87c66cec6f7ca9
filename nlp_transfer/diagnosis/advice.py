"""What to try first: a few rules over the measured evidence, each with what speaks for it.

The rules, in this order (thresholds below):

1. Source-only comes first, always: without it nobody can say what adaptation did.
2. No target text: nothing can be adapted; collect some.
3. Near domains (A-distance below ``NEAR``, its interval below ``FAR``): there is nothing to adapt, so all adaptation is
   advised against.
4. Few target texts (fewer than ``FEW_ROWS``): no adaptation; label some of them instead.
5. Foreign words (a gap of ``UNSEEN_GAP``, ``PIECES_GAP`` or ``PERPLEXITY_RATIO``): read target text, as a stage
   (pretrain) with at least ``MUCH_TEXT`` tokens of it, else beside the task (joint_mlm).
6. Labels that seem shifted (by ``SHIFT`` and more than noise): no alignment of features, self-training with
   confidence instead. Where the domains differ by more than shifted labels can explain, the estimate cannot be
   trusted: count labels in some target texts first.
7. Texts of domains that are not near, without such a shift: ``soup``, the mean of the weights of source_only, dann and
   mcc, which is what has helped most on reviews; where it cannot be had, mcc.
8. Far domains (A-distance of ``FAR`` or more) without such a shift: alignment of features alone may help or harm; of
   words it has mostly harmed, unless ``anchor`` held it.

A rule only names what this package has. What a rule rests on is said with it; none is more than a good guess, which the
source-only twin of a run puts to the test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ..intervals import Interval
from ..recipe.comparing import SOUP, SOURCE_ONLY

NEAR = 0.5
FAR = 1.0
FEW_ROWS = 100
UNSEEN_GAP = 0.05
PIECES_GAP = 0.1
PERPLEXITY_RATIO = 1.5
MUCH_TEXT = 100_000
SHIFT = 0.1
ALIGNING = ("mmd", "dann", "coral", "cdan")
"""Methods that make the features of the domains alike, in the order in which they are named: that of ``SCREEN``."""
SOUP_OF = ("dann", "mcc")
"""Strategies that ``soup`` was made of beside source_only, where it was measured."""

HELD = "dann+anchor"
"""What has helped of words where it was measured: alignment that may not leave the twin's answers."""

KAROUZOS = (
    "Karouzos et al. 2021 (arXiv 2104.07078), accuracy of BERT-base on 12 pairs of Amazon reviews: source_only 89.9, "
    "pretrain 90.8, pretrain and then joint_mlm 91.7, dann 87.7"
)
REVIEWS = (
    "measured with this package, accuracy on six pairs of reviews, three seeds, mean gain over source_only: soup +0.8 "
    "[-0.0, +1.7], mcc +0.4 [-0.5, +1.2] (with other draws -0.1 [-1.1, +1.0]), dann +0.1 [-0.9, +1.0]; beyond chance "
    "on no single pair. The mean of three source-only models gained +0.6: much of it is the averaging"
)
SCREEN = (
    "measured with this package on two pairs of reviews, one seed, mean gain over source_only: mmd +0.7, dann +0.5, "
    "coral +0.3, cdan -0.3 (dann and cdan unbounded)"
)
ENTITIES = (
    "measured with this package, entity F1 from news to politics and science, one seed, plain settings: dann lost 4.1 "
    "and 2.4 points, cdan 4.0 and 2.1, coral 8.1 and 4.4, mmd 8.9 and 0.7 (no evidence); dann with anchor, which holds "
    "its answers near the twin's, gained 0.9 and 1.0"
)
TWIN = "the rule of this package: every gain is measured against it"
BOUND = "Ben-David et al. 2010: target error ≤ source error + ½ distance + what no model gets right in both domains"


@dataclass(frozen=True)
class Evidence:
    """What the rules look at; None where it was not measured.

    Args:
        target_rows: Texts of the target; 0 without any.
        target_tokens: Tokens of the target text in all.
        words: The task labels words, not texts.
        a_distance: Proxy A-distance on encoder features of what the task labels.
        unseen_gap: Share of target words unseen in the source, minus that of held-out source words.
        pieces_gap: Pieces per word in the target minus those in the source.
        perplexity_ratio: Pseudo-perplexity of the target ÷ that of the source.
        shift: Estimated shift of the labels (total variation).
        shift_clear: It is larger than its noise.
        weak: The classifier behind the shift is hardly better than the most frequent label.
        frozen: The recipe's tuning never changes features.
    """

    target_rows: int
    target_tokens: float = 0.0
    words: bool = False
    a_distance: Interval | None = None
    unseen_gap: float | None = None
    pieces_gap: float | None = None
    perplexity_ratio: float | None = None
    shift: float | None = None
    shift_clear: bool = False
    weak: bool = False
    frozen: bool = False

    @property
    def shifted(self) -> bool:
        """Whether the labels seem to be shifted so much that it matters."""
        return self.shift is not None and self.shift_clear and self.shift >= SHIFT and not self.weak

    @property
    def shift_explains(self) -> bool:
        """Whether shifted labels alone could have made the domains so different.

        If p(x | y) is shared, the total variation of the texts is at most that of the labels, so that no classifier
        reaches an A-distance above twice the shift.
        """
        if self.shift is None or self.a_distance is None:
            return True
        return self.a_distance.low <= 2 * self.shift


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Args:
        verdict: first, try, maybe, avoid, or do (something that is no strategy).
        strategy: Name of the strategy, as recipes write it, or what to do.
        because: The measured reasons.
        basis: What evidence the rule has.
        compare: The strategy, or several with commas between, as ``nlp-transfer compare`` takes them; empty where there
            is none.
    """

    verdict: str
    strategy: str
    because: str
    basis: str
    compare: str = ""


def advise(found: Evidence, names: Collection[str]) -> list[Advice]:
    """Apply the rules of this module.

    Args:
        found: What was measured.
        names: Names of the methods and stages that this recipe could have; and ``soup``.

    Returns:
        Advice in the order in which to try it; what to avoid comes last.
    """
    advice = [Advice("first", SOURCE_ONLY, "it is the yardstick, and often the best", TWIN, SOURCE_ONLY)]
    aligning = [name for name in ALIGNING if name in names]
    stop = _no_text(found) or _near(found) or _few(found)
    if stop is not None:
        return [*advice, stop]
    rules: list[Callable[[], list[Advice]]] = [
        lambda: _foreign_words(found, names),
        lambda: _labels(found, aligning, names),
        lambda: _texts(found, names),
        lambda: _far(found, aligning, names),
    ]
    advice += [item for rule in rules for item in rule()]
    if len(advice) == 1:
        text = "no gap in words, features or labels is large enough for one of the rules"
        advice.append(Advice("maybe", "nothing more", text, "none: look at the table above, and at what a run gains"))
    return sorted(advice, key=lambda item: ["first", "do", "try", "maybe", "avoid"].index(item.verdict))


def comparisons(advice: Iterable[Advice]) -> list[str]:
    """Return what to compare by the advice, as ``--strategies`` takes it: one comparison, or two where one has a soup.

    A soup is made of all strategies of its comparison: beside others it would not be the one that was measured.
    """
    named = dict.fromkeys(item.compare for item in advice if item.compare)
    alone = [names for names in named if "," in names]
    others = [names for names in named if "," not in names]
    return [*alone, *([",".join(others)] if not alone or others != [SOURCE_ONLY] else [])]


def _named(found: Evidence, strategy: str) -> str:
    # Frozen features refuse what would change them.
    return f"full+{strategy}" if found.frozen else strategy


def _no_text(found: Evidence) -> Advice | None:
    if found.target_rows:
        return None
    because = "without target text nothing can be compared or adapted"
    return Advice("do", "collect target text", because, "every strategy here needs it; labels are not needed")


def _near(found: Evidence) -> Advice | None:
    if found.a_distance is None or found.a_distance.value >= NEAR or found.a_distance.high >= FAR:
        return None
    because = f"A-distance {found.a_distance.value:.2f}, below {NEAR}: the domains are hardly told apart"
    return Advice("avoid", "adaptation", because, BOUND)


def _few(found: Evidence) -> Advice | None:
    if found.target_rows >= FEW_ROWS:
        return None
    because = f"{found.target_rows} target texts, fewer than {FEW_ROWS}: too few to learn a domain from"
    return Advice("do", "label target texts, or collect more", because, "rule of thumb")


def _foreign_words(found: Evidence, names: Collection[str]) -> list[Advice]:
    gaps = [
        (found.unseen_gap, UNSEEN_GAP, lambda gap: f"{gap:.0%} more unseen words than in held-out source text"),
        (found.pieces_gap, PIECES_GAP, lambda gap: f"{gap:.2f} more pieces a word than in the source"),
        (found.perplexity_ratio, PERPLEXITY_RATIO, lambda gap: f"{gap:.1f} times the perplexity of the source"),
    ]
    reasons = [text(gap) for gap, least, text in gaps if gap is not None and gap >= least]
    if not reasons:
        return []
    because = f"{' and '.join(reasons)}; {found.target_tokens:,.0f} tokens of target text"
    plenty = found.target_tokens >= MUCH_TEXT
    advice = []
    if {"pretrain", "joint_mlm"} <= {*names} and found.perplexity_ratio is not None:
        # Without a trained masked-LM head its loss takes over: all-MiniLM lost 2 to 5 points on product reviews.
        advice.append(Advice("try", "pretrain+joint_mlm", because, KAROUZOS, _named(found, "pretrain+joint_mlm")))
    if "pretrain" in names:
        basis = "Gururangan et al. 2020 (arXiv 2004.10964): gains in 4 domains, larger for unlike ones. "
        size = "" if plenty else f" (fewer than {MUCH_TEXT:,}: little to learn from)"
        advice.append(
            Advice(
                "try" if plenty else "maybe", "pretrain", because + size, basis + KAROUZOS, _named(found, "pretrain")
            )
        )
    return advice[::-1] if plenty else advice


def _labels(found: Evidence, aligning: list[str], names: Collection[str]) -> list[Advice]:
    if not found.shifted:
        return []
    because = f"estimated shift of the labels {found.shift:.2f}, more than resampling explains"
    if not found.shift_explains:
        text = (
            f"{because}; but the domains differ by more than shifted labels can, so the classifier may as well "
            "misread the target"
        )
        basis = "an A-distance above twice the shift contradicts the assumption behind the estimate"
        return [Advice("do", "label 50 target texts by hand (nlp-transfer draw)", text, basis)]
    advice = []
    if "self_train" in names:
        basis = "rule of thumb: confident pseudo-labels follow the target's own shares; results vary"
        advice.append(Advice("maybe", "self_train", because, basis, _named(found, "self_train")))
    if aligning:
        basis = "Zhao et al. 2019 (arXiv 1901.09453): features made alike across unlike label shares must err"
        advice.append(Advice("avoid", " or ".join(aligning), because, basis))
    return advice


def _texts(found: Evidence, names: Collection[str]) -> list[Advice]:
    """Advise what has helped on texts; of words it has hurt."""
    if found.words or "mcc" not in names or found.a_distance is None or found.a_distance.value < NEAR:
        return []
    if found.shifted and found.shift_explains:
        return []
    because = f"A-distance {found.a_distance.value:.2f} of 2: the domains of the texts can be told apart"
    if not {SOUP, *SOUP_OF} <= {*names}:
        return [Advice("maybe", "mcc", because, REVIEWS, _named(found, "mcc"))]
    verdict = "try"
    if found.shifted:
        verdict, because = "maybe", f"{because}; only if the labels turn out not to be shifted"
    told = f"{SOUP} ({', '.join((SOURCE_ONLY, *SOUP_OF))}: the mean of their weights)"
    return [Advice(verdict, told, because, REVIEWS, ",".join((SOURCE_ONLY, *SOUP_OF, SOUP)))]


def _far(found: Evidence, aligning: list[str], names: Collection[str]) -> list[Advice]:
    if not aligning or found.a_distance is None or found.a_distance.value < FAR:
        return []
    if found.shifted and found.shift_explains:
        return []
    because = f"A-distance {found.a_distance.value:.2f} of 2: encoder features tell the domains apart"
    if found.words:
        alone = Advice("avoid", " or ".join(aligning), because, ENTITIES)
        held = Advice("maybe", HELD, because, ENTITIES, _named(found, HELD))
        return [held, alone] if {*HELD.split("+")} <= {*names} else [alone]
    if found.shifted:
        because += "; only if the labels turn out not to be shifted"
    elif found.shift is not None:
        because += f", and the estimated shift of the labels ({found.shift:.2f}) is small or unsure"
    basis = f"mixed: a difference of topics alone gives such a distance and costs a tuned model little. {SCREEN}; "
    # What is advised for texts holds one of them already.
    first = "" if "mcc" in names else _named(found, aligning[0])
    return [Advice("maybe", " or ".join(aligning), because, basis + KAROUZOS, first)]
