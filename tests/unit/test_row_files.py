"""Rows from JSON, CSV, TSV, Parquet and Arrow: the same rows in each, and errors that name file, row and column."""

import bz2
import datetime
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from projects import GENERATE, plan, problems, write_model, write_yaml
from shardmark.config import DatasetConfig
from shardmark.config.dataset import Source
from shardmark.config.row_files import RowFiles
from shardmark.files import read_json
from shardmark.plan.components import components
from shardmark.tasks import FileRows, read_rows, rows_files
from shardmark.tasks.row_files import ENDINGS
from shardmark.tools.verify import checks_for, verify

DEMO = Path(__file__).parents[2] / "demo/data/comparison.jsonl"
TYPES = {"label": "int", "choices": "json"}
ROWS = [{"q": 'a,\n"b"', "n": 7}, {"q": "NA", "n": -1}]


def csv_text(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    """A table as spreadsheets write it."""

    def cell(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in f'{delimiter}"\n') else text

    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines)


def parquet(rows: list[dict[str, Any]], path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)


def arrow_stream(rows: list[dict[str, Any]], path: Path) -> None:
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def text(write: Callable[[list[dict[str, Any]]], str]) -> Callable[[list[dict[str, Any]], Path], None]:
    return lambda rows, path: path.write_text(write(rows), "utf-8") and None


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WRITERS: dict[str, Callable[[list[dict[str, Any]], Path], None]] = {
    "rows.jsonl": text(jsonl),
    "rows.ndjson": text(jsonl),
    "rows.txt": text(jsonl),
    "lines.json": text(jsonl),
    "list.json": text(lambda rows: json.dumps(rows, indent=2)),
    "rows.csv": text(csv_text),
    "rows.tsv": text(lambda rows: csv_text(rows, "\t")),
    "rows.parquet": parquet,
    "rows.feather": lambda rows, path: pyarrow.feather.write_feather(pyarrow.Table.from_pylist(rows), str(path)),
    "rows.arrow": arrow_stream,
}


def zstd(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress, ".xz": lzma.compress}


def is_table(name: str) -> bool:
    return name.endswith((".csv", ".tsv"))


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_holds_the_same_rows_packed_or_not(tmp_path: Path, name: str) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    how = RowFiles(types={"n": "int"} if is_table(name) else {})
    content = (tmp_path / name).read_bytes()
    for ending, pack in PACKERS.items():
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(pack(content))
        assert list(read_rows(path, how)) == ROWS, path


def test_every_ending_is_tried_here() -> None:
    assert {Path(name).suffix for name in WRITERS} >= ENDINGS.keys()


