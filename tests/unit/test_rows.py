"""Rows are read from JSON lines; a broken line is named. (Rows from the Hub have tests of their own.)"""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from projects import problems
from shardmark.config.dataset import Source
from shardmark.tasks import read_rows, rows_files
from shardmark.tasks.rows import plain_rows


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}\n{"a": 2}\n',
        '{"a": 1}\n{"a": 2}',
        '{"a": 1}\r\n{"a": 2}\r\n',
        '\n{"a": 1}\n \n{"a": 2}\n\n',
        '﻿{"a": 1}\n{"a": 2}',
    ],
    ids=["plain", "no newline at the end", "Windows", "empty lines", "byte order mark"],
)
def test_each_line_is_a_row(tmp_path: Path, content: str) -> None:
    assert list(read_rows(written(tmp_path, content))) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_only_a_newline_ends_a_row(tmp_path: Path, separator: str) -> None:
    escaped = separator if separator > "\x1f" else f"\\u{ord(separator):04x}"
    assert list(read_rows(written(tmp_path, f'{{"a": "x{escaped}y"}}'))) == [{"a": f"x{separator}y"}]


def test_a_carriage_return_is_white_space(tmp_path: Path) -> None:
    assert list(read_rows(written(tmp_path, b'{"a":\r1}\r\n'))) == [{"a": 1}]


def test_lone_surrogates_are_kept(tmp_path: Path) -> None:
    assert list(read_rows(written(tmp_path, '{"a": "\\ud800"}'))) == [{"a": "\ud800"}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"a": ', "not valid JSON: "),
        (b"{'a': 1}", "not valid JSON: "),
        (b'{"a": "\xff"}', "not UTF-8: "),
        (b'{"a": 1} {"a": 2}', "not valid JSON: Extra data"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, "nested too deeply to be read"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: bytes, said: str) -> None:
    path = written(tmp_path, b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    (problem,) = problems(lambda: list(read_rows(path)))
    assert problem.where == f"{path}:3"
    assert problem.what.startswith(said)
    assert problem.fix


def test_many_broken_lines_are_told_but_not_all(tmp_path: Path) -> None:
    found = problems(lambda: list(read_rows(written(tmp_path, "x\n" * 50))))
    assert [problem.where.rpartition(":")[2] for problem in found] == [str(n) for n in range(1, 11)]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    (problem,) = problems(lambda: list(read_rows(path)))
    assert (problem.where, problem.what) == (str(path), "the file has no rows")


def test_a_file_of_ones_own_is_read_wherever_the_data_root_is(tmp_path: Path) -> None:
    path = written(tmp_path, "{}")
    for data_root in (None, "/elsewhere"):
        assert rows_files(Source(file=str(path)), data_root, "d.yaml") == [path]


def test_without_a_data_root_rows_come_from_the_hub() -> None:
    assert rows_files(Source(hub="org/name", local="a.jsonl"), None, "d.yaml") == []


def test_the_data_root_stands_in_for_the_hub(tmp_path: Path) -> None:
    path = written(tmp_path, "{}")
    assert rows_files(Source(hub="org/name", local="rows.jsonl"), str(tmp_path), "d.yaml") == [path]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path, "{}")
    assert rows_files(Source(file="~/rows.jsonl"), None, "d.yaml") == [path]
    assert rows_files(Source(hub="org/name", local="rows.jsonl"), "~", "d.yaml") == [path]
    (problem,) = problems(rows_files, Source(file="~nobody-is-called-so/x"), None, "d.yaml")
    assert problem.what == "no file ~nobody-is-called-so/x"


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    (own,) = problems(rows_files, Source(file=f"{tmp_path}/gone"), None, "d.yaml")
    assert (own.where, own.key, own.what) == ("d.yaml", "source.file", f"no file {tmp_path}/gone")
    (rooted,) = problems(rows_files, Source(hub="org/name", local="gone"), str(tmp_path), "d.yaml")
    assert (rooted.where, rooted.key, rooted.what) == ("d.yaml", "source.local", f"no file {tmp_path}/gone")
    assert ("data_root" in rooted.fix, "data_root" in own.fix) == (True, False)


def test_a_folder_or_an_address_is_no_file_of_rows(tmp_path: Path) -> None:
    (folder,) = problems(rows_files, Source(file=f"{tmp_path}/"), None, "d.yaml")
    assert (folder.what, folder.fix) == (f"{tmp_path} is a folder", f"name its files, as in {tmp_path}/*.jsonl")
    (address,) = problems(rows_files, Source(file="https://example.org/x.csv"), None, "d.yaml")
    assert address.what == "https://example.org/x.csv is an address, not a file"


def test_a_data_set_without_a_place_in_the_data_root_says_what_to_add(tmp_path: Path) -> None:
    (problem,) = problems(rows_files, Source(hub="org/name"), str(tmp_path), "d.yaml")
    assert (problem.key, "source.local: PATH" in problem.fix) == ("source.local", True)


@pytest.mark.parametrize("line", [b'{"a": 1, "a": 2}', b'{"b": [{"a": {"x": 1, "x": 1}}]}'])
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, line: bytes) -> None:
    (problem,) = problems(lambda: list(read_rows(written(tmp_path, b'{"a": 1}\n' + line + b"\n"))))
    assert problem.where.endswith(":2")
    assert "occurs twice" in problem.what


@pytest.mark.parametrize("deep", [101, 990, 100_000])
def test_nesting_ends_somewhere(tmp_path: Path, deep: int) -> None:
    for text in ('{"a": ' + "[" * deep + "]" * deep + "}", '{"a": ' * deep + "1" + "}" * deep):
        (problem,) = problems(lambda text=text: list(read_rows(written(tmp_path, text))))
        assert (problem.where.endswith(":1"), problem.what) == (True, "nested too deeply to be read")
    wide = json.dumps({"a": [[n] for n in range(1000)]})
    assert len(list(read_rows(written(tmp_path, wide)))) == 1


def test_rows_of_the_hub_hold_what_a_prompt_can_say() -> None:
    """An object would be printed with its address in memory: another prompt each time."""
    from datasets import Dataset, Image

    columns = {"q": ["?"], "day": [datetime.date(2026, 2, 28)], "raw": [b"x"], "picture": [b"png"]}
    split = Dataset.from_dict(columns).cast_column("picture", Image())
    assert plain_rows(split) == [{"q": "?", "day": "2026-02-28", "raw": "b'x'"}]
    holding = SimpleNamespace(features={"q": None}, remove_columns=lambda _: [{"q": object()}])
    with pytest.raises(TypeError, match="a column holds objects of type object, which is not a text"):
        plain_rows(holding)
