"""The service over real connections: no answer lost or mixed, and every refusal with its proper status."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from services import Running, Stub, expected, running, stub_service, wait_until
from starlette.applications import Starlette
from starlette.routing import Mount
from typer.testing import CliRunner

from nlp_transfer import cli
from nlp_transfer.errors import UserError
from nlp_transfer.serving import server
from nlp_transfer.serving.app import Service, build_app
from nlp_transfer.serving.schema import LabelAnswer
from nlp_transfer.serving.settings import TOKEN_VARIABLE, ServiceLimits, read_token

TOKEN = "s3cret-token"
LIMITS = {"max_body": 20_000, "max_texts": 8, "max_characters": 1000, "timeout": 10.0}


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Running, Stub]]:
    with stub_service(**LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def client(service: tuple[Running, Stub]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service[0].url, timeout=20) as made:
        yield made


def ask(client: httpx.Client, *texts: str, path: str = "/predict", **options: Any) -> httpx.Response:
    return client.post(path, json={"texts": list(texts)}, **options)


# Answers


def test_one_text_and_many(client: httpx.Client) -> None:
    for texts in (["one"], ["", "two\n", "三", "👩‍💻 x", "a\x00b"]):
        reply = ask(client, *texts)
        assert reply.status_code == 200
        assert reply.json() == {"answers": [expected(text) for text in texts]}


def test_no_answer_is_lost_or_mixed_under_32_clients(service: tuple[Running, Stub]) -> None:
    running, stub = service
    stub.batches.clear()

    async def one(number: int, client: httpx.AsyncClient) -> int:
        done = 0
        for turn in range(5):
            texts = [f"client {number} turn {turn} text {at}" for at in range(1 + (number + turn) % 4)]
            reply = await client.post("/predict", json={"texts": texts})
            assert reply.status_code == 200
            assert reply.json()["answers"] == [expected(text) for text in texts]
            done += len(texts)
        return done

    async def all_of_them() -> int:
        async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
            return sum(await asyncio.gather(*(one(number, client) for number in range(32))))

    assert asyncio.run(all_of_them()) == sum(stub.sizes)
    assert max(stub.sizes) > 4  # texts of several clients together


def test_only_the_guilty_request_fails_and_its_text_is_not_logged(
    service: tuple[Running, Stub], client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    stub = service[1]
    stub.begun.clear()
    stub.free.clear()
    with ThreadPoolExecutor(4) as pool, caplog.at_level(logging.DEBUG):
        first = pool.submit(ask, client, "first")
        assert stub.begun.wait(10)
        others = [pool.submit(ask, client, text) for text in ("before", "explode private", "after")]
        wait_until(lambda: waiting(client) == 3)
        stub.free.set()
        statuses = [found.result().status_code for found in (first, *others)]
    assert statuses == [200, 200, 500, 200]
    assert others[1].result().json() == {"error": "The model failed on this request."}
    assert others[2].result().json()["answers"] == [expected("after")]
    assert "ValueError" in caplog.text and "private" not in caplog.text


def waiting(client: httpx.Client) -> float:
    return metric(client, 'nlp_transfer_queue_texts{path="/predict"}')


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


# Overload, time, and the end


def test_too_much_waiting_is_refused_at_once() -> None:
    with stub_service(queue_tokens=10, timeout=20) as (running, stub), httpx.Client(base_url=running.url) as client:
        stub.free.clear()
        with ThreadPoolExecutor(2) as pool:
            computed = pool.submit(ask, client, "first", timeout=20)
            assert stub.begun.wait(10)
            queued = pool.submit(ask, client, "x" * 100, timeout=20)  # alone, any job may wait
            wait_until(lambda: waiting(client) == 1)
            begun = time.monotonic()
            refused = ask(client, "third")
            assert time.monotonic() - begun < 5
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            stub.free.set()
            assert computed.result().json()["answers"] == [expected("first")]
            assert queued.result().json()["answers"] == [expected("x" * 100)]
        assert ask(client, "third").status_code == 200
        assert metric(client, 'nlp_transfer_requests_total{path="/predict",status="503"}') == 1
        assert metric(client, 'nlp_transfer_errors_total{path="/predict"}') == 1


def test_late_answers_are_given_up_and_never_reach_another_client() -> None:
    with stub_service(timeout=0.3) as (running, stub), httpx.Client(base_url=running.url, timeout=20) as client:
        stub.free.clear()
        with ThreadPoolExecutor(2) as pool:
            computed = pool.submit(ask, client, "one")
            assert stub.begun.wait(10)
            waited = pool.submit(ask, client, "two")
            assert [computed.result().status_code, waited.result().status_code] == [504, 504]
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health").json() == {"status": "stuck"}
        stub.free.set()
        wait_until(lambda: client.get("/health").status_code == 200)
        assert ask(client, "three").json()["answers"] == [expected("three")]
        assert stub.batches == [["one"], ["three"]]  # what was given up while it waited is not computed


def test_accepted_requests_are_answered_before_the_end() -> None:
    with stub_service() as (running, stub), httpx.Client(base_url=running.url, timeout=20) as client:
        stub.free.clear()
        with ThreadPoolExecutor(2) as pool:
            computed = pool.submit(ask, client, "computed")
            assert stub.begun.wait(10)
            queued = pool.submit(ask, client, "queued")
            wait_until(lambda: waiting(client) == 1)
            running.server.should_exit = True
            wait_until(lambda: refuses(running.url))
            stub.free.set()
            assert computed.result().json()["answers"] == [expected("computed")]
            assert queued.result().json()["answers"] == [expected("queued")]
        running.thread.join(10)
        assert not running.thread.is_alive()


def refuses(url: str) -> bool:
    try:
        httpx.get(url + "/health", timeout=2)
    except httpx.HTTPError:
        return True
    return False


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with stub_service(timeout=0.3) as (running, _):
        reply = talk(
            running.url,
            "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
        )
        assert reply.startswith("HTTP/1.1 408")


def talk(url: str, request: str) -> str:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(request.encode())
        return connection.recv(65536).decode()


# Limits and bad input


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"texts": ["x"] * 9}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": ["fine", "x" * 1001]}, "texts.1"),
        ({"texts": "x"}, "texts"),
        ({"texts": ["private", 3]}, "texts.1"),
        ({"texts": [None]}, "texts.0"),
        ({"texts": ["x"], "model": "y"}, "model"),
        ({}, "texts"),
        ([], "body"),
        (None, "body"),
    ],
    ids=["many", "none", "long", "no list", "number", "null", "unknown key", "no key", "list", "null body"],
)
def test_what_is_not_as_described_is_refused(client: httpx.Client, body: Any, says: str) -> None:
    reply = client.post("/predict", json=body)
    assert reply.status_code == 422
    assert reply.json()["error"].startswith(says)
    assert "private" not in reply.text and "xxx" not in reply.text  # texts are not given back


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"texts": ["x"', JSON, 400),
        (b'{"texts": ["\xff\xfe"]}', JSON, 400),
        (b"[" * 19_000, JSON, 400),
        (b'{"texts": ["\\ud800"]}', JSON, 422),
        (b"\x00\x01", JSON, 400),
        (b"", JSON, 422),
        (b'{"texts": ["x"]}', {"Content-Type": "text/plain"}, 422),
        (b'{"texts": ["x"]}', {}, 422),
    ],
    ids=["cut", "not utf-8", "deep", "lone surrogate", "binary", "empty", "plain", "no type"],
)
def test_bytes_that_are_no_request(client: httpx.Client, content: bytes, headers: dict[str, str], status: int) -> None:
    reply = client.post("/predict", content=content, headers=headers)
    assert reply.status_code == status
    assert reply.json()["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(client: httpx.Client, chunked: bool) -> None:
    body = json.dumps({"texts": ["x" * 900] * 4000}).encode()
    content = iter([body[at : at + 99_999] for at in range(0, len(body), 99_999)]) if chunked else body
    reply = client.post("/predict", content=content, headers=JSON)
    assert reply.status_code == 413
    assert reply.json()["error"]
    assert ask(client, "next").status_code == 200


def test_wrong_paths_and_methods(client: httpx.Client) -> None:
    assert client.get("/predict").status_code == 405
    for path in ("/twin", "/explain", "/docs", "/x" * 500):
        assert client.post(path, json={}).status_code == 404
    assert metric(client, 'nlp_transfer_requests_total{path="other",status="404"}') >= 2


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="timeout"):
        ServiceLimits(timeout=0)


# Metrics


def test_metrics_count_requests_texts_and_batches() -> None:
    with stub_service() as (running, _), httpx.Client(base_url=running.url) as client:
        ask(client, "one", "two")
        assert metric(client, 'nlp_transfer_requests_total{path="/predict",status="200"}') == 1
        assert metric(client, 'nlp_transfer_texts_total{path="/predict"}') == 2
        assert metric(client, 'nlp_transfer_batch_size_sum{path="/predict"}') == 2
        assert metric(client, 'nlp_transfer_request_seconds_count{path="/predict"}') == 1
        assert waiting(client) == 0


# Token


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    with stub_service(TOKEN) as (running, _), httpx.Client(base_url=running.url) as made:
        yield made


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", "Bearer \xe9"]
)
def test_without_the_token_nothing_is_answered(guarded: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for method, path in (("POST", "/predict"), ("GET", "/metrics")):
        reply = guarded.request(method, path, headers=headers, content=b"{no json")
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"


def test_with_the_token(guarded: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        headers = {"Authorization": f"bearer {TOKEN}"}
        assert ask(guarded, "x", headers=headers).json()["answers"] == [expected("x")]
        assert guarded.get("/metrics", headers=headers).status_code == 200
    assert guarded.get("/health").json() == {"status": "ok"}
    description = guarded.get("/openapi.json")
    assert description.json()["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]
    page = guarded.get("/").text
    assert 'id="token"' in page and "positive" not in page and "stub" not in page
    for shown in (caplog.text, description.text, page):
        assert TOKEN not in shown


def test_a_service_below_a_path_needs_the_token_where_one_at_the_root_does() -> None:
    inner = build_app(Service("stub", Stub(), LabelAnswer, ["positive"]), token=TOKEN)
    outer = Starlette(routes=[Mount("/reviews", inner)], lifespan=lambda app: inner.router.lifespan_context(inner))
    with running(outer) as found, httpx.Client(base_url=f"{found.url}/reviews", timeout=20) as client:
        assert {client.get(path).status_code for path in ("/", "/page.js", "/health", "/openapi.json")} == {200}
        for path in ("/metrics", "/health/x", "/reviews/health"):
            assert client.get(path).status_code == 401, path
        assert ask(client, "x").status_code == 401
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert ask(client, "x").json()["answers"] == [expected("x")]
        assert metric(client, 'nlp_transfer_requests_total{path="/predict",status="200"}') == 1
        assert metric(client, 'nlp_transfer_requests_total{path="/health",status="200"}') == 1


def test_the_readme_names_every_limit(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")
    options = call("--help").stdout
    for limit in fields(ServiceLimits):
        option = "--" + limit.name.replace("_", "-")
        assert (f"`{option}`" if f"{option} " in options else f"`{limit.name}`") in readme


def test_where_a_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, {TOKEN_VARIABLE: "other"}) == TOKEN
    assert read_token(None, {TOKEN_VARIABLE: TOKEN}) == TOKEN
    assert read_token(None, {}) is None
    for text, says in (("\n", "empty"), ("two words", "without spaces"), ("süß", "ASCII")):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            read_token(file)
    with pytest.raises(UserError, match="No such file"):
        read_token(tmp_path / "none")


# The command


def call(*args: object) -> Any:
    return CliRunner().invoke(cli.app, ["serve", *map(str, args)])


def test_an_address_that_is_taken_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = call(tmp_path, "--port", taken.getsockname()[1])
    assert result.exit_code == 2
    assert "Address already in use" in result.stderr and "--port" in result.stderr


def test_a_host_that_is_not_known_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = call(tmp_path, "--host", "no.such.host")
    assert result.exit_code == 2
    assert "'no.such.host' is not known" in result.stderr


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example"])
def test_a_host_that_no_address_can_have_is_told(host: str, tmp_path: Path) -> None:
    result = call(tmp_path, "--host", host)
    assert result.exit_code == 2
    assert f"'{host}' is not known" in result.stderr


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "NEEDED", ("fastapi", "no_such_package"))
    result = call(tmp_path)
    assert result.exit_code == 2
    assert result.stderr == "serving needs no_such_package: pip install 'nlp-transfer[serve]'\n"


def test_a_token_is_no_argument() -> None:
    assert "--token " not in call("--help").stdout
