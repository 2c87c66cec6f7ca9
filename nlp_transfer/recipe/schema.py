"""What a recipe may say: one class a section, validated with pydantic.

Names and settings of tunings, methods and task heads that live in their own constructors (see
:mod:`nlp_transfer.parts`) are kept here as a name plus a mapping of settings; everything else is typed here.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from .comparing import CompareSpec
from .files import Columns as Columns
from .files import DataFile as DataFile
from .publishing import CardSpec, HubSpec
from .section import Section
from .stages import AnyStage, FinetuneStage, PretrainStage, SelfTrainStage, SoupStage, Stage, Training
from .training import AverageSpec as AverageSpec
from .training import TrainSpec as TrainSpec
from .trust import GuardSpec, SelectionSpec


class VocabularySpec(Section):
    """New tokens for the target: those that shorten its text most, see :mod:`nlp_transfer.vocabulary.extend`.

    Attributes:
        tokens: How many, at most.
    """

    tokens: Annotated[int, Field(ge=1, le=50_000)]


class ModelSpec(Section):
    """Where the weights come from.

    Attributes:
        id: Hub id (``owner/name``), local folder, or the folder of an earlier run.
        revision: Branch, tag or commit of a hub id.
        extend_vocabulary: Make tokens of what the vocabulary cuts into many pieces.
        trust_remote_code: Never allowed to be true here: models that bring their own code are refused.
    """

    shorthand = "id"

    id: str = Field(min_length=1)
    revision: str | None = None
    extend_vocabulary: VocabularySpec | None = None
    trust_remote_code: Annotated[
        Literal[False], Field(description="false (models that bring their own code are refused)")
    ] = False


Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="a name of letters, digits, '.', '_' and '-' that starts with a letter or digit",
    ),
]

Logger = Literal["tensorboard", "wandb", "mlflow", "trackio"]

LabelMap = dict[str, Annotated[str, Field(min_length=1)] | None]


class SourceData(Section):
    """A labelled domain.

    Attributes:
        name: What scores and distances of this domain are called, where there are several; by default its number, as
            in its key path.
        train: Rows that are trained on.
        dev: Rows that select the checkpoint.
        label_map: New names for labels (entity types for ner) of these rows; labels that it does not name stay as they
            are, and ``null`` drops one: the row of a text with one label, of several labels this one, the entity.
        share: Of several domains, this one's share of the source rows of every batch; by default all have the same.
            All say it, or none, and together they are 1.
    """

    name: Name | None = None
    train: DataFile
    dev: DataFile | None = None
    label_map: LabelMap | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None


def _named(source: SourceData, default: str) -> SourceData:
    return source if source.name is not None else source.model_copy(update={"name": default})


class TargetData(Section):
    """The domain the model must work in. Labels in ``dev`` and ``test`` are scored, never learned from.

    Attributes:
        unlabelled: Text; by default that of ``train``.
        train: A few labelled rows, for the ``finetune`` stages that say so (``on: target`` or ``both``).
        dev: Labelled rows, scored at the end; they select the checkpoint under ``selection: oracle``.
        test: Labelled rows, scored once, at the end.
        label_map: New names for the labels of all these rows, as in ``source``.
    """

    unlabelled: DataFile | None = None
    train: DataFile | None = None
    dev: DataFile | None = None
    test: DataFile | None = None
    label_map: LabelMap | None = None

    @property
    def has_text(self) -> bool:
        """Whether there is target text, labelled or not."""
        return self.unlabelled is not None or self.train is not None


class DataSpec(Section):
    """All data of a recipe.

    Attributes:
        folder: Folder that relative paths start from; ``demo:`` is the folder of the shipped demonstrations.
        source: The labelled domain, or a list of several. Each of several gives the same share of every batch, unless
            they say their shares.
        target: The domain that the model must work in.
        columns: Names of the columns of all files that do not name their own.
        dev_share: Share of the rows of a source held out when it has no ``dev``.
        max_length: Longest window in subword tokens; by default what the model can read (at most 512).
        stride: Tokens that two neighbouring windows of one text share; by default 32, at most a quarter of the window.
        long_texts: ``windows`` reads texts of any length in overlapping windows; ``truncate`` keeps the first
            window only, and the run reports how many texts lost words.
        repair_tags: Repair IOB2 violations (an inside tag without a beginning) instead of refusing the file.
    """

    folder: str = "."
    source: SourceData | Annotated[list[SourceData], Field(min_length=1)]
    target: TargetData = Field(default_factory=TargetData)
    columns: Columns = Field(default_factory=Columns)
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    max_length: Annotated[int, Field(ge=8, le=65536)] | None = None
    stride: Annotated[int, Field(ge=0)] | None = None
    long_texts: Literal["windows", "truncate"] = "windows"
    repair_tags: bool = False

    @property
    def sources(self) -> dict[str, SourceData]:
        """The source domains by key path in this section, each with a name: ``source``, or ``source.0`` and so on."""
        if isinstance(self.source, SourceData):
            return {"source": _named(self.source, "source")}
        return {f"source.{number}": _named(one, str(number)) for number, one in enumerate(self.source)}

    @property
    def source_shares(self) -> dict[int, float] | None:
        """The share of each source domain among source rows that are drawn, by its number; None: all have the same."""
        shares = [source.share for source in self.sources.values()]
        return {number: share for number, share in enumerate(shares) if share is not None} or None

    @property
    def files(self) -> dict[str, DataFile]:
        """The data files by key path in this section."""
        found = {f"{at}.{key}": getattr(one, key) for at, one in self.sources.items() for key in ("train", "dev")}
        found |= {f"target.{key}": getattr(self.target, key) for key in ("unlabelled", "train", "dev", "test")}
        return {path: file for path, file in found.items() if file is not None}

    @field_validator("source")
    @classmethod
    def _names_differ(cls, value: SourceData | list[SourceData]) -> SourceData | list[SourceData]:
        several = [] if isinstance(value, SourceData) else value
        names = [_named(one, str(number)).name for number, one in enumerate(several)]
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called '{twice[0]}'. Give each a name of its own")
        return value

    @field_validator("source")
    @classmethod
    def _shares_fit(cls, value: SourceData | list[SourceData]) -> SourceData | list[SourceData]:
        if isinstance(value, SourceData):
            if value.share is not None:
                raise ValueError("data.source.share divides batches among several sources, but here is one. Remove it")
            return value
        shares = {f"data.source.{number}.share": one.share for number, one in enumerate(value)}
        said = {path: share for path, share in shares.items() if share is not None}
        silent = [path for path in shares if path not in said]
        if said and silent:
            raise ValueError(
                f"{', '.join(said)} {'is' if len(said) == 1 else 'are'} set, but not {', '.join(silent)}. Set the "
                "share of every source, or of none"
            )
        if said and not math.isclose(sum(said.values()), 1, abs_tol=1e-6):
            told = ", ".join(f"{path} ({share:g})" for path, share in said.items())
            raise ValueError(f"{told} add up to {sum(said.values()):g}. They must add up to 1")
        return value

    @model_validator(mode="after")
    def _stride_fits(self) -> DataSpec:
        if self.max_length is not None and self.stride is not None and self.stride > self.max_length // 2:
            raise ValueError(
                f"stride {self.stride} is more than half of max_length {self.max_length}; "
                "windows would hardly advance. Lower data.stride or raise data.max_length"
            )
        return self


class TaskSpec(Section):
    """What is predicted.

    Attributes:
        name: classification, sentiment or ner.
        labels: Label names in order; by default the sorted labels of the training data.
        multi_label: Classification with any number of labels a text; thresholds are tuned on source dev.
        class_weights: ``balanced`` weighs rows by inverse label frequency; or a weight for each label.
        polarity: Sentiment only: how the labels of all rows become polarities, for instance
            ``{"1": negative, "2": negative, "4": positive, "5": positive}``. It must name every label (that the
            ``label_map`` of source or target leaves). A label mapped to ``null`` drops its rows (their number is
            reported).
    """

    shorthand = "name"

    name: Literal["classification", "sentiment", "ner"]
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    multi_label: bool = False
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    polarity: dict[str, str | None] | None = None

    @property
    def labels_words(self) -> bool:
        """Whether the task labels words, not texts."""
        return self.name == "ner"

    @model_validator(mode="after")
    def _settings_fit_task(self) -> TaskSpec:
        if self.multi_label and self.name != "classification":
            raise ValueError(f"multi_label works with task 'classification' only, not with '{self.name}'")
        if self.polarity is not None and self.name != "sentiment":
            raise ValueError(f"polarity works with task 'sentiment' only, not with '{self.name}'")
        if self.class_weights is not None and (self.name == "ner" or self.multi_label):
            raise ValueError("class_weights works with single-label classification and sentiment only")
        if self.labels is not None and len(self.labels) < 2 and self.name != "ner":
            raise ValueError(f"task '{self.name}' needs at least two labels, not {self.labels}")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels holds a name twice: {self.labels}")
        return self


class Part(Section):
    """A part by its name and its constructor's settings: ``{name: lora, rank: 8}``, or just ``lora``."""

    model_config = ConfigDict(extra="allow", strict=True)
    shorthand = "name"

    name: str = Field(min_length=1)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without the name."""
        return dict(self.model_extra or {})


def teachers_of(part: Part) -> list[str]:
    """Return the teachers that a method's settings name, one or several."""
    given = part.settings.get("teacher") or []
    return [given] if isinstance(given, str) else given


