"""Rows that are made from a seed are the same everywhere, and the lock has their hash."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import plan, write_model, write_yaml
from repository_datasets import DATASETS
from shardmark.config.dataset import Source
from shardmark.config.synthetic import WORDS, Needle, Ruler
from shardmark.files import sha256
from shardmark.tasks import render
from shardmark.tasks.synthetic import HIDDEN, needles

SMALL: dict[str, Any] = {"name": "needle", "lengths": [60, 100], "rows": 2}
PINNED = "8b1c3bf5795e4f9a7f513c0abd7313e18a2bc1e64e1a3a8a3208bd5df8c419a9"
"Other rows would be another data set: raise FORMAT of tasks/synthetic.py with it."


def rows(**changes: Any) -> list[dict[str, Any]]:
    return list(needles(Needle.model_validate(SMALL | changes)))


def test_the_rows_of_a_seed_never_change() -> None:
    assert sha256(rows(needles=2)) == PINNED


def test_a_row_hides_one_number_at_its_depth() -> None:
    found = rows()
    assert [row["id"] for row in found[:3]] == ["60-0-0", "60-0-1", "60-25-0"]
    for row in found:
        needle = HIDDEN.format(key=row["key"], value=row["answer"])
        before = len(row["context"].partition(needle)[0].split())
        assert row["context"].count(row["answer"]) == 1
        assert 0 <= len(row["context"].split()) - row["length"] < 5
        assert abs(before / (row["length"] - WORDS) - row["depth"] / 100) < 0.1


def test_another_seed_makes_other_rows_and_another_length_leaves_the_rest() -> None:
    assert rows(seed=1) != rows()
    assert rows(lengths=[60]) == rows()[:10]


def test_several_needles_have_keys_of_their_own() -> None:
    for row in rows(needles=5):
        assert row["context"].count("One of the special magic numbers for ") == 5
        assert row["context"].count(f" {row['key']} ") == 1


def test_needles_must_fit_and_a_source_is_one_thing() -> None:
    with pytest.raises(ValueError, match="7 needles of 10 words do not fit into 60 words"):
        Needle.model_validate(SMALL | {"needles": 7})
    with pytest.raises(ValueError, match="exactly one of hub, file and synthetic"):
        Source.model_validate({"synthetic": SMALL, "hub": "a/b"})


def test_a_task_of_ruler_whose_texts_are_not_made_here_names_lm_evals() -> None:
    with pytest.raises(ValueError, match="niah_single_2 are not made from a seed; name lm_eval:niah_single_2"):
        Ruler.model_validate({"name": "ruler", "task": "niah_single_2", "lengths": [1000]})


def test_the_shipped_data_set_asks_as_ruler_does() -> None:
    settings = DATASETS["needle_gen"].settings
    sample = next(iter(render(settings, rows(), "d")))
    key = sample.row["key"]
    text = sample.request.prompt  # type: ignore[union-attr]
    assert isinstance(text, str)
    assert text.startswith("Some special magic numbers are hidden within the following text. Make sure to memorize it.")
    assert text.endswith(f" The special magic numbers for {key} mentioned in the provided text are")
    assert sample.target == [sample.row["answer"]]


def test_the_lock_has_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    write_model(tmp_path, "m")
    keys = {"kind": "generate", "prompt": "{{ context }} {{ key }}", "target": "answer", "metrics": ["exact_match"]}
    write_yaml(tmp_path / "config/datasets/d.yaml", keys | {"source": {"synthetic": SMALL}})
    plan(tmp_path)
    record = json.loads((tmp_path / "config/benchmark.lock").read_text())["datasets"]["d"]
    assert record.keys() == {"synthetic"}
    assert (record["synthetic"]["name"], record["synthetic"]["rows"]) == ("needle", 20)
    plan(tmp_path, frozen=True)
