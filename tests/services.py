"""A service on loopback with a predictor that needs no model, for tests."""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.schema import LabelAnswer
from nlp_transfer.serving.server import bind
from nlp_transfer.serving.settings import ServiceLimits


class Stub:
    """Answers with a number that follows from the text; can be held, and fails on demand.

    Attributes:
        batches: The texts of each batch so far.
        free: Cleared, it holds whoever computes.
        seconds: How long each text takes at least.
        begun: Set as soon as a batch has begun.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.seconds = 0.0
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    @property
    def sizes(self) -> list[int]:
        """Texts in each batch so far."""
        return [len(texts) for texts in self.batches]

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.free.wait(20)
        time.sleep(self.seconds * len(texts))
        if any("explode" in text for text in texts):
            raise ValueError(f"cannot read {texts}")
        return [expected(text) for text in texts]


def expected(text: str) -> dict[str, Any]:
    """The stub's answer to a text."""
    score = zlib.crc32(text.encode("utf8")) / 2**32
    probabilities = {"positive": score, "negative": 1 - score}
    return {"text": text, "label": "positive", "score": score, "probabilities": probabilities}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass
class Running:
    """A service that runs in a thread."""

    url: str
    server: uvicorn.Server
    thread: threading.Thread


@contextlib.contextmanager
def running(app: Any) -> Iterator[Running]:
    """Run an application on a free port of loopback."""
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(app, lifespan="on", ws="none", timeout_graceful_shutdown=20, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", server, thread)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def stub_service(token: str | None = None, **limits: Any) -> Iterator[tuple[Running, Stub]]:
    """Run a service that answers by a stub."""
    stub = Stub()
    service = Service("stub", stub, LabelAnswer, ["positive", "negative"])
    with running(build_app(service, ServiceLimits(**limits), token)) as found:
        try:
            yield found, stub
        finally:
            stub.free.set()
