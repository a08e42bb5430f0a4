"""Hidden tests of code benchmarks come pickled: plain values are read, and nothing else ever happens."""

import base64
import collections
import datetime
import json
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from shardmark.untrusted import pickled
from shardmark.untrusted.pickled import plain_pickle, unpacked


class Hostile:
    """Runs a command where it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_texts_numbers_and_containers_are_read(protocol: int) -> None:
    value = {"a": [1, -2, 70_000, 3.5, None, True, "ü\n"], "b": ("x", ("y",)), "c": [[], {}, ()]}
    assert plain_pickle(pickle.dumps(value, protocol)) == value
    assert plain_pickle(pickle.dumps({1, 2}, 4)) == {1, 2}


def test_a_packed_text_is_json() -> None:
    cases = [{"input": "1\n2", "output": "3", "testtype": "stdin"}]
    assert unpacked(packed(json.dumps(cases))) == cases
    assert unpacked(json.dumps(cases)) == cases
    assert unpacked(packed(cases)) == cases


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_something_runs_nothing(protocol: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only texts, numbers and containers"):
        plain_pickle(pickle.dumps([Hostile(tmp_path / "ran")], protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"cbuiltins\neval\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"Pplace\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        pickle.dumps(collections.OrderedDict(a=1)),
        pickle.dumps(datetime.date(2026, 1, 1)),
        pickle.dumps(complex(1, 2)),
    ],
)
def test_what_imports_calls_or_builds_is_refused_before_it_is_loaded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, "_PlainUnpickler", None)
    with pytest.raises(ValueError, match="only texts, numbers and containers"):
        plain_pickle(data)


def laughs() -> bytes:
    """A list of ten times a list of ten times ... twelve deep: small, and 10**12 values."""
    value: list[Any] = ["ha"]
    for _ in range(12):
        value = [value] * 10
    return pickle.dumps(value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".", "beyond the number of its values"),
        (laughs(), "more than 1,000,000 values"),
        (b"\x80\x02" + b"]q\x00h\x00a.", "nested more than 100 deep"),
        (b"\x80\x02" + b"(" * 10 + b"t" * 3, "no|ended|exhausted"),
        (pickle.dumps(["x" * 50])[:-20], "expected|truncated"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "."),
        (b"", "."),
        (b"\x80\x02(]N]u.", "broken pickle"),
    ],
)
def test_bombs_and_broken_pickles_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plain_pickle(data)


def test_what_is_too_large_is_refused_while_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="packed, and more than"):
        unpacked(packed("x" * 100_000))


@pytest.mark.parametrize("text", ["", "no json", "AAAA", "eJw=", packed("no json")])
def test_what_is_neither_json_nor_packed_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither JSON|Expecting value|STOP"):
        unpacked(text)
