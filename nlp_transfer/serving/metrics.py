"""What a service measures of itself, as Prometheus reads it. Nothing that a client makes up is a label."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .batching import Batcher
from .paths import route_path

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kinds: Any = {"registry": self.registry, "namespace": "nlp_transfer"}
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], **kinds)
        self.errors = Counter("errors", "Requests that failed on the side of the service (5xx).", ["path"], **kinds)
        self.latency = Histogram(
            "request_seconds", "Time from a request to its answer.", ["path"], buckets=SECONDS, **kinds
        )
        self.texts = Counter("texts", "Texts answered.", ["path"], **kinds)
        self.batch_size = Histogram("batch_size", "Texts computed together.", ["path"], buckets=SIZES, **kinds)
        self.batch_seconds = Histogram("batch_seconds", "Time to compute a batch.", ["path"], buckets=SECONDS, **kinds)
        self.queue = Gauge("queue_texts", "Texts that wait.", ["path"], **kinds)

    def watch(self, path: str, batcher: Batcher) -> None:
        """Show how much waits for a batcher."""
        self.queue.labels(path).set_function(lambda: batcher.waiting)

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Batches:
    """Observes the batches of one path."""

    def __init__(self, metrics: Metrics, path: str):
        self.metrics, self.path = metrics, path

    def batch(self, items: int, seconds: float) -> None:
        """Count a batch."""
        self.metrics.batch_size.labels(self.path).observe(items)
        self.metrics.batch_seconds.labels(self.path).observe(seconds)


class Measured:
    """Counts and times requests.

    Args:
        app: The application.
        metrics: Where they are counted.
        paths: Paths with a count of their own; all others are ``other``.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]):
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        path = path if path in self.paths else "other"
        begun = time.monotonic()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.latency.labels(path).observe(time.monotonic() - begun)
            if status >= 500:
                self.metrics.errors.labels(path).inc()
