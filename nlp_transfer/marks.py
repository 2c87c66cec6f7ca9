"""Numbers that stand for something missing. Apart from :mod:`..units`, so that answering needs no torch."""

from __future__ import annotations

UNKNOWN = -100
"""Label index of a unit without a label. Target units carry it, but for those that self-training has pseudo-labelled,
and those of ``data.target.train`` in stages that train on them: no other gold label of the target is in a batch."""

TARGET = -1
"""Origin of a unit of the target; those of K source domains are 0 … K − 1."""
