"""Into how many shards a data set is divided: decided by cost and size, and kept while there are answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import dataset_record, model_record
from shardmark.config import RunConfig
from shardmark.files import pretty_json, read_sealed, sealed
from shardmark.plan.cost import Costs, Share, prior_seconds
from shardmark.plan.shard_counts import Divisions
from shardmark.records.dataset import DatasetRecord

MODEL = model_record("tiny")
PER_SECOND = round(1000 / prior_seconds(MODEL, Share(1000, 0, 0)))


def run(**limits: Any) -> RunConfig:
    return RunConfig(**{"max_shard_size": 10, "max_shard_cost": 100, **limits})


def dataset(requests: int, seconds: float = 0.0, name: str = "demo") -> DatasetRecord:
    """A data set with so many requests, which together should take so many seconds."""
    read = round(seconds * PER_SECOND)
    return dataset_record(name=name, requests=requests, read=read)


def decided(root: Path, data: DatasetRecord, has_answers: bool = True, **limits: Any) -> int:
    """The leading bits that one plan decides on and keeps."""
    divisions = Divisions(root, "tiny@0", run(**limits))
    bits = divisions.decide(MODEL, data, Costs(root), run(**limits), has_answers)
    assert divisions.bits(data.name) == bits
    divisions.save()
    assert Divisions(root, "tiny@0", run(**limits)).bits(data.name) == bits
    return bits


@pytest.mark.parametrize(
    ("requests", "seconds", "bits"),
    [
        (1, 0, 0),
        (10, 0, 0),
        (11, 0, 1),
        (40, 0, 2),
        (41, 0, 3),
        (1, 99, 0),
        (1, 101, 1),
        (1, 799, 3),
        (40, 101, 2),  # size decides
        (11, 799, 3),  # cost decides
    ],
)
def test_no_shard_is_larger_or_takes_longer_than_the_limits(
    tmp_path: Path, requests: int, seconds: float, bits: int
) -> None:
    assert decided(tmp_path, dataset(requests, seconds)) == bits


def test_what_was_decided_is_kept_while_there_are_answers(tmp_path: Path) -> None:
    assert decided(tmp_path, dataset(40)) == 2
    assert decided(tmp_path, dataset(40, seconds=10_000)) == 2


def test_without_answers_it_is_decided_anew(tmp_path: Path) -> None:
    assert decided(tmp_path, dataset(40)) == 2
    assert decided(tmp_path, dataset(40, seconds=799), has_answers=False) == 3


@pytest.mark.parametrize(("requests", "bits"), [(21, 2), (40, 2), (80, 2), (81, 4), (20, 1), (1, 0)])
def test_it_is_decided_anew_when_the_data_set_has_more_than_doubled_or_has_halved(
    tmp_path: Path, requests: int, bits: int
) -> None:
    assert decided(tmp_path, dataset(40)) == 2
    assert decided(tmp_path, dataset(requests)) == bits


def test_small_steps_do_not_add_up_unnoticed(tmp_path: Path) -> None:
    assert [decided(tmp_path, dataset(requests)) for requests in (40, 60, 80, 100)] == [2, 2, 2, 4]


@pytest.mark.parametrize(
    ("limits", "bits"), [({"max_shard_size": 5}, 3), ({"max_shard_cost": 12.5}, 4), ({"limit": 40}, 3)]
)
def test_it_is_decided_anew_when_limits_change_and_what_was_decided_for_the_others_is_kept(
    tmp_path: Path, limits: dict[str, Any], bits: int
) -> None:
    assert decided(tmp_path, dataset(40)) == 2
    assert decided(tmp_path, dataset(40 if "limit" not in limits else 41, seconds=199), **limits) == bits
    assert decided(tmp_path, dataset(40, seconds=10_000)) == 2


def test_each_data_set_and_model_has_a_decision_of_its_own(tmp_path: Path) -> None:
    assert decided(tmp_path, dataset(40)) == 2
    assert decided(tmp_path, dataset(80, name="other")) == 3
    assert decided(tmp_path, dataset(40)) == 2
    with pytest.raises(KeyError):
        Divisions(tmp_path, "tiny@1", run()).bits("demo")


def test_what_was_never_decided_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Divisions(tmp_path, "tiny@0", run()).bits("demo")
    decided(tmp_path, dataset(40))
    for name, limits in (("other", {}), ("demo", {"max_shard_size": 11}), ("demo", {"limit": 1})):
        with pytest.raises(KeyError):
            Divisions(tmp_path, "tiny@0", run(**limits)).bits(name)


def test_settings_that_do_not_divide_do_not_matter(tmp_path: Path) -> None:
    decided(tmp_path, dataset(40))
    assert Divisions(tmp_path, "tiny@0", run(batch_size=3, run="another")).bits("demo") == 2


DAMAGED = [
    "",
    "{",
    "[]",
    "[1]",
    "5",
    "null",
    '"text"',
    '{"KEY": 5}',
    '{"KEY": null}',
    '{"KEY": []}',
    '{"KEY": {}}',
    '{"KEY": {"bits": 1}}',
    '{"KEY": {"requests": 40}}',
    '{"KEY": {"bits": "x", "requests": 40}}',
    '{"KEY": {"bits": null, "requests": 40}}',
    '{"KEY": {"bits": NaN, "requests": 40}}',
    '{"KEY": {"bits": 92, "requests": 40}}',
    '{"KEY": {"bits": -2, "requests": 40}}',
    '{"KEY": {"bits": 1e999, "requests": 40}}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_only_costs_time(tmp_path: Path, content: str) -> None:
    decided(tmp_path, dataset(40))
    path = Divisions(tmp_path, "tiny@0", run()).path
    (key,) = read_sealed(path)
    content = content.replace('"KEY"', json.dumps(key))
    path.write_text(pretty_json(sealed(json.loads(content))) if content.startswith('{"') else content)
    with pytest.raises(KeyError):
        Divisions(tmp_path, "tiny@0", run()).bits("demo")
    assert decided(tmp_path, dataset(40)) == 2


def test_a_file_that_is_no_text_only_costs_time(tmp_path: Path) -> None:
    decided(tmp_path, dataset(40))
    Divisions(tmp_path, "tiny@0", run()).path.write_bytes(b"\xff\xfe\x00")
    assert decided(tmp_path, dataset(40)) == 2


def test_nothing_is_written_when_nothing_was_decided(tmp_path: Path) -> None:
    Divisions(tmp_path, "tiny@0", run()).save()
    assert not list(tmp_path.iterdir())
    decided(tmp_path, dataset(40))
    path = Divisions(tmp_path, "tiny@0", run()).path
    before = path.stat()
    decided(tmp_path, dataset(41))  # kept
    decided(tmp_path, dataset(40), has_answers=False)  # decided as before
    assert path.stat() == before


def test_runs_that_decide_at_the_same_time_keep_each_others_decisions(tmp_path: Path) -> None:
    both = [run(max_shard_size=size) for size in (10, 20)]
    divisions = [Divisions(tmp_path, "tiny@0", one) for one in both]
    bits = [
        one.decide(MODEL, dataset(40), Costs(tmp_path), limits, has_answers=False)
        for one, limits in zip(divisions, both, strict=True)
    ]
    for one in divisions:
        one.save()
    assert [Divisions(tmp_path, "tiny@0", one).bits("demo") for one in both] == bits == [2, 1]
