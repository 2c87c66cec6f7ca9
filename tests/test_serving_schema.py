"""The service against its own OpenAPI description: whatever the description allows or forbids is answered properly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from services import Stub, running

from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.explaining import Question
from nlp_transfer.serving.schema import LabelAnswer
from nlp_transfer.serving.settings import ServiceLimits


def explained(question: Question) -> dict[str, Any]:
    words = [{"word": question.text[:1], "start": 0, "end": 1, "weight": 0.5}] if question.text else []
    return {
        "text": question.text, "label": "positive", "words": words, "rest": 0.0, "log_odds": 0.5, "base_log_odds": 0.0,
        "gap": 0.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    service = Service("stub", Stub(), LabelAnswer, ["positive", "negative"], twin=Stub(), explain=explained)
    with running(build_app(service, ServiceLimits(max_texts=3, max_characters=40, explain_characters=30))) as found:
        yield found.url


@pytest.fixture(scope="module")
def described(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


MANY = 100
"""Requests of each kind, where there is time for them."""
PATHS = {"/predict": "POST", "/twin": "POST", "/explain": "POST", "/health": "GET", "/metrics": "GET"}


MODES = list(schemathesis.GenerationMode)
ASKED = [(path, mode) for path, method in PATHS.items() for mode in MODES if method != "GET" or not mode.is_negative]
"""Of a GET there is nothing to get wrong."""


@pytest.mark.parametrize("examples", [6, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize(("path", "mode"), ASKED)
def test_every_request_is_answered_as_described(
    path: str, mode: schemathesis.GenerationMode, examples: int, described: Any
) -> None:
    """Statuses, headers and bodies; with ``negative`` requests that are not as described, which must be refused."""

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][PATHS[path]].as_strategy(mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(timeout=20)

    ask()


def test_the_description_tells_the_limits(url: str) -> None:
    description = httpx.get(f"{url}/openapi.json").json()
    assert set(description["paths"]) == set(PATHS)
    shapes = description["components"]["schemas"]
    texts = shapes["PredictRequest"]["properties"]["texts"]
    assert (texts["minItems"], texts["maxItems"], texts["items"]["maxLength"]) == (1, 3, 40)
    assert shapes["ExplainRequest"]["properties"]["text"]["maxLength"] == 30
    assert {"413", "422", "503", "504"} <= set(description["paths"]["/predict"]["post"]["responses"])
