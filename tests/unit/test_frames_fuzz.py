"""Whatever a worker or a client sends is a message, or a worker that is taken for dead."""

import json
import logging
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.engine import worker_client
from shardmark.engine.worker_client import WorkerDied, WorkerFailed
from shardmark.errors import UserError
from shardmark.processes.sockets import read_message

KEYS = ["log", "done", "total", "problems", "failed", "traceback", "alive", "finished", "where", "key", "what", "fix"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)
frames = st.lists(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()), max_size=4)


def followed(sent: bytes) -> None:
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs, suppress(OSError):
            theirs.sendall(sent)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with ours:
            worker_client._follow(ours, "model")
    finally:
        thread.join()


@given(frames)
@settings(deadline=None, max_examples=300)
def test_any_bytes_end_in_an_error_that_the_client_knows(lines: list[bytes]) -> None:
    logging.disable()
    try:
        with suppress(WorkerDied, WorkerFailed, UserError):
            followed(b"\n".join(lines))
    finally:
        logging.disable(logging.NOTSET)


@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_an_object_or_a_value_error(line: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(read_message(line), dict)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"1",
        b"null",
        b'"finished"',
        b"[" * 100_000,
        b"\xff",
        b"{}",
        b'{"log": ["x", "y", "z"]}',
        b'{"done": "1", "total": 2}',
        b'{"problems": []}',
        b'{"problems": [{"where": "x"}]}',
        b'{"problems": [{"where": "x", "key": "", "what": "", "odd": ""}]}',
        b'{"failed": 1, "traceback": ""}',
        b'{"finished": "yes"}',
    ],
)
def test_what_is_no_message_comes_from_a_dead_worker(line: bytes) -> None:
    with pytest.raises(WorkerDied, match="invalid message"):
        followed(line + b"\n")


def test_a_line_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_client, "LONGEST_LINE", 100_000)
    with pytest.raises(WorkerDied, match="a line of more than"):
        followed(b"x" * 10_000_000)


@pytest.mark.parametrize(
    "told", [{"finished": True}, {"alive": True}, {"done": 1, "total": 2}, {"log": [20, "x", "y"]}]
)
def test_messages_are_understood(told: dict[str, Any]) -> None:
    followed(json.dumps(told).encode() + b'\n{"finished": true}\n')


def test_problems_and_failures_arrive() -> None:
    with pytest.raises(UserError, match=r"x\.yaml: k: bad"):
        followed(b'{"problems": [{"where": "x.yaml", "key": "k", "what": "bad", "fix": "", "line": ""}]}\n')
    with pytest.raises(WorkerFailed, match="it broke"):
        followed(b'{"failed": "it broke", "traceback": "t"}\n')
