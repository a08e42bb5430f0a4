"""An endpoint on loopback that speaks OpenAI's protocol, badly where a test says so, and counts what it is asked."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.records.model import ModelRecord, Service

Answer = Callable[[dict[str, Any]], dict[str, Any]]
"The answer to a body."


@dataclass
class Fault:
    """How an answer goes wrong."""

    kind: str = "status"
    "status, reset, silent, half, broken, endless, or answer (another one than usual)."
    status: int = 429
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


def asked_text(body: dict[str, Any]) -> str:
    """What a body asks."""
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(body["prompt"])


def choices(*texts: str, reason: Any = "stop", api: str = "chat", **more: Any) -> dict[str, Any]:
    """An answer with these texts."""
    said = [{"message": {"role": "assistant", "content": text}} if api == "chat" else {"text": text} for text in texts]
    told = [{"index": n, "finish_reason": reason, **choice} for n, choice in enumerate(said)]
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"model": "fake-1", "system_fingerprint": "fp_1", "choices": told, "usage": usage} | more


def echo(body: dict[str, Any]) -> dict[str, Any]:
    """An answer that repeats what is asked."""
    api = "chat" if "messages" in body else "completions"
    return choices(f"re: {asked_text(body)}", api=api)


class FakeEndpoint:
    """The server, in a thread of its own."""

    def __init__(self, answer: Answer = echo, fault: Callable[[str, int], Fault | None] = lambda *_: None) -> None:
        """`fault` says what goes wrong when something is asked for the nth time."""
        self.answer, self.fault = answer, fault
        self.models = ["fake"]
        "What it lists when it is asked for its models."
        self.seconds = 0.0
        "How long each answer takes."
        self.more_seconds: dict[str, float] = {}
        "How much longer the answers to some texts take."
        self.asked: Counter[str] = Counter()
        "How often each text was asked."
        self.answered: Counter[str] = Counter()
        "How often each was answered as it should be."
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: set[str] = set()
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address up to the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    def up(self) -> None:
        """Listen, at the same port as before."""
        asyncio.run_coroutine_threadsafe(self._up(), self._loop).result(10)

    def down(self) -> None:
        """Die: close the port and every connection."""
        asyncio.run_coroutine_threadsafe(self._down(), self._loop).result(10)

    def stop(self) -> None:
        """End for good."""
        self.down()
        asyncio.run_coroutine_threadsafe(self._quit(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _quit(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if head[0].startswith("GET"):
            listed = [{"id": name, "object": "model"} for name in self.models]
            _write(writer, 200, json.dumps({"object": "list", "data": listed}).encode())
            return True
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        text = asked_text(body)
        self.paths.add(head[0].split()[1])
        self.headers.append(headers)
        self.bodies.append(body)
        self.times.append(time.monotonic())
        self.asked[text] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if seconds := self.seconds + self.more_seconds.get(text, 0.0):
                await asyncio.sleep(seconds)
            return await self._answer(writer, body, text)
        finally:
            self.in_flight -= 1

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any], text: str) -> bool:
        fault = self.fault(text, self.asked[text])
        if fault is None:
            _write(writer, 200, json.dumps(self.answer(body)).encode())
            await writer.drain()
            self.answered[text] += 1
            return True
        whole = json.dumps(self.answer(body)).encode()
        match fault.kind:
            case "status":
                told = {"error": {"message": "no"}} if fault.body is None else fault.body
                _write(writer, fault.status, json.dumps(told).encode(), fault.headers)
                return True
            case "answer":
                _write(writer, 200, json.dumps(fault.body).encode())
                return True
            case "silent":
                await asyncio.sleep(3600)
            case "reset":
                writer.transport.abort()
            case "half":
                _write(writer, 200, whole, cut=len(whole) // 2)
                await writer.drain()
            case "broken":
                _write(writer, 200, whole[: len(whole) // 2])
                return True
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"4\r\n    \r\n")
                    await writer.drain()
                    await asyncio.sleep(0.01)
        return False


def _write(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
) -> None:
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body[:cut])


@contextmanager
def serving(
    answer: Answer = echo, fault: Callable[[str, int], Fault | None] = lambda *_: None
) -> Iterator[FakeEndpoint]:
    """A block with an endpoint."""
    endpoint = FakeEndpoint(answer, fault)
    endpoint.up()
    try:
        yield endpoint
    finally:
        endpoint.stop()


def record(url: str, **settings: Any) -> ModelRecord:
    """The plan's record of a model at an address."""
    config = OpenaiConfig.model_validate({"base_url": url, "model": "fake"} | settings)
    place = Service(path=config.place)
    facts: dict[str, Any] = {"name": "far", "digest": "0", "file": "config/models/far.yaml", "source": place}
    return ModelRecord(**facts, tokenizer=None, dtype=None, settings=config)
