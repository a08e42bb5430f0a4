"""How much of the speed of a bare loop over the `openai` client is left when a backend asks the same endpoint.

Both ask an echo server in a process of its own, with as many requests in flight. The loop neither retries nor checks.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.endpoints.backend import open_backend
from shardmark.records.model import ModelRecord, Service, Staged
from shardmark.records.request import GenerateRequest, Message
from shardmark.tasks.requests import request_id

USAGE = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}


def serve(told: Connection, seconds: float) -> None:
    """Echo what is asked, each answer after some seconds."""

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))
                message = {"role": "assistant", "content": asked["messages"][-1]["content"]}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                facts = {"id": "1", "object": "chat.completion", "created": 1, "model": "echo", "usage": USAGE}
                body = json.dumps(facts | {"choices": [choice]}).encode()
                await asyncio.sleep(seconds)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ")
                writer.write(b"%d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(exchange, "127.0.0.1", 0, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def bare(url: str, texts: list[str], concurrency: int) -> int:
    """Ask everything in a loop over the client."""
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    todo, done = iter(texts), 0

    async def work() -> None:
        nonlocal done
        for text in todo:
            answer = await client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": text}], max_tokens=64, temperature=0
            )
            done += answer.choices[0].message.content == text

    await asyncio.gather(*(work() for _ in range(concurrency)))
    await client.close()
    return done


def ours(url: str, texts: list[str], concurrency: int, results: Path) -> int:
    """Ask everything with the backend."""
    settings = OpenaiConfig(base_url=url, model="echo", concurrency=concurrency)
    place = Service(path=settings.place)
    record = ModelRecord(
        name="echo", digest="0", file="echo.yaml", source=place, tokenizer=None, dtype=None, settings=settings
    )
    backend = open_backend(record, Staged(model="", tokenizer=""), lambda: None)
    backend.join(results, os.getpid())
    asked = (
        GenerateRequest(messages=[Message(role="user", content=text)], max_new_tokens=64, stop=[]) for text in texts
    )
    count = sum(len(batch) for batch in backend.answer({request_id(request): request for request in asked}))
    backend.close()
    return count


def main(arguments: argparse.Namespace) -> None:
    told, tell = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(tell, arguments.seconds), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{told.recv()}/v1"
    texts = [f"Question {n}: " + "word " * 100 for n in range(arguments.requests)]
    rates: dict[str, list[float]] = {"bare loop": [], "backend": []}
    with tempfile.TemporaryDirectory() as folder:
        ours(url, texts[:10], arguments.concurrency, Path(folder))  # starts the limiter
        for _ in range(arguments.repeats):
            for name, times in rates.items():
                begin = time.perf_counter()
                if name == "backend":
                    count = ours(url, texts, arguments.concurrency, Path(folder))
                else:
                    count = asyncio.run(bare(url, texts, arguments.concurrency))
                times.append(count / (time.perf_counter() - begin))
    server.kill()
    for name, times in rates.items():
        print(f"{name:10}{max(times):8.0f} requests/s")
    print(f"backend over bare loop: {max(rates['backend']) / max(rates['bare loop']):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="how many each asks")
    parser.add_argument("--concurrency", type=int, default=64, help="how many are in flight at once")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long each answer takes")
    parser.add_argument("--repeats", type=int, default=3, help="how often; the best counts")
    main(parser.parse_args())
