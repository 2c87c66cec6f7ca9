"""The HTTP service under load, on loopback: requests a second, latency, answers lost or mixed, and overload.

    python tests/benchmarks/service.py --model RUN --texts FILE.jsonl --output recipes/benchmarks/results/service.json

The service runs in a process of its own. Each client keeps one connection, and asks for one text after the other. Every
answer is compared with that to the same text alone. Then a service with a short queue gets more than it can take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from record import command_line, write_results

CLIENTS = (1, 8, 32)
DEADLINE = 60.0
"""Seconds after which a request counts as hanging."""

ROUNDING = 0.05
"""Largest difference of a probability between batches: bf16 rounds."""


@dataclass(frozen=True)
class Reply:
    """What came back for one text, and when."""

    text: str
    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


class Client:
    """One connection that is kept open. It does little itself, as the service shares the machine with it."""

    def __init__(self, url: str):
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, text: str) -> Reply:
        """Ask for the answer to a text; status 0 where none came in time."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(DEADLINE):
                status, headers, body = await self._exchange(json.dumps({"texts": [text]}).encode())
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            status, headers, body = 0, {}, None
            self.reader = None
        return Reply(text, status, headers, body, time.perf_counter() - begun)

    async def _exchange(self, body: bytes) -> tuple[int, dict[str, str], Any]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST /predict HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(content)


async def load(url: str, texts: Sequence[str], clients: int) -> tuple[list[Reply], float]:
    """Let clients share out the texts; return all replies and the seconds that it took."""
    waiting = iter(texts)
    replies: list[Reply] = []

    async def work() -> None:
        client = Client(url)
        for text in waiting:
            replies.append(await client.ask(text))

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return replies, time.perf_counter() - begun


@contextlib.contextmanager
def service(model: str, *options: str) -> Iterator[str]:
    """Start a service in a process of its own; yield its URL. It must end by itself when it is told to."""
    command = [sys.executable, "-m", "nlp_transfer", "serve", model, "--port", "0", *options]
    # What it says goes to a file: a full pipe would stop it.
    with tempfile.NamedTemporaryFile() as said, subprocess.Popen(command, stderr=said) as process:
        try:
            url = address_in(Path(said.name), process)
            wait_for(url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)


def address_in(said: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the service has said where it listens."""
    while True:
        found = re.search(r"Serving .* on (http://\S+)", said.read_text(encoding="utf8"))
        if found:
            return found[1]
        if process.poll() is not None:
            raise SystemExit(said.read_text(encoding="utf8"))
        time.sleep(0.2)


def wait_for(url: str, seconds: float = 300.0) -> None:
    """Wait until the service listens."""
    deadline = time.monotonic() + seconds
    while asyncio.run(Client(url).ask("Ready?")).status != 200:
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.2)


def differs(answer: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an answer is not that which the same text got alone, but for rounding."""
    if answer["text"] != wanted["text"] or "entities" in wanted:
        return bool(answer["text"] != wanted["text"])
    return any(
        abs(answer["probabilities"][label] - value) > ROUNDING for label, value in wanted["probabilities"].items()
    )


def throughput(url: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Measure each number of clients on the same texts."""
    alone = {reply.text: reply.body["answers"][0] for reply in asyncio.run(load(url, sorted(set(texts)), 1))[0]}
    results = []
    for clients in CLIENTS:
        replies, seconds = asyncio.run(load(url, texts, clients))
        good = [reply for reply in replies if reply.status == 200]
        cuts = statistics.quantiles([reply.seconds for reply in good], n=100)
        results.append(
            {
                "clients": clients,
                "requests": len(replies),
                "requests_per_second": round(len(good) / seconds, 1),
                "p50_ms": round(1000 * cuts[49], 1),
                "p99_ms": round(1000 * cuts[98], 1),
                "lost": len(texts) - len(good),
                "mixed": sum(differs(reply.body["answers"][0], alone[reply.text]) for reply in good),
            }
        )
        print(json.dumps(results[-1]), flush=True)
    return results


def overload(url: str, texts: Sequence[str], clients: int) -> dict[str, Any]:
    """Let many clients ask a service with a short queue, without a pause after a refusal."""
    replies, seconds = asyncio.run(load(url, texts, clients))
    statuses = Counter(reply.status for reply in replies)
    refused = [reply for reply in replies if reply.status in (429, 503)]
    result = {
        "clients": clients,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "hanging": statuses[0],
        "refused_without_retry_after": sum("retry-after" not in reply.headers for reply in refused),
        "longest_refusal_ms": round(1000 * max((reply.seconds for reply in refused), default=0.0), 1),
        "longest_answer_ms": round(1000 * max(reply.seconds for reply in replies), 1),
        "mixed": sum(reply.body["answers"][0]["text"] != reply.text for reply in replies if reply.status == 200),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="run, model folder or export")
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines with a column 'text'")
    parser.add_argument("--requests", type=int, default=1000, help="requests for each number of clients")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    args = parser.parse_args()
    with args.texts.open(encoding="utf8") as file:
        rows = [json.loads(line)["text"] for _, line in zip(range(args.requests), file, strict=False)]
    texts = [rows[number % len(rows)] for number in range(args.requests)]
    with service(args.model) as url:
        results: dict[str, Any] = {"throughput": throughput(url, texts)}
    with service(args.model, "--queue-tokens", "2000") as url:
        results["overload"] = overload(url, texts, clients=64)
    characters = round(statistics.mean(map(len, texts)))
    results["texts"] = {"file": args.texts.name, "distinct": len(set(texts)), "mean_characters": characters}
    if args.output:
        command = command_line("service", model="RUN", texts=args.texts, requests=args.requests, output=args.output)
        write_results(args.output, command, results)


if __name__ == "__main__":
    main()
