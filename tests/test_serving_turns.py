"""Jobs that take turns on one thread: a large one holds up nobody, and one that hangs does not hold up the end."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from services import Stub, expected, running, stub_service, wait_until

from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.batching import Batcher, Failed, Overloaded
from nlp_transfer.serving.schema import LabelAnswer
from nlp_transfer.serving.settings import ServiceLimits

MANY = [f"text {number}" for number in range(8)]


class Recording:
    """Computes nothing, remembers the batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        assert self.free.wait(20)
        return [item.upper() for item in items]


async def ask(batcher: Batcher, items: Sequence[str], timeout: float = 20.0) -> list[Any]:
    return await batcher.submit(items, [1] * len(items), timeout)


@pytest.mark.parametrize(("most", "refused"), [(100, False), (10, True)])
def test_a_job_beyond_the_budget_is_computed_in_slices_between_which_others_have_their_turn(
    most: int, refused: bool
) -> None:
    """Small ones even where so much waits that another large one is refused."""
    compute = Recording()

    async def three() -> list[Any]:
        batcher = Batcher("turns", compute, budget=3, most=most)
        batcher.start()
        compute.free.clear()
        large = asyncio.create_task(ask(batcher, MANY))
        while not compute.batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(ask(batcher, items)) for items in (MANY, ["small"])]
        await asyncio.sleep(0.01)
        compute.free.set()
        found = await asyncio.gather(large, *others, return_exceptions=True)
        await batcher.close(5)
        return found

    large, other, small = asyncio.run(three())
    assert (large, small) == ([text.upper() for text in MANY], ["SMALL"])
    assert isinstance(other, Overloaded) if refused else other == large
    assert max(map(len, compute.batches)) == 3
    # The small one is not behind all slices of the large ones.
    assert ["small" in batch for batch in compute.batches].index(True) <= 3 - refused


def test_what_is_left_of_a_job_is_not_computed_when_its_client_has_gone() -> None:
    compute = Recording()

    async def given_up() -> None:
        batcher = Batcher("turns", compute, budget=3, most=100)
        batcher.start()
        compute.free.clear()
        with pytest.raises(TimeoutError):
            await ask(batcher, MANY, timeout=0.05)
        compute.free.set()
        assert await ask(batcher, ["next"]) == ["NEXT"]
        await batcher.close(5)

    asyncio.run(given_up())
    assert compute.batches == [MANY[:3], ["next"]]


def test_a_large_request_leaves_the_service_healthy_and_others_answered() -> None:
    with (
        stub_service(batch_tokens=10, timeout=1.0, max_texts=256) as (found, stub),
        httpx.Client(base_url=found.url, timeout=20) as client,
    ):
        stub.seconds = 0.01
        many = threading.Thread(target=client.post, args=["/predict"], kwargs={"json": {"texts": MANY * 32}})
        many.start()
        assert stub.begun.wait(10)
        begun = time.monotonic()
        assert client.post("/predict", json={"texts": ["small"]}).json()["answers"] == [expected("small")]
        assert time.monotonic() - begun < 1.0
        many.join(20)  # given up by now
        assert client.get("/health").status_code == 200
        batches = len(stub.sizes)
        assert client.post("/predict", json={"texts": ["next"]}).status_code == 200
        assert len(stub.sizes) <= batches + 2  # of the one that was given up nothing more is computed


def test_closing_does_not_wait_for_what_hangs_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    compute = Recording()

    async def closed() -> float:
        batcher = Batcher("hanging lane", compute, budget=3, most=10)
        batcher.start()
        compute.free.clear()
        with pytest.raises(TimeoutError):
            await ask(batcher, ["hangs"], timeout=0.05)
        begun = time.monotonic()
        await batcher.close(0.2)
        return time.monotonic() - begun

    with caplog.at_level(logging.ERROR):
        assert 0.1 < asyncio.run(closed()) < 5
    compute.free.set()
    assert "hanging lane: what is computed has not ended within 0.2 s" in caplog.text


HANGS = """
import asyncio, sys, threading
from nlp_transfer.serving.batching import Batcher

async def main():
    batcher = Batcher("hangs", lambda items: threading.Event().wait(), budget=1, most=1)
    batcher.start()
    try:
        await batcher.submit(["x"], [1], 0.05)
    except TimeoutError:
        pass
    await batcher.close(0.1)

asyncio.run(main())
"""


def test_a_process_ends_while_its_computation_hangs() -> None:
    assert subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False).returncode == 0


class Panic(BaseException):
    """As compiled code raises it: no Exception."""


def test_a_panic_fails_its_own_job_alone() -> None:
    def compute(items: Sequence[str]) -> list[str]:
        if "bad" in items:
            raise Panic
        return [item.upper() for item in items]

    async def three() -> list[Any]:
        batcher = Batcher("panic", compute, budget=10, most=100)
        batcher.start()
        found = await asyncio.gather(ask(batcher, ["a"]), ask(batcher, ["bad"]), return_exceptions=True)
        found.append(await ask(batcher, ["b"]))
        assert not batcher.ended
        await batcher.close(5)
        assert batcher.ended
        return found

    first, failed, last = asyncio.run(three())
    assert (first, last) == (["A"], ["B"]) and isinstance(failed, Failed)


@pytest.mark.parametrize("path", ["/twin", "/explain"])
def test_health_shows_every_lane_that_is_stuck(path: str) -> None:
    held = Stub()
    held.free.clear()
    service = Service("stub", Stub(), LabelAnswer, ["positive"], twin=held, explain=lambda question: held([""])[0])
    with running(build_app(service, ServiceLimits(timeout=0.3))) as found, httpx.Client(base_url=found.url) as client:
        body = {"texts": ["x"]} if path == "/twin" else {"text": "x"}
        assert client.post(path, json=body, timeout=20).status_code == 504
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.post("/predict", json={"texts": ["x"]}).status_code == 200
        held.free.set()
        wait_until(lambda: client.get("/health").status_code == 200)
