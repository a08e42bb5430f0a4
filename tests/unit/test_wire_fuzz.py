"""Any bytes are a value or a named error, in bounded time: what a program sends its tests, and tests their scorer."""

import io
import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.untrusted.inside import wire
from shardmark.untrusted.inside.tester import Program, Remote
from shardmark.untrusted.sandbox import Verdict, read_verdict

TAGS = ["object", "int", "type", "complex", "bytes", "dict", "list", "tuple", "set", "frozenset", "?", ""]
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
json_values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(TAGS), inner, max_size=2)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)
hashable = st.recursive(plain | st.binary(max_size=9), lambda inner: st.tuples(inner, inner) | st.frozensets(inner))
values = st.recursive(
    hashable | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=3) | st.sets(hashable),
    max_leaves=20,
)
lines = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())


@given(values)
@settings(deadline=None)
def test_plain_values_arrive_as_they_are(value: Any) -> None:
    line = json.dumps(wire.encode(value, lambda found: pytest.fail(f"{found!r} is plain"))).encode()
    found = wire.decode(wire.read(line), lambda number: None)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.slow
@given(lines)
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_value_or_a_named_error(line: bytes) -> None:
    with suppress(wire.WireError, EOFError):
        wire.decode(wire.receive(io.BytesIO(line + b"\n")), lambda number: number)


class Channel(io.BytesIO):
    """Answers whatever is asked with the same line."""

    def write(self, asked: Any) -> int:
        return len(asked)


@pytest.mark.slow
@given(lines | json_values.map(lambda value: json.dumps({"value": value}).encode()))
@settings(deadline=None, max_examples=500)
def test_any_reply_is_a_value_or_an_exception_that_tests_can_raise(line: bytes) -> None:
    may_raise = (wire.WireError, EOFError, *((Exception,) if b"raised" in line else ()))
    with suppress(*may_raise):
        Program(Channel(line + b"\n")).ask("name", "x")


@given(lines)
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_verdict_and_hardly_ever_a_pass(line: bytes) -> None:
    found = read_verdict(line)
    assert isinstance(found, Verdict)
    assert not found.passed


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"1",
        b'"passed"',
        b'{"passed": 1, "why": ""}',
        b'{"passed": "true", "why": ""}',
        b'{"passed": true}',
        b'{"passed": true, "why": null}',
        b"[" * 100_000,
        b'{"passed": true, "why": ""',
        b"\xff\xfe",
        b"",
        b"9" * 10_000,
    ],
)
def test_what_is_no_verdict_is_no_pass(line: bytes) -> None:
    assert read_verdict(line) == Verdict(False, "the tests gave no verdict that can be read")


BOMBS = {
    "bytes by their number": b'{"bytes": 1000000000000}',
    "a long integer": b"9" * 5_000_000,
    "a long integer among others": b'{"list": [' + b"9" * 5_000_000 + b"]}",
    "nested": b"[" * 1_000_000,
    "nested values": b'{"list": [' * 100_000 + b"]}" * 100_000,
    "a float": b"1e999999999",
    "long digits of a float": b"0." + b"9" * 5_000_000 + b"x",
    "a complex number of texts": b'{"complex": ["1", "2"]}',
    "bytes that are none": b'{"bytes": [256]}',
    "a key that is none": b'{"dict": [[{"list": []}, 1]]}',
    "a function as a type": b'{"type": "__import__"}',
    "no type": b'{"type": "os"}',
    "hexadecimal digits that are none": b'{"int": "0xzz"}',
    "an object without a number": b'{"object": "7"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_named_errors_at_once(name: str) -> None:
    started = time.process_time()
    try:
        found = wire.decode(wire.receive(io.BytesIO(BOMBS[name] + b"\n")), lambda number: number)
        assert name == "a float", found
    except (wire.WireError, EOFError):
        pass
    assert time.process_time() - started < 5


def test_long_integers_arrive() -> None:
    value = 7**200_000
    started = time.process_time()
    line = json.dumps(wire.encode([value, -value, {value}], lambda found: 0)).encode()
    assert wire.decode(wire.read(line), lambda number: None) == [value, -value, {value}]
    assert time.process_time() - started < 5


def test_a_message_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST", 1000)
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with theirs:
            for _ in range(1000):
                try:
                    theirs.sendall(b"x" * 1000)
                except OSError:
                    return

    thread = threading.Thread(target=flood)
    thread.start()
    with ours, ours.makefile("rb") as channel, pytest.raises(EOFError):
        wire.receive(channel)
    thread.join()


def test_an_object_stays_with_the_program() -> None:
    found = Program(Channel(b'{"value": {"object": 3}}\n')).ask("name", "x")
    assert isinstance(found, Remote)
