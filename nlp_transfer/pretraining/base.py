"""What a pretraining objective is: how text becomes items, and what is minimised on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from ..data.blocks import Block
from ..objectives import Objective


class Pretraining(ABC):
    """Base class; the pretrain stage knows objectives only through it.

    Attributes:
        joined: Texts are packed together into blocks. Otherwise a block is one text.
        trains_head: The masked-LM head of the model is trained; otherwise it stays as it is.
        citation: Paper, as the model card shows it.
    """

    joined: ClassVar[bool] = False
    trains_head: ClassVar[bool] = False
    citation: ClassVar[str] = ""

    @abstractmethod
    def items(self, blocks: Sequence[Block]) -> Any:
        """Return a dataset over blocks that is indexed by ``Pick``, each item a pure function of it."""

    @abstractmethod
    def objective(self, model: Any) -> AbstractContextManager[Objective]:
        """Return what is minimised, to be entered before the training and left after it.

        Args:
            model: The masked-LM model, after tuning.
        """
