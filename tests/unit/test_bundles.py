"""Which shards share a job on a cluster, and how long it may take."""

from dataclasses import replace

import pytest
from msgspec.structs import asdict

from projects import dataset_record, model_record, shard_record
from shardmark.plan.bundles import LONGEST_MINUTES, MOST_SHARDS, START_MINUTES, bundle, in_jobs
from shardmark.plan.cost import Seconds
from shardmark.plan.pairs import MissingShard, Pair
from shardmark.plan.summary import wall_seconds, work_seconds


def pair(dataset: str, *seconds: float, model: str = "m", measured: bool = True, runtime: int | None = None) -> Pair:
    record = model_record(model, slurm={"runtime": runtime})
    shards = [MissingShard(**asdict(shard_record(f"s{n}")), left=1) for n in range(len(seconds))]
    costs = [Seconds(cost, 20.0) for cost in seconds]
    total = Seconds(sum(seconds), 20.0 * len(seconds))
    return Pair(record, dataset_record(name=dataset), len(shards), shards, False, total, costs=costs, measured=measured)


def shapes(*pairs: Pair, most: float = 100.0) -> list[list[str]]:
    return [[f"{model[0]}/{data}/{shard}" for model, data, shard in one.shards] for one in bundle(pairs, most)]


def test_shards_are_joined_up_to_the_limit() -> None:
    assert shapes(pair("a", 40, 40, 40)) == [["m/a/s0", "m/a/s1"], ["m/a/s2"]]


def test_a_data_set_that_fits_into_one_job_is_not_divided() -> None:
    assert shapes(pair("a", 60), pair("b", 30, 30)) == [["m/a/s0"], ["m/b/s0", "m/b/s1"]]


def test_models_share_no_job() -> None:
    assert shapes(pair("a", 1), pair("a", 1, model="n")) == [["m/a/s0"], ["n/a/s0"]]


def test_no_limit_of_seconds_means_one_shard_a_job() -> None:
    assert shapes(pair("a", 1, 1), most=0) == [["m/a/s0"], ["m/a/s1"]]


def test_a_job_has_so_many_shards_at_most() -> None:
    assert [len(one) for one in shapes(pair("a", *[0.0] * (MOST_SHARDS + 1)))] == [MOST_SHARDS, 1]


def test_jobs_have_names_of_their_own() -> None:
    made = bundle([pair("a", 60, 60), pair("b", 60), pair("a", 60, model="n")], 100)
    assert len({one.name for one in made}) == len(made) == 4
    assert all(one.shards[0][1] in one.name and one.model.name in one.name for one in made)


@pytest.mark.parametrize(("measured", "minutes"), [(True, 13), (False, 20)])
def test_time_grows_with_what_is_predicted_and_with_the_attempt(measured: bool, minutes: int) -> None:
    (one,) = bundle([pair("a", 20, 20, measured=measured)], 100)
    assert minutes == START_MINUTES + round((3 if measured else 10) * (20 + 20 + 20) / 60)  # two shards, one load
    assert [one.minutes(attempt) for attempt in (1, 2)] == [minutes, 2 * minutes]


def test_a_model_says_itself_how_long_and_nothing_takes_longer_than_a_day() -> None:
    (own,) = bundle([pair("a", 20, runtime=480)], 100)
    (long,) = bundle([pair("a", 1e6)], 100)
    assert (own.minutes(2), long.minutes(1)) == (960, LONGEST_MINUTES)


@pytest.mark.parametrize(("most", "work", "wall"), [(100.0, 110.0, 110.0), (60.0, 130.0, 80.0), (0.0, 190.0, 50.0)])
def test_shards_that_share_a_job_are_predicted_one_after_the_other_with_one_load(
    most: float, work: float, wall: float
) -> None:
    """Loads of 20 s, on as many nodes as there are jobs: 90 s in one job, 60 and 30 s in two, or five shards apart."""
    pairs = [
        replace(one, seconds=Seconds(one.seconds.inference, 20.0)) for one in (pair("a", 30), pair("b", *[15] * 4))
    ]
    made = in_jobs(pairs, bundle(pairs, most))
    assert work_seconds(made, 64) == pytest.approx(work)
    assert wall_seconds(made, 64) == pytest.approx(wall)
