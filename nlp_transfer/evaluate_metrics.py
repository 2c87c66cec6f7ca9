"""The headline metrics as ``evaluate.Metric`` classes, for use in code that is built on the evaluate library.

Nothing is fetched: ``evaluate.load`` would need the network, these classes do not. They take label *names*,
call scikit-learn and seqeval, and give the same numbers as :mod:`nlp_transfer.metrics`; a test holds both to
it. They work with ``add_batch`` and ``compute``, and in ``evaluate.combine``. They have a file of their own
because importing evaluate takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import datasets
import evaluate
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

Average = Literal["macro", "weighted", "micro"]


class _LocalMetric(evaluate.Metric):
    """A metric that is held in memory and reads strings, or lists of strings.

    Args:
        lists: Whether a row is a list of strings.
        settings: Passed to ``evaluate.Metric``, such as ``experiment_id``.
    """

    def __init__(self, lists: bool, **settings: Any):
        self.lists = lists
        super().__init__(**{"keep_in_memory": True, **settings})

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        row = datasets.List(text) if self.lists else text
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions and references: for each row a string, or a list of strings.",
            features=datasets.Features({"predictions": row, "references": row}),
        )


class Accuracy(_LocalMetric):
    """Share of rows with the right label: ``{"accuracy": …}``.

    Args:
        settings: Passed to ``evaluate.Metric``.
    """

    def __init__(self, **settings: Any):
        super().__init__(lists=False, **settings)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(list(references), list(predictions)))}


class F1(_LocalMetric):
    """F1 over labels, under the name of its average: ``{"macro_f1": …}``.

    Args:
        average: ``macro``, the mean over labels that occur; ``weighted``, weighted by gold rows; ``micro``,
            over all decisions.
        multi_label: Whether a row is a list of any number of labels.
        settings: Passed to ``evaluate.Metric``.

    Raises:
        ValueError: For another average.
    """

    def __init__(self, average: Average = "macro", multi_label: bool = False, **settings: Any):
        if average not in ("macro", "weighted", "micro"):
            raise ValueError(f"average must be 'macro', 'weighted' or 'micro', not {average!r}.")
        self.average = average
        super().__init__(lists=multi_label, **settings)

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        gold, predicted = list(references), list(predictions)
        if self.lists:
            binarizer = MultiLabelBinarizer().fit([*gold, *predicted])
            if not len(binarizer.classes_):  # scikit-learn refuses a matrix without columns
                return {f"{self.average}_f1": 0.0}
            gold, predicted = binarizer.transform(gold), binarizer.transform(predicted)
        return {f"{self.average}_f1": float(f1_score(gold, predicted, average=self.average, zero_division=0))}


class StrictEntityF1(_LocalMetric):
    """Strict IOB2 entity scores by seqeval: ``{"precision": …, "recall": …, "f1": …}``.

    A row is the list of a sentence's tags. seqeval is lenient unless told otherwise: it would count
    ``I-PER I-PER`` as right for the entity ``B-PER I-PER``.

    Args:
        settings: Passed to ``evaluate.Metric``.
    """

    def __init__(self, **settings: Any):
        super().__init__(lists=True, **settings)

    def _compute(self, predictions: Sequence[list[str]], references: Sequence[list[str]]) -> dict[str, float]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            list(references), list(predictions), average="micro", scheme=IOB2, zero_division=0
        )
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
