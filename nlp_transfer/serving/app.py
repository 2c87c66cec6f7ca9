"""The application: which paths there are, and what stands between them and the model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from .. import __version__
from . import page, routes
from .batching import Batcher
from .bearer import BearerToken, digest
from .bodies import BodyLimits
from .explaining import Explain, NotExplained, Question
from .metrics import Batches, Measured, Metrics
from .refusals import add_handlers
from .schema import Answer
from .settings import ServiceLimits
from .twin import Predict
from .worker import in_passing

OPEN = (*page.PATHS, routes.HEALTH, "/openapi.json")
"""Paths that need no token: they say nothing of the model."""

COUNTED = (*OPEN, routes.PREDICT, routes.TWIN, routes.EXPLAIN, routes.METRICS)


@dataclass(frozen=True)
class Service:
    """What is served.

    Args:
        name: What the model is called on the page.
        predict: Answers for texts; see :class:`~nlp_transfer.inference.Predictor`.
        kind: What one answer holds.
        labels: Labels that it may give; of entities their kinds.
        twin: The source-only twin, where there is one.
        explain: Explains answers, where the model can be explained.
    """

    name: str
    predict: Predict
    kind: type[Answer]
    labels: Sequence[str]
    twin: Predict | None = None
    explain: Explain | None = None


def build_app(service: Service, limits: ServiceLimits | None = None, token: str | None = None) -> FastAPI:
    """Make the application (ASGI).

    Args:
        service: What is served.
        limits: Limits and times.
        token: Token that clients must send; None: none is needed.
    """
    limits = ServiceLimits() if limits is None else limits
    metrics = Metrics()
    lanes = _lanes(service, limits, metrics)

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        for lane in lanes.values():
            lane.start()
        yield
        await asyncio.gather(*(lane.close(limits.timeout) for lane in lanes.values()))

    app = FastAPI(
        title="nlp_transfer",
        version=__version__,
        lifespan=running,
        # These pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    # For the description only: the token is checked before anything of a request is read.
    secured = [] if token is None else [Depends(HTTPBearer(auto_error=False))]
    app.include_router(routes.model_routes(service.kind, lanes, limits, metrics), dependencies=secured)
    app.include_router(routes.state_routes(lanes, limits, metrics, secured))
    app.include_router(page.page_routes(service, limits, protected=token is not None))
    add_handlers(app)
    # The last one is the outermost.
    app.add_middleware(BodyLimits, most=limits.max_body, seconds=limits.timeout)
    if token is not None:
        app.add_middleware(BearerToken, expected=digest(token), open_paths=OPEN)
    app.add_middleware(Measured, metrics=metrics, paths=COUNTED)
    return app


def _lanes(service: Service, limits: ServiceLimits, metrics: Metrics) -> dict[str, Batcher]:
    """Return the batcher of each path: an explanation takes as long as many answers, which do not wait for it."""
    tokens = {"budget": limits.batch_tokens, "most": limits.queue_tokens, "wait": limits.wait}
    lanes = {routes.PREDICT: _lane(routes.PREDICT, _encoded(service.predict), metrics, **tokens)}
    if service.twin is not None:
        lanes[routes.TWIN] = _lane(routes.TWIN, partial(in_passing, _encoded(service.twin)), metrics, **tokens)
    if service.explain is not None:
        alone = {"budget": 1, "most": limits.queue_explanations}
        compute = partial(in_passing, _explained(service.explain))
        lanes[routes.EXPLAIN] = _lane(routes.EXPLAIN, compute, metrics, **alone)
    return lanes


def _lane(path: str, compute: Callable[[list[Any]], list[Any]], metrics: Metrics, **settings: Any) -> Batcher:
    lane = Batcher(path.strip("/"), compute, observer=Batches(metrics, path), **settings)
    metrics.watch(path, lane)
    return lane


def _encoded(predict: Predict) -> Callable[[list[str]], list[bytes]]:
    """Return answers as JSON: writing it takes time, too, and is done where nobody waits."""
    return lambda texts: [_json(answer) for answer in predict(texts)]


def _explained(explain: Explain) -> Callable[[list[Question]], list[bytes | NotExplained]]:
    def compute(questions: list[Question]) -> list[bytes | NotExplained]:
        replies: list[bytes | NotExplained] = []
        for question in questions:
            try:
                replies.append(_json(explain(question)))
            except NotExplained as error:
                replies.append(error)
        return replies

    return compute


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf8")
