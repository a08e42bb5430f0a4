"""The table of the files in a results folder."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmark import layout
from shardmark.tools import checks
from shardmark.tools.needs import Needs

DIGEST = "0123456789abcdef"
EXAMPLES = {
    "model": f"m@{DIGEST}",
    "dataset": "sums",
    "task": DIGEST,
    "shard": DIGEST,
    "report": f"r@{DIGEST}",
    "first": f"m@{DIGEST}",
    "second": f"n@{DIGEST}",
    "memo": f"sums@{DIGEST}",
    "weights": DIGEST,
    "config": DIGEST,
    "worker": "m-01234567",
    "host": "node-1",
    "process": "17",
    "state": "other",
    "temporary": "scores/.x.json.abcd_123",
    "version": "tmp-x1",
    "file": "a/b.html",
}


@pytest.mark.parametrize("kind", layout.KINDS, ids=lambda kind: kind.path)
def test_a_path_is_built_and_parsed_and_is_of_one_kind(kind: layout.Kind) -> None:
    path = kind.file("results", **EXAMPLES)
    found = layout.identify(path.relative_to("results").as_posix())
    assert found is not None
    assert found[0] is kind
    assert kind.file("results", **found[1]) == path


@pytest.mark.parametrize("kind", layout.KINDS, ids=lambda kind: kind.path)
def test_every_kind_is_checked_by_a_function_and_needed_by_a_key_that_exist(kind: layout.Kind) -> None:
    assert not kind.check or callable(getattr(checks, kind.check))
    assert not kind.need or kind.need in layout.KEYS
    assert bool(kind.need) + kind.always <= 1


def test_the_keys_are_those_that_plans_tell_of() -> None:
    assert layout.KEYS.keys() <= {field.name for field in fields(Needs)}


@pytest.mark.parametrize("path", ["notes.txt", "scores/m/d@1.json", "reports/mine/index.html", "predictions/x.jsonl"])
def test_what_has_another_name_is_of_no_kind(path: str) -> None:
    assert layout.identify(path) is None


@given(st.text(st.characters(exclude_characters="/@\0\n", exclude_categories=["Cs"]), min_size=1))
def test_names_with_any_characters_are_found_again(name: str) -> None:
    model = layout.full_name(name, DIGEST)
    path = layout.PREDICTIONS.file("results", model=model, dataset=name, shard=DIGEST)
    assert layout.split_name(model) == (name, DIGEST)
    assert layout.PREDICTIONS.fields(path) == {"model": model, "dataset": name, "shard": DIGEST}
    assert layout.PREDICTIONS.results(path) == Path("results")


def test_files_are_found_by_some_of_their_fields(tmp_path: Path) -> None:
    for name in ("m", "m[1]", "n"):
        path = layout.STAGED.file(tmp_path, model=layout.full_name(name, DIGEST))
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.with_name(f".{path.name}").touch()
    found = layout.STAGED.found(tmp_path, model=layout.full_name("m[1]", "*"))
    assert [path.name for path in found] == [f"m[1]@{DIGEST}.json"]
    assert len(layout.STAGED.found(tmp_path)) == 3


def test_a_path_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not match the path of predictions"):
        layout.PREDICTIONS.fields(Path("results/scores/x.json"))
