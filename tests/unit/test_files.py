"""One text for each value, and files that are whole or absent."""

import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import property_test
from shardmark.files import (
    canonical_json,
    digest,
    file_sha256,
    is_sealed,
    json_line,
    jsonl,
    pretty_json,
    read_json,
    read_jsonl,
    sealed,
    sha256,
    whole_file,
    write_if_changed,
    write_whole,
)

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates as well
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=10
)


def reordered(value: Any) -> Any:
    """The same value, with the keys of all its mappings in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(part) for key, part in reversed(value.items())}
    return [reordered(part) for part in value] if isinstance(value, list) else value


@property_test
@given(VALUES)
def test_the_order_of_keys_does_not_matter(value: Any) -> None:
    assert canonical_json(reordered(value)) == canonical_json(value)
    assert digest(reordered(value)) == digest(value)


@property_test
@given(VALUES)
def test_canonical_json_loses_nothing_and_is_ascii(value: Any) -> None:
    text = canonical_json(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@property_test
@given(VALUES, VALUES)
def test_different_values_have_different_digests(a: Any, b: Any) -> None:
    assert (sha256(a) == sha256(b)) == (canonical_json(a) == canonical_json(b))
    assert a == b or digest(a) != digest(b)


def test_what_python_holds_equal_is_still_told_apart() -> None:
    assert len({digest(value) for value in (1, True, 1.0, "1", [1], {"1": 1}, None, "", [], {})}) == 10


def test_a_key_that_stands_twice_counts_once() -> None:
    assert digest(json.loads('{"b": 0, "a": 1, "a": 2}')) == digest({"a": 2, "b": 0})


def test_digests_are_the_sha256_of_the_canonical_text() -> None:
    assert canonical_json({"b": ["é", 1], "a": None}) == '{"a":null,"b":["\\u00e9",1]}'
    assert sha256({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({}) == "44136fa355b3678a"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "lines.jsonl"


@property_test
@given(values=st.lists(VALUES, max_size=5))
def test_json_lines_come_back_whatever_is_in_them(scratch: Path, values: list[Any]) -> None:
    scratch.write_text(jsonl(values), "ascii")
    assert list(read_jsonl(scratch)) == values


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x00"])
def test_a_line_is_one_line_whatever_separator_is_in_it(separator: str) -> None:
    assert len(json_line({"text": f"a{separator}b"}).splitlines()) == 1


def test_json_for_people_keeps_the_order_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", pretty_json({"b": 1, "a": "é"}))
    assert (tmp_path / "a.json").read_text("ascii") == '{\n  "b": 1,\n  "a": "\\u00e9"\n}\n'
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": "é"}


def test_a_file_is_written_with_its_folders_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    write_whole(path, b"\x00one")
    write_whole(path, "two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["a.bin"]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_device_or_a_pipe_is_written_to_and_not_replaced() -> None:
    reader, writer = os.pipe()
    path = Path(f"/dev/fd/{writer}")
    write_whole(path, "numbers")
    assert os.read(reader, 100) == b"numbers"
    assert path.is_fifo()
    os.close(reader)
    os.close(writer)


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with files_no_larger_than(1_000_000), pytest.raises(OSError, match="File too large"):
        write_whole(path, b"x" * 2_000_000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_rename_that_fails_leaves_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_is_written_in_parts_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with whole_file(path) as file:
        for part in (b"\x00one", b"\r\n", b"two"):
            file.write(part)
            file.flush()
            assert not path.exists()
    assert path.read_bytes() == b"\x00one\r\ntwo"
    assert os.listdir(path.parent) == ["a.bin"]


def test_a_block_that_writes_nothing_makes_an_empty_file(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.bin"):
        pass
    assert (tmp_path / "a.bin").read_bytes() == b""


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_block_that_ends_badly_leaves_what_was_there_and_no_rubbish(
    tmp_path: Path, error: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)

    def write_half() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise error("half way")

    with pytest.raises(error, match="half way"):
        write_half()
    assert os.listdir(tmp_path) == (["a.bin"] if before is not None else [])
    assert before is None or path.read_bytes() == before


def test_two_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.bin") as one, whole_file(tmp_path / "a.bin") as two:
        one.write(b"one")
        two.write(b"two, and longer")
    assert (tmp_path / "a.bin").read_bytes() == b"one"  # the last to end
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    contents = {letter * 300_000 for letter in (b"a", b"b")}
    write_whole(path, b"a" * 300_000)
    done = threading.Event()

    def write() -> None:
        try:
            for _ in range(20):
                for content in contents:
                    write_whole(path, content)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert path.read_bytes() in contents
    writer.join()


def test_a_file_gets_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_file_with_the_same_content_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_if_changed(path, "same")
    os.utime(path, ns=(1, 1))
    write_if_changed(path, "same")
    assert path.stat().st_mtime_ns == 1
    write_if_changed(path, "other")
    assert (path.read_text(), path.stat().st_mtime_ns == 1) == ("other", False)


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("value", [{}, {"b": 1, "a": [1.5, None, "é\ud83d"]}, {"sum": {"sha256": "x"}}])
def test_a_seal_survives_the_file_and_shows_every_change(value: dict[str, Any]) -> None:
    read = json.loads(pretty_json(sealed(value)))
    assert list(read)[-1] == "sha256"
    assert is_sealed(read)
    assert not is_sealed(read | {"new": 1})
    assert not is_sealed(read | {"sha256": "0" * 64})
    assert not is_sealed({key: part for key, part in read.items() if key != "sha256"})


@pytest.mark.parametrize("value", [None, [], "text", {"sha256": None}])
def test_what_has_no_seal_is_not_sealed(value: Any) -> None:
    assert not is_sealed(value)
