"""Results folders that share a store, with answers made by hand, for people with keys of their own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

import projects
from answered import made, wrote
from shardmark.config.merge import Merged
from shardmark.plan.plan import Plan
from shardmark.records.prediction import Generated
from shardmark.store.predictions import read_predictions, write_predictions
from shardmark.store.requests import ids_in
from shardmark.tools.sharing import Pushed, push

_numbers = count()
PACKAGES = {"torch": "2.13.0"}
SLOW = 4.0
"Seconds that a slow server takes."


def answer(key: str) -> Generated:
    """What the made-up model says to a request."""
    return wrote(key, f"made up for {key[:8]}")


@dataclass
class Person:
    """Somebody with a project's folder, results and a key."""

    root: Path
    key: str
    store: str
    monkeypatch: pytest.MonkeyPatch

    def be(self) -> None:
        """Be this person from now on."""
        self.monkeypatch.setenv("SHARDMARK_STORE_KEY", self.key * 16)

    def config(self, **config: Any) -> dict[str, Any]:
        return projects.run_config(self.root, max_shard_size=8, store=self.store, **config)

    def plan(self, **config: Any) -> Plan:
        """What a run would have to do."""
        self.be()
        return projects.plan(self.root, max_shard_size=8, store=self.store, **config)

    def left(self, **config: Any) -> tuple[int, int]:
        """How many shards and requests a run would have to infer."""
        pairs = self.plan(**config).pairs
        return sum(len(pair.missing) for pair in pairs), sum(pair.requests for pair in pairs)

    def infer(self, **config: Any) -> None:
        """Answer everything that is missing, as jobs would."""
        for pair in self.plan(**config).pairs:
            for shard in pair.missing:
                ids = ids_in(self.root / f"results/requests/{pair.dataset.name}/{shard.name}.jsonl")
                folder = self.root / f"results/predictions/{pair.model.full_name}/{pair.dataset.name}"
                facts = made(inferred=len(ids), packages=PACKAGES, hardware={"cpu": "a CPU"})
                write_predictions(folder / f"{shard.name}.jsonl", map(answer, ids), facts)

    def push(self, **config: Any) -> Pushed:
        self.be()
        return push(Merged(self.config(**config), "config/config.yaml"), self.root)

    def files(self) -> list[Path]:
        return sorted((self.root / "results/predictions").glob("*/*/*.jsonl"))

    def answers(self) -> dict[str, Any]:
        """What is answered in this results folder, by request id."""
        return {key: found for path in self.files() for key, found in read_predictions(path)[0].items()}


def person(root: Path, key: str, store: str, monkeypatch: pytest.MonkeyPatch, rows: Any = None) -> Person:
    """Somebody with the model `tiny` and the data set `sums`."""
    projects.write_model(root, "tiny", path=str(projects.write_weights(root.parent / "weights")))
    projects.write_dataset(root, "sums", projects.many_rows() if rows is None else rows)
    return Person(root, key, store, monkeypatch)


class Failing:
    """A server's application that fails after some more calls about entries, of one kind: GET or PUT."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.method, self.left, self.fault = "", 0, ""

    def fail(self, method: str, after: int, fault: str) -> None:
        """Let it answer so many calls, and then be `down`, `slow` or `full`."""
        self.method, self.left, self.fault = method, after, fault

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        if self.fault and environment["REQUEST_METHOD"] == self.method and "/predictions/" in environment["PATH_INFO"]:
            self.left -= 1
            if self.left < 0:
                return self._fault(environment, start)
        return self.application(environment, start)

    def _fault(self, environment: dict[str, Any], start: Any) -> Any:
        if self.fault == "slow":
            time.sleep(SLOW)
            return self.application(environment, start)
        status, code = {"full": ("507 Insufficient Storage", "XMinioStorageFull")}.get(
            self.fault, ("503 Service Unavailable", "ServiceUnavailable")
        )
        start(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>the server is {self.fault}</Message></Error>".encode()]


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, servers: list[Failing] | None = None) -> Iterator[str]:
    """The address of a bucket on a server that speaks S3's protocol; `servers` gets what makes it fail."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    failing = Failing(server._server.app)
    server._server.app = failing
    if servers is not None:
        servers.append(failing)
    try:
        url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        for name, value in (variables | {"AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}).items():
            monkeypatch.setenv(name, value)
        bucket = f"answers-{next(_numbers)}"  # all servers of a process share their buckets
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield f"s3://{bucket}/shared"
    finally:
        server.stop()
