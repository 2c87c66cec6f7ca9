"""What requests and answers hold, as the OpenAPI description tells it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from .settings import ServiceLimits

LONGEST_LABEL = 1000
"""Characters."""


class Request(BaseModel):
    """A request: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def predict_request(limits: ServiceLimits) -> type[Request]:
    """Return the model of a request for answers."""
    text = Annotated[str, Field(max_length=limits.max_characters)]
    texts = Annotated[list[text], Field(min_length=1, max_length=limits.max_texts, description="Texts to answer for.")]
    return create_model("PredictRequest", __base__=Request, texts=(texts, ...))


def _whole(value: Any) -> Any:
    """Return 3 for 3.0: to JSON Schema both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def explain_request(limits: ServiceLimits) -> type[Request]:
    """Return the model of a request for an explanation."""
    text = Annotated[str, Field(max_length=limits.explain_characters, description="The text to explain.")]
    told = "Label to explain; by default the one that is answered."
    # With a bound pydantic looks into the text, and refuses lone surrogates.
    label = Annotated[str | None, Field(max_length=LONGEST_LABEL, description=told)]
    at = Annotated[
        Annotated[int, Field(ge=0), BeforeValidator(_whole)] | None,
        Field(description="Entities only: a character of the word to explain; by default the first entity."),
    ]
    return create_model("ExplainRequest", __base__=Request, text=(text, ...), label=(label, None), at=(at, None))


Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Answer(BaseModel):
    """What every answer holds."""

    text: str = Field(description="The text, as it was read.")
    empty: bool = Field(False, description="The text shows nothing.")


class LabelAnswer(Answer):
    """One label a text."""

    label: str
    score: Probability
    probabilities: dict[str, Probability]


class LabelsAnswer(Answer):
    """Any number of labels a text."""

    labels: list[str]
    probabilities: dict[str, Probability]


class Word(BaseModel):
    """A word, with its place in characters (code points)."""

    word: str
    start: int
    end: int


class TaggedWord(Word):
    """A word with its IOB2 tag."""

    tag: str
    score: Probability | None = Field(description="Null where the model has not read the word.")


class Entity(BaseModel):
    """A named entity, with its place in characters (code points)."""

    text: str
    label: str
    start: int
    end: int
    score: Probability


class EntitiesAnswer(Answer):
    """Entities of a text."""

    words: list[TaggedWord]
    entities: list[Entity]


class WeightedWord(Word):
    """A word with what it adds to the log-odds of the label."""

    weight: float


class Explanation(BaseModel):
    """Which words speak for a label, by integrated gradients; in log-odds, log p / (1 − p)."""

    text: str
    label: str
    at: int | None = Field(None, description="Entities only: where the explained word begins.")
    words: list[WeightedWord]
    rest: float = Field(description="What belongs to no word.")
    log_odds: float = Field(description="Of the label, for the text.")
    base_log_odds: float = Field(description="Of the label, for the text with every word masked.")
    gap: float = Field(description="log_odds − base_log_odds − all weights − rest: the error of the approximation.")


class Health(BaseModel):
    """State of the service."""

    status: str = Field(description="'ok', or 'stuck' where a batch takes longer than any request may.")


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str


def kind_of(answer: dict[str, Any]) -> type[Answer]:
    """Return the model of an answer, by its keys."""
    return EntitiesAnswer if "entities" in answer else LabelsAnswer if "labels" in answer else LabelAnswer


def answers_of(kind: type[Answer]) -> type[BaseModel]:
    """Return the model of a response."""
    return create_model("Answers", answers=(list[kind], Field(description="One for each text, in order.")))  # type: ignore[valid-type]
