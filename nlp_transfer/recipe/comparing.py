"""What a comparison of strategies may be told: which, over which seeds, and how each is tuned."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from .section import Section

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Judge = Literal["ensemble", "source_dev", "entropy", "information_maximisation", "bnm", "class_ami", "dev"]

Title = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+ -]*$",
        description="text of letters, digits, spaces and . _ + - (in quotes where it looks like a number)",
    ),
]

Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A number that stays as it is written: whole, or not."""

SOURCE_ONLY = "source_only"
ENSEMBLE = "ensemble"
"""A student of all other strategies together: it learns the mean of their answers to target text."""
SOUP = "soup"
"""The mean of the weights of all other strategies: the stage of the same name."""


class StrategySpec(Section):
    """One way to get to a model for the target.

    Attributes:
        name: Names of methods, stages and tunings, joined by ``+``: ``source_only``, ``pretrain+dann``, ``lora``. A
            method or stage that the recipe itself holds brings the settings it has there.
        title: What the strategy is called in tables; by default its name. Two with the same name need titles.
        set: Overrides such as ``train.learning_rate=1e-4``, on top of the recipe and the name.
    """

    shorthand = "name"

    name: str = Field(min_length=1)
    title: Title | None = None
    set: list[str] = Field(default_factory=list)

    @property
    def label(self) -> str:
        """What the strategy is called."""
        return self.name if self.title is None else self.title


class Range(Section):
    """Values that a search may try: whole numbers where both ends are written as such (``1``, not ``1.0``).

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Draw evenly on a logarithmic scale.
    """

    low: Number
    high: Number
    log: bool = True

    @property
    def whole(self) -> bool:
        """Whether whole numbers are tried, and nothing between them."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.whole:
            self.low, self.high = float(self.low), float(self.high)
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 on a logarithmic scale (log: true)")
        return self


class SearchSpec(Section):
    """Tuning of each strategy with the same effort, without target labels.

    Attributes:
        trials: Trials of each strategy. Trials of what adapts train the twin, too, whose answers tell a collapse.
        minutes: No trial of a strategy begins after this time, twins included; alone or beside ``trials``. Quick
            strategies have more trials then: for equal effort set ``trials``.
        objective: What is maximised: the score on source dev, or a label-free score of target text.
        space: Ranges by key: ``train.learning_rate``, or ``dann.max_lambda`` for a setting of a method or stage, which
            the strategies without it leave out; the same range for all strategies that have it. By default the learning
            rate alone, from 0.4 to 4 times the default rate of the strategy's own tuning: 2e-5 to 2e-4 for ``full``,
            2e-4 to 2e-3 for ``lora``, 2e-3 to 2e-2 for ``frozen``, 4e-5 to 4e-4 for ``top_layers``.
    """

    trials: Annotated[int, Field(ge=1)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    objective: Literal["source_dev", "information_maximisation", "bnm", "class_ami", "dev"] = "source_dev"
    space: Annotated[dict[str, Range], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> SearchSpec:
        if self.trials is None and self.minutes is None:
            raise ValueError("tune needs a budget: set trials or minutes")
        return self


class CompareSpec(Section):
    """A comparison of strategies, run by ``nlp-transfer compare``.

    Attributes:
        strategies: What is compared. ``source_only`` always takes part: it is what gains are measured from.
        seeds: Every strategy is trained once with each.
        tune: Search of settings for each strategy before the seeds are run.
        picks_by: Label-free scores whose mean rank picks a strategy. By default ``ensemble``, the agreement with the
            answers of all models together; of fewer than three models ``class_ami``; without target text, and of
            taggers that learn no labels of the target, ``source_dev``.
    """

    strategies: Annotated[list[StrategySpec], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default_factory=lambda: [1, 2, 3])
    tune: SearchSpec | None = None
    picks_by: Annotated[list[Judge], Field(min_length=1)] | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_listed(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            listed = list(range(1, value + 1)) if 0 < value <= 10 else [value]
            raise ValueError(f"seeds is a list. Write {listed}")
        return value

    @model_validator(mode="after")
    def _named_apart(self) -> CompareSpec:
        labels = [strategy.label for strategy in self.strategies]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two strategies are called {twice[0]!r}; give one of them a title")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds holds a number twice: {self.seeds}")
        return self
