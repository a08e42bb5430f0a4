"""Whatever bytes stand in a file from elsewhere, reading it gives values or a named problem, in bounded time."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from answered import made, wrote
from shardmark.config import DatasetConfig, LmEvalConfig, RunConfig
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.group import GroupConfig
from shardmark.config.merge import check_file, parse_assignments
from shardmark.config.misplaced_keys import checked
from shardmark.config.yaml_files import load_yaml, read_yaml
from shardmark.config.yaml_lines import placed
from shardmark.errors import Problem, UserError
from shardmark.files import canonical_json, jsonl, read_object, read_sealed, sealed
from shardmark.records.prediction import Prediction
from shardmark.store.partials import append_partial, partial_files, read_partial
from shardmark.store.predictions import check_predictions, read_predictions, read_trailer, write_predictions
from shardmark.store.requests import ids_in, read_requests
from shardmark.store.tasks import read_header
from shardmark.tasks import read_rows, render
from shardmark.tasks.lm_eval.files import read_config
from shardmark.tasks.lm_eval.index import from_file

fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
KINDS = (RunConfig, TransformersConfig, DatasetConfig, GroupConfig, LmEvalConfig)

# Bytes that look like YAML or JSON, cut, doubled and mixed with others
MARKS = [
    "a", "key", ": ", "- ", "\n", "\n  ", "\n- ", "{", "}", "[", "]", ", ", "&a ", "*a", "<<: *a", "? ", "| ", ">-",
    "'", '"', "!!int ", "!!set ", "!!python/object:x ", "!function a.b", "#", "---\n", "...", "%YAML 1.1", "~",
    "\\u0000", "\\ud800",
]  # fmt: skip
SCALARS = [
    "null", "true", "NaN", "Infinity", ".inf", "1e999", "9" * 5000, "0x1f", "1:30", "2024-02-30", "2024-01-01",
    "\t", "\r", "\0", "\x1b", "\ufeff", "\u2028", "\x85", "\u00e9", "[" * 200, '{"a":' * 2000, '{"a": 1, "a": 2}',
    '{"complete": {}}', '{"id": "',
]  # fmt: skip
WORDS = [
    "include: f", "source", "kind", "prompt: '{{ x }}'", "few_shot: {examples: ", "models: ", "limit: ", "path: ",
    "task: t", "metrics: [accuracy]", "group: g", "doc_to_text: x",
]  # fmt: skip
TOKENS = st.sampled_from([*MARKS, *SCALARS, *WORDS])
FOREIGN = st.one_of(
    st.binary(max_size=200),
    st.lists(TOKENS, max_size=30).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    ).map(lambda value: json.dumps(value).encode()),
)


@contextmanager
def file_of(data: bytes, name: str = "f.yaml") -> Iterator[Path]:
    """A file with these bytes, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def named(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, or None with problems that can be shown."""
    try:
        return function(*arguments)
    except UserError as error:
        told = error.problems
    assert told
    for problem in told:
        assert problem.where
        assert problem.what
        str(problem).encode()
    return None


@fuzz
@given(FOREIGN)
def test_yaml_gives_a_value_or_a_problem(data: bytes) -> None:
    found: list[Problem] = []
    with file_of(data) as path:
        value = read_yaml(path, "f.yaml", found)
        named(check_file, path)
    assert found == [] or value is None
    for kind in KINDS if not found else ():
        settings = checked(kind, value, "f.yaml", found)
        assert settings is not None or found
        if settings is not None:
            canonical_json(settings.model_dump())
    for problem in found:
        str(placed(problem, Path("/"))).encode()


KEYS = st.sampled_from(sorted({key for kind in KINDS for key in kind.model_fields}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | KEYS | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@fuzz
@given(st.sampled_from(KINDS), st.dictionaries(KEYS, VALUES, max_size=6))
def test_known_keys_with_any_values_give_settings_or_problems(kind: Any, values: dict[str, Any]) -> None:
    found: list[Problem] = []
    settings = checked(kind, values, "f.yaml", found)
    assert (settings is None) is bool(found)
    for problem in found:
        str(problem).encode()
    if settings is not None:
        canonical_json(settings.model_dump())


@fuzz
@given(st.text(max_size=60) | st.lists(TOKENS, max_size=12).map("".join))
def test_an_assignment_gives_a_value_or_a_problem(text: str) -> None:
    named(parse_assignments, [text])
    named(parse_assignments, [f"limit={text}"])
    found: list[Problem] = []
    checked(RunConfig, {"model_kwargs": text, "models": text, "limit": text, "hf_path": "m"}, "f", found)


@fuzz
@given(FOREIGN)
def test_yaml_of_lm_eval_gives_a_task_or_a_problem(data: bytes) -> None:
    with file_of(data) as path:
        assert isinstance(named(read_config, path), dict | None)
        named(from_file, path, None, "f.yaml")


@fuzz
@given(st.lists(FOREIGN, max_size=4))
def test_lines_give_rows_or_a_problem(lines: list[bytes]) -> None:
    with file_of(b"\n".join(lines), "rows.jsonl") as path:
        rows = named(lambda: list(read_rows(path)))
    for row in rows or ():
        assert isinstance(row, dict)
        assert json.loads(canonical_json(row)).keys() == row.keys()
    if rows:
        given = {
            "source": {"file": "x"},
            "kind": "generate",
            "prompt": "{{ a }}",
            "target": "a",
            "metrics": ["exact_match"],
        }
        few_shot = {"count": 1, "pick": "random"}
        named(lambda: list(render(DatasetConfig.model_validate(given | {"few_shot": few_shot}), rows, "f.yaml")))


SHARD = "0123456789abcdef"


def predictions(folder: Path) -> Path:
    """A whole prediction file."""
    path = folder / "predictions" / "m@0011223344556677" / "d" / f"{SHARD}.jsonl"
    write_predictions(path, [wrote("a" * 64, "x"), wrote("b" * 64, "y")], made())
    return path


@fuzz
@given(FOREIGN, st.integers(0, 400), st.integers(0, 30))
def test_a_prediction_file_is_whole_or_refused(data: bytes, place: int, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = predictions(Path(folder))
        whole = path.read_bytes()
        known = read_predictions(path)
        changed = whole[:place] + data + whole[place + cut :]
        path.write_bytes(changed)
        read_trailer(path)
        list(ids_in(path))
        found = named(read_predictions, path)
        named(check_predictions, path)
        assert found is None or (changed == whole and found == known)


@fuzz
@given(FOREIGN, st.integers(0, 300), st.integers(0, 30))
def test_a_partial_file_gives_only_answers_that_were_given(data: bytes, place: int, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{SHARD}.jsonl"
        given = [wrote(letter * 64, letter) for letter in "abc"]
        append_partial(out, given)
        (path,) = partial_files(out)
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + data + whole[place + cut :])
        assert all(found in given for found in read_partial(path))


@fuzz
@given(FOREIGN)
def test_our_own_files_are_whole_or_made_anew(data: bytes) -> None:
    with file_of(data, f"{SHARD}.jsonl") as path:
        assert read_sealed(path) == {}
        assert isinstance(read_object(path), dict)
        assert read_header(path) is None
        assert named(read_requests, path) in (None, {})
        assert all(isinstance(found, Prediction) for found in read_partial(path))


@fuzz
@given(FOREIGN)
def test_yaml_has_no_other_errors(data: bytes) -> None:
    for kind in (None, yaml.BaseLoader, yaml.SafeLoader):
        with suppress(yaml.YAMLError):
            load_yaml(data, kind)


@pytest.mark.parametrize("data", [b"[[null,1],[false,2]]", b'[["check",1],[null,1],[false,2]]', b'"ab"', b"[]"])
def test_pairs_are_no_object(data: bytes) -> None:
    with file_of(data, "x.jsonl") as path:
        assert (read_object(path), read_sealed(path), read_partial(path), read_header(path)) == ({}, {}, [], None)


def test_a_sealed_file_is_read() -> None:
    with file_of(jsonl([sealed({"a": 1})]).encode()) as path:
        assert read_sealed(path) == {"a": 1}
