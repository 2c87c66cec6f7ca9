"""The service against its own OpenAPI description: whatever the description allows or forbids is answered properly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
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


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_request_is_answered_as_described(case: Any) -> None:
    case.call_and_validate(timeout=20)


def test_the_description_tells_the_limits(url: str) -> None:
    description = httpx.get(f"{url}/openapi.json").json()
    assert set(description["paths"]) == {"/predict", "/twin", "/explain", "/health", "/metrics"}
    shapes = description["components"]["schemas"]
    texts = shapes["PredictRequest"]["properties"]["texts"]
    assert (texts["minItems"], texts["maxItems"], texts["items"]["maxLength"]) == (1, 3, 40)
    assert shapes["ExplainRequest"]["properties"]["text"]["maxLength"] == 30
    assert {"413", "422", "503", "504"} <= set(description["paths"]["/predict"]["post"]["responses"])
