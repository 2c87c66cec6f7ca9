"""What a recipe may say about a pretrain stage: on which text, with which objective, and the settings of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .files import DataFile
from .section import Section

Portion = Annotated[float, Field(gt=0, lt=1)]

WORK = {
    "mlm": "predicts hidden words with a vocabulary head",
    "tsdae": "rebuilds a text from the vector of what is left of it",
    "simcse": "contrasts the vectors of texts",
}
"""What each objective does: the reason why it has no use for the settings of another."""

OWNERS: dict[str, tuple[str, ...]] = {
    "mask_rate": ("mlm",),
    "whole_words": ("mlm",),
    "head_steps": ("mlm",),
    "delete_rate": ("tsdae",),
    "temperature": ("simcse",),
    "pooling": ("tsdae", "simcse"),
}
"""Settings that not every objective has, with those that do."""

OBJECTIVE_DEFAULTS: dict[str, dict[str, float | bool]] = {
    "mlm": {"mask_rate": 0.15, "whole_words": True},
    "tsdae": {"delete_rate": 0.6},
    "simcse": {"temperature": 0.05},
}


class Choice(Section):
    """Keep the rows that look most like the target (Moore and Lewis 2010).

    Attributes:
        rows: How many rows are kept, out of all that are read (``corpus.rows`` says how many are read at all).
        share: Or which share of them.
        like: Which text they should look like.
    """

    rows: Annotated[int, Field(ge=1)] | None = None
    share: Portion | None = None
    like: Literal["target", "source"] = "target"

    @model_validator(mode="after")
    def _one_size(self) -> Choice:
        if (self.rows is None) == (self.share is None):
            raise ValueError("say how many rows are kept, either with rows (a number) or with share (of all)")
        return self


class CorpusFile(DataFile):
    """A further file of unlabelled text; rows are read one at a time, so it may be larger than memory.

    Attributes:
        rows: Read so many rows, from the first, and leave the rest of the corpus unread; by default all are read.
            ``choose.rows`` is another number: how many of the rows that were read are kept, wherever they stand.
        streaming: Read a data set of the hub over the network, row by row, instead of downloading it first; only its
            tokens lie on disk, in the run folder. The run keeps to the commit that it began with.
        choose: Keep some rows only, those that look most like the target; by default all that are read.
    """

    rows: Annotated[int, Field(ge=1)] | None = None
    streaming: bool = False
    choose: Choice | None = None


class PretrainSettings(Section):
    """Continue the encoder's pretraining on unlabelled text (Gururangan et al. 2020).

    Attributes:
        objective: ``mlm``, masked language modelling; ``tsdae`` (Wang et al. 2021) or ``simcse`` (Gao et al. 2021),
            which train one vector a text.
        text: Whose text: ``target`` (unlabelled rows), ``source`` or ``both``; by default ``target``, or with a
            ``corpus`` the corpus alone.
        corpus: A further file of unlabelled text of any size, read in addition to ``text``.
        mask_rate: mlm: share of the words that are masked; by default 0.15.
        whole_words: mlm: mask all pieces of a word together; by default true.
        head_steps: mlm: optimizer steps in which a fresh masked-LM head is fitted with the encoder frozen before
            both train together; by default 200 when the checkpoint has no such head, else 0.
        delete_rate: tsdae: share of the words that are deleted; by default 0.6.
        temperature: simcse: of the softmax over similarities; by default 0.05.
        pooling: tsdae, simcse: what a text's vector is: ``cls``, the first token's, or ``mean``, over all tokens; by
            default as the encoder was trained (``mean`` for all-MiniLM), else ``cls``.
        block_length: Tokens in one block; by default ``data.max_length``, at most 128. mlm packs texts together into
            blocks; for tsdae and simcse a block is one text, and longer texts are cut into several.
    """

    shorthand = "name"

    name: Literal["pretrain"] = "pretrain"
    objective: Literal["mlm", "tsdae", "simcse"] = "mlm"
    text: Literal["target", "source", "both"] | None = None
    corpus: CorpusFile | None = None
    mask_rate: Portion | None = None
    whole_words: bool | None = None
    head_steps: Annotated[int, Field(ge=0)] | None = None
    delete_rate: Portion | None = None
    temperature: Annotated[float, Field(gt=0, le=1)] | None = None
    pooling: Literal["mean", "cls"] | None = None
    block_length: Annotated[int, Field(ge=16, le=8192)] | None = None

    @model_validator(mode="after")
    def _settings_fit_objective(self) -> PretrainSettings:
        for key, owners in OWNERS.items():
            if getattr(self, key) is not None and self.objective not in owners:
                raise ValueError(
                    f"{key} is a setting of objective {' and '.join(owners)}; '{self.objective}' has no use for it, as "
                    f"it {WORK[self.objective]}. Remove {key}, or set objective: {owners[0]}"
                )
        return self