def _finetune_only() -> list[AnyStage]:
    return [FinetuneStage()]


class EvaluateSpec(Section):
    """How the final scores are made.

    Attributes:
        confidence: Level of the bootstrap intervals.
        resamples: Bootstrap resamples.
        batch_tokens: Tokens in one forward pass of prediction.
        label_free: Score every model by unlabelled target text too, as a comparison does.
        label_free_rows: Most rows of target text and of source dev that ``label_free`` looks at, and a guard with it.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    batch_tokens: Annotated[int, Field(ge=64)] = 2048
    label_free: bool = False
    label_free_rows: Annotated[int, Field(ge=2)] = 2000


class Recipe(Section):
    """Everything that determines a run.

    Attributes:
        name: Short name of the run.
        output: Run folder; by default ``runs/<name>``.
        seed: Seed of every random choice (data order, pairing and dropout each derive their own); rows held
            out for want of dev rows are the same for every seed.
        model: The pretrained encoder.
        task: What is predicted.
        data: Where rows come from.
        tuning: Which weights move: full, lora, frozen or top_layers.
        methods: Extra loss terms of ``finetune`` and of the rounds of ``self_train``, such as dann.
        stages: In which order; by default ``[finetune]``.
        train: Settings of every stage, unless the stage says otherwise.
        selection: Which score chooses the checkpoint of ``finetune`` and of each round of ``self_train``; the twin's is
            always source dev.
        source_only: Train and score the source-only twin (no methods, no unlabelled target text, as many optimizer
            steps as ``finetune`` and all rounds of ``self_train`` together) beside an adapted model. Without it nobody
            can say whether adaptation helped. Where stages train on labelled target rows, those of the twin do, too.
        guard: Keep the twin as the run's model where the adapted one has collapsed, or where nothing speaks for it;
            ``false`` keeps the adapted one whatever happens. By default on wherever there are both and target text.
        evaluate: How the final scores are made.
        report_to: Loggers beside ``log.jsonl``.
        compare: What ``nlp-transfer compare`` compares; a run takes no notice of it.
        card: What the model card tells and no run can know: licence, language, …
        hub: Where the model is pushed at the end of the run; by default nowhere.
    """

    name: Name
    output: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 13
    model: ModelSpec
    task: TaskSpec
    data: DataSpec
    tuning: Part = Field(default_factory=lambda: Part(name="full"))
    methods: list[Part] = Field(default_factory=list)
    stages: Annotated[list[Stage], Field(min_length=1)] = Field(default_factory=_finetune_only)
    train: TrainSpec = Field(default_factory=TrainSpec)
    selection: SelectionSpec = Field(default_factory=SelectionSpec)
    source_only: bool = True
    guard: bool | GuardSpec | None = None
    evaluate: EvaluateSpec = Field(default_factory=EvaluateSpec)
    report_to: list[Logger] = Field(default_factory=list)
    compare: CompareSpec | None = None
    card: CardSpec = Field(default_factory=CardSpec)
    hub: HubSpec | None = None

    @property
    def finetunes(self) -> list[FinetuneStage]:
        """The stages that train the task on labelled rows."""
        return [stage for stage in self.stages if isinstance(stage, FinetuneStage)]

    @property
    def trainings(self) -> dict[int, Training]:
        """The stages that train something, by their place among all."""
        return {number: stage for number, stage in enumerate(self.stages) if not isinstance(stage, SoupStage)}

    @property
    def uses_target_labels(self) -> bool:
        """Whether labelled target rows are trained on."""
        return any(stage.on != "source" for stage in self.finetunes)

    @property
    def adapts(self) -> bool:
        """Whether there is anything beyond fine-tuning, so that a twin without it says something."""
        return (
            bool(self.methods)
            or self.selection.name != "source_dev"
            or any(isinstance(stage, PretrainStage | SelfTrainStage) for stage in self.stages)
            or any(isinstance(stage, SoupStage) and stage.adapt for stage in self.stages)
        )