def test_the_demos_rows_have_the_same_digests_in_every_format(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    rows = [json.loads(line) for line in DEMO.read_text("utf-8").splitlines()]
    settings = {"kind": "choice", "id_column": "id", "prompt": "Q: {{ question }}\nA:", "choices": "choices"}
    found = set()
    for name, write in WRITERS.items():
        write(rows, tmp_path / name)
        source = {"file": str(tmp_path / name)} | ({"types": TYPES} if is_table(name) else {})
        write_yaml(
            tmp_path / "config/datasets/sums.yaml",
            {"source": source, **settings, "target": "label", "metrics": ["accuracy"]},
        )
        found.add(plan(tmp_path).datasets[0].digest)
    half = len(rows) // 2
    parquet(rows[:half], tmp_path / "part-0.parquet")
    (tmp_path / "part-1.jsonl.gz").write_bytes(gzip.compress(jsonl(rows[half:]).encode()))
    source = {"file": str(tmp_path / "part-*")}
    write_yaml(
        tmp_path / "config/datasets/sums.yaml",
        {"source": source, **settings, "target": "label", "metrics": ["accuracy"]},
    )
    found.add(plan(tmp_path).datasets[0].digest)
    assert len(found) == 1


def table(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_cell_is_text_unless_types_say_otherwise(tmp_path: Path) -> None:
    path = table(tmp_path, "﻿a,b\n007,NA\n,1e3\n\nnan,2026-01-01\n")
    rows = [{"a": "007", "b": "NA"}, {"a": "", "b": "1e3"}, {"a": "nan", "b": "2026-01-01"}]
    assert list(read_rows(path)) == rows


def test_types_make_numbers_and_lists_and_an_empty_cell_null(tmp_path: Path) -> None:
    path = table(tmp_path, 'i,f,b,j\n 12 ,.5,TRUE,"[""x"", 1]"\n,,,\n')
    how = RowFiles(types={"i": "int", "f": "float", "b": "bool", "j": "json"})
    nothing = dict.fromkeys("ifbj")
    assert list(read_rows(path, how)) == [{"i": 12, "f": 0.5, "b": True, "j": ["x", 1]}, nothing]


def test_another_delimiter_and_bare_quotes_are_settings(tmp_path: Path) -> None:
    semicolons = table(tmp_path, 'a;b\n"x;y";2\n')
    assert list(read_rows(semicolons, RowFiles(delimiter=";"))) == [{"a": "x;y", "b": "2"}]
    assert list(read_rows(table(tmp_path, "\na\n\n1\n"))) == [{"a": "1"}]  # empty lines do not count
    bare = table(tmp_path, 'a\tb\n"x\t6" pipe\n', "t.tsv")
    assert list(read_rows(bare, RowFiles(quotes=False))) == [{"a": '"x', "b": '6" pipe'}]
    plain = table(tmp_path, "a|b\n1|2\n", "t.data")
    assert list(read_rows(plain, RowFiles(format="csv", delimiter="|"))) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "delimiter"), [("t.csv", "a;b\n1,5;2\n", ";"), ("t.tsv", "a,b\n1,2\n", ",")]
)
def test_a_table_with_another_delimiter_says_which(tmp_path: Path, name: str, content: str, delimiter: str) -> None:
    path = table(tmp_path, content, name)
    (problem,) = problems(lambda: list(read_rows(path)))
    assert (problem.where, f"source.delimiter: {delimiter!r}" in problem.fix) == (f"{path}:1", True)
    assert list(read_rows(path, RowFiles(delimiter=delimiter)))
    alone = table(tmp_path, "what; why\nx\n")
    assert list(read_rows(alone, RowFiles(delimiter=","))) == [{"what; why": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "said", "fix"),
    [
        ("t.xlsx", b"PK\x03\x04", "it is a zip archive", "export the sheet as CSV"),
        ("t.csv", b"\x1f\x8b\x08\x00", "it is compressed", "add .gz to its name"),
        ("t.data", b"PAR1\xff", "it is a Parquet file", "set source.format: parquet"),
        ("t.csv", b"a,b\r1,2\r", "a carriage return", "save the file with Unix line ends"),
        ("t.txt", b"a,b\n1,2\n", "not valid JSON", "set source.format: arrow, csv,"),
        ("t.jsonl", '{"a": 1}\n'.encode("utf-16"), "not UTF-8", "save the file as UTF-8"),
        ("t.json", '[{"a": 1}]'.encode("utf-16"), "not UTF-8", "save the file as UTF-8"),
        ("t.jsonl", '{"a": "\u00e9"}'.encode("latin-1"), "not UTF-8", "save the file as UTF-8"),
    ],
)
def test_files_of_other_formats_and_encodings_are_told(
    tmp_path: Path, name: str, content: bytes, said: str, fix: str
) -> None:
    found = problems(lambda: list(read_rows(table(tmp_path, content, name))))
    assert said in found[0].what
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("a,b\n1,2\n3\n", ":3", "row 1 has 1 cells, the first line names 2 columns"),
        ('b,a\n"x\ny",2\n3,4,5\n', ":4", "row 1 has 3 cells, the first line names 2 columns"),
        ("a,b\n1,2\nx,2\n", ":3", "row 1, column 'a': 'x' is not a whole number"),
        ("a,b\n1.0,2\n", ":2", "row 0, column 'a': '1.0' is not a whole number"),
        ("a,b\n1_0,2\n", ":2", "row 0, column 'a': '1_0' is not a whole number"),
        ('a,b\n1,2\n"3,4\n', ":3", "unexpected end of data"),
        ('a,b\n1,"2"3\n', ":2", "',' expected after '\"'"),
        ("b,b\n1,2\n", ":1", "two columns are called 'b'"),
        ("b\n1\n", ":1", "there is no column 'a'"),
        (b"a,b\n1,\xff\n", ":2", "not UTF-8: invalid start byte at byte 2 of the line"),
        ("a,b\n", "", "the file has no rows"),
        ("a\n" + "9" * 400 + "\n", ":2", "row 0, column 'a': '" + "9" * 37 + "...' is not a whole number"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_line_row_and_column(
    tmp_path: Path, content: str | bytes, place: str, said: str
) -> None:
    path = table(tmp_path, content)
    (problem,) = problems(lambda: list(read_rows(path, RowFiles(types={"a": "int"}))))
    assert problem.where == f"{path}{place}"
    assert problem.what.startswith(said)
    assert problem.fix


@pytest.mark.parametrize(
    ("kind", "cell"), [("float", "nan"), ("float", "1e999"), ("bool", "1"), ("json", "['a']"), ("json", "[" * 300)]
)
def test_a_cell_that_is_not_of_its_type_is_refused(tmp_path: Path, kind: Any, cell: str) -> None:
    path = table(tmp_path, f"a\n{cell}\n")
    (problem,) = problems(lambda: list(read_rows(path, RowFiles(types={"a": kind}))))
    assert problem.what.startswith("row 0, column 'a': ")


@pytest.mark.parametrize(
    ("content", "field", "place", "said", "fix"),
    [
        ('[{"a": 1}, 2]', None, "", "row 1: not a JSON object", ""),
        ('[{"a": 1},\n {"a": ]', None, ":2", "not valid JSON", ""),
        ('{"a": 1}\n{"a": x}\n', None, ":2", "not valid JSON: Expecting value at character 7 of the line", ""),
        ('[{"a": 1, "a": 2}]', None, "", "not valid JSON: key 'a' occurs twice", ""),
        ("[" + "[" * 50_000, None, "", "nested too deeply", ""),
        ('{"a": ' + "[" * 50_000, None, "", "nested too deeply", ""),
        (
            '{"version": 1,\n "data": [{"a": 1}]}',
            None,
            "",
            "it holds an object, not a list",
            "source.field: one of data",
        ),
        ('{"data": [{"a": 1}]}', None, "", "it holds an object, not a list", "source.field: one of data"),
        ('{"data": [{"a": 1}]}', "date", "", "there is no key 'date'", "did you mean 'data'?"),
        ('{"data": 3}', "data", "", "it holds no list of rows", ""),
        ("[]", None, "", "the file has no rows", ""),
        ("", None, "", "the file has no rows", ""),
        ("3", None, ":1", "not a JSON object", ""),
    ],
)
def test_what_is_wrong_with_a_json_file_is_said(
    tmp_path: Path, content: str, field: str | None, place: str, said: str, fix: str
) -> None:
    path = table(tmp_path, content, "t.json")
    (problem,) = problems(lambda: list(read_rows(path, RowFiles(field=field))))
    assert problem.where == f"{path}{place}"
    assert said in problem.what
    assert fix in problem.fix


def test_field_names_the_rows_of_a_json_object(tmp_path: Path) -> None:
    path = table(tmp_path, '{"version": "1", "data": [{"a": 1}, {"a": 2}]}', "t.json")
    assert list(read_rows(path, RowFiles(field="data"))) == [{"a": 1}, {"a": 2}]


def test_columns_of_parquet_become_what_rows_of_the_hub_are(tmp_path: Path) -> None:
    features = {"day": {"_type": "Value"}, "picture": {"_type": "Image"}}
    schema = pyarrow.schema([("day", pyarrow.date32()), ("picture", pyarrow.binary())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = [{"day": datetime.date(2026, 2, 28), "picture": b"x"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), tmp_path / "t.parquet")
    assert list(read_rows(tmp_path / "t.parquet")) == [{"day": "2026-02-28"}]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv.gz", "t.jsonl.zst", "t.parquet.xz", "t.json.bz2"])
@pytest.mark.parametrize("content", [b"", b"not what it says", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03xx"])
def test_a_file_that_is_not_what_its_ending_says_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = table(tmp_path, content, name)
    (problem,) = problems(lambda: list(read_rows(path)))
    assert problem.where == str(path)


def test_half_a_packed_file_is_refused(tmp_path: Path) -> None:
    for ending, pack in PACKERS.items():
        if ending:
            path = table(tmp_path, pack(jsonl(ROWS * 2000).encode())[:-20], f"t.jsonl{ending}")
            assert problems(lambda path=path: list(read_rows(path)))[0].where.startswith(str(path)), ending


def test_a_setting_without_effect_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, jsonl(ROWS), "t.jsonl")
    (problem,) = problems(lambda: list(FileRows([path], RowFiles(types={"n": "int"}, field="x"))))
    assert problem.what == "source.field and source.types: not used for a file that is read as jsonl"
    with pytest.raises(ValueError, match="types: only for files"):
        Source(hub="org/name", types={"a": "int"})


def test_globs_are_sorted_and_what_matches_nothing_or_twice_is_named(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.jsonl"):
        table(tmp_path, "", name)
    files = [str(tmp_path / "c.jsonl"), str(tmp_path / "*.csv")]
    assert [path.name for path in rows_files(Source(file=files), None, "d")] == ["c.jsonl", "a.csv", "b.csv"]
    assert [path.name for path in rows_files(Source(hub="o/n", local="?.csv"), str(tmp_path), "d")] == [
        "a.csv",
        "b.csv",
    ]
    twice, none = problems(rows_files, Source(file=[files[1], str(tmp_path / "a.csv"), "*.none"]), None, "d")
    assert twice.what == f"{tmp_path / 'a.csv'} occurs twice"
    assert none.what == "no file *.none"


def test_a_broken_row_of_several_files_is_named_by_its_file(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    table(tmp_path, "question,answer\na,1\nb,2\n", "0.csv")
    table(tmp_path, "question,answer\nc,3\nd,\n", "1.csv")
    source = {"file": str(tmp_path / "?.csv"), "types": {"answer": "int"}}
    write_yaml(tmp_path / "config/datasets/sums.yaml", {"source": source, **GENERATE, "target": "answer | string"})
    (problem,) = problems(plan, tmp_path)
    assert f"row 3 (row 1 of {tmp_path / '1.csv'}): " in problem.what
    assert "answer" in problem.what


def test_the_lock_and_verify_know_several_files(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    for number in range(2):
        table(tmp_path, f"question,answer\nq{number},{number}\n", f"{number}.csv")
    write_yaml(tmp_path / "config/datasets/sums.yaml", {"source": {"file": str(tmp_path / "?.csv")}, **GENERATE})
    before = plan(tmp_path)
    entry = read_json(tmp_path / "config/benchmark.lock")["datasets"]["sums"]["file"]
    assert (entry["path"], entry["parts"], entry["rows"]) == (str(tmp_path / "?.csv"), 2, 2)
    assert not list(verify(checks_for(tmp_path / "results", tmp_path), tmp_path))
    table(tmp_path, "question,answer\nq1,one\n", "1.csv")
    (damage,) = verify(checks_for(tmp_path / "results", tmp_path), tmp_path)
    assert damage.problem.where == str(tmp_path / "1.csv")
    assert plan(tmp_path).datasets[0].digest != before.datasets[0].digest


def test_data_sets_without_these_settings_keep_their_digests() -> None:
    settings = DatasetConfig.model_validate({"source": {"file": "x.jsonl"}, **GENERATE})
    assert settings.model_dump()["source"] == {
        **dict.fromkeys(("hub", "config", "revision", "local")),
        "split": "test",
        "file": "x.jsonl",
    }
    rows = components(settings, {"rows": "", "limit": None}, {})["rows"]
    typed = settings.model_copy(update={"source": Source(file="x.jsonl", delimiter=";")})
    assert components(typed, {"rows": "", "limit": None}, {})["rows"] != rows


def test_rows_of_files_can_be_read_again(tmp_path: Path) -> None:
    paths = [table(tmp_path, jsonl(ROWS), f"{number}.jsonl") for number in range(2)]
    rows = FileRows(paths)
    assert list(rows) == list(rows) == ROWS * 2
    assert [rows.place(number) for number in (1, 2)] == [f" (row 1 of {paths[0]})", f" (row 0 of {paths[1]})"]


def test_examples_are_read_as_the_rows_are(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    table(tmp_path, "question;answer\nq;1\n", "rows.csv")
    table(tmp_path, "question;answer\nshot;2\n", "shots.csv")
    few_shot = {"count": 1, "source": {"file": str(tmp_path / "shots.csv")}}
    source = {"file": str(tmp_path / "rows.csv"), "delimiter": ";"}
    write_yaml(tmp_path / "config/datasets/sums.yaml", {"source": source, **GENERATE, "few_shot": few_shot})
    plan(tmp_path)
    (requests,) = (tmp_path / "results/requests/sums").glob("*.jsonl")
    assert "Q: shot\\nA: 2\\n\\nQ: q\\nA:" in requests.read_text()
