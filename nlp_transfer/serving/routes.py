"""The paths of the service that programs call."""

# Annotations are evaluated here: FastAPI reads the models of requests off them, and these are made for the limits.

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .batching import Batcher
from .explaining import NotExplained, Question
from .metrics import Metrics
from .schema import Answer, Explanation, Health, Refusal, answers_of, explain_request, predict_request
from .settings import ServiceLimits

PREDICT, TWIN, EXPLAIN, HEALTH, METRICS = "/predict", "/twin", "/explain", "/health", "/metrics"

Responses = dict[int | str, dict[str, Any]]

REFUSALS = {
    400: "The body is no valid JSON, or no valid UTF-8.",
    401: "There is no valid token.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The request is not as described, or beyond a limit.",
    500: "The model failed on this request.",
    503: "Too much is waiting. Retry-After says in how many seconds to ask again.",
    504: "There was no answer in time.",
}


def model_routes(
    kind: type[Answer], lanes: Mapping[str, Batcher], limits: ServiceLimits, metrics: Metrics
) -> APIRouter:
    """Return the paths that ask a model: those of the lanes."""
    router = APIRouter(responses={status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()})
    found: Responses = {200: {"model": answers_of(kind), "description": "The answers."}}
    predict_body: Any = predict_request(limits)
    explain_body: Any = explain_request(limits)

    @router.post(PREDICT, response_class=JSONResponse, responses=found, summary="Answer for texts")
    async def predict(request: predict_body) -> Response:
        return await _answers(PREDICT, request.texts)

    async def _answers(path: str, texts: Sequence[str]) -> Response:
        replies = await lanes[path].submit(texts, [tokens_of(text) for text in texts], limits.timeout)
        metrics.texts.labels(path).inc(len(texts))
        return Response(b'{"answers":[' + b",".join(replies) + b"]}", media_type="application/json")

    if TWIN in lanes:

        @router.post(TWIN, response_class=JSONResponse, responses=found, summary="Answers of the source-only twin")
        async def twin(request: predict_body) -> Response:
            return await _answers(TWIN, request.texts)

    if EXPLAIN in lanes:
        explained: Responses = {200: {"model": Explanation, "description": "The weights of the words."}}

        @router.post(EXPLAIN, response_class=JSONResponse, responses=explained, summary="Which words mattered")
        async def explain(request: explain_body) -> Response:
            question = Question(request.text, request.label, request.at)
            [reply] = await lanes[EXPLAIN].submit([question], [1], limits.timeout)
            if isinstance(reply, NotExplained):
                raise reply
            metrics.texts.labels(EXPLAIN).inc()
            return Response(reply, media_type="application/json")

    return router


def state_routes(
    lanes: Mapping[str, Batcher], limits: ServiceLimits, metrics: Metrics, secured: Sequence[Any]
) -> APIRouter:
    """Return the paths that tell how the service is."""
    router = APIRouter()
    ill: Responses = {503: {"model": Health, "description": "A batch of any path takes longer than any request may."}}

    @router.get(HEALTH, response_class=JSONResponse, response_model=Health, responses=ill, summary="State")
    async def health() -> Response:
        stuck = any(lane.ended or lane.busy_seconds > limits.timeout for lane in lanes.values())
        return JSONResponse({"status": "stuck" if stuck else "ok"}, 503 if stuck else 200)

    refused: Responses = {401: {"model": Refusal, "description": REFUSALS[401]}} if secured else {}

    @router.get(METRICS, response_class=PlainTextResponse, dependencies=secured, responses=refused, summary="Metrics")
    async def show_metrics() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return router


def tokens_of(text: str) -> int:
    """Estimate the tokens of a text without cutting it: four bytes each, and two around it."""
    return 2 + len(text.encode("utf8")) // 4
