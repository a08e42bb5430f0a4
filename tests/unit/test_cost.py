"""How long a shard will take, before and after its model has been measured."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import asked
import fake_endpoint
from answered import made
from projects import COMMIT, model_record
from shardmark.files import SEAL, pretty_json, sealed, write_whole
from shardmark.plan.cost import (
    JOB_SECONDS,
    REQUEST_SECONDS,
    Costs,
    prior_load_seconds,
    prior_seconds,
    weight_bytes,
    work,
)
from shardmark.records.model import HubRepository, ModelRecord
from shardmark.records.trailer import Work
from shardmark.store.predictions import write_predictions


def model(parameters: int | None = 1_000_000, dtype: str = "float32", **settings: Any) -> ModelRecord:
    source = HubRepository(path="org/m", identity=COMMIT, parameters=parameters)
    return model_record(source=source, dtype=dtype, **settings)


def test_work_counts_tokens_to_read_and_to_write() -> None:
    generate = asked.generate("x" * 40, 7)
    choice = asked.choice(("x" * 8, "y" * 4), ("x" * 8, "y" * 8))
    assert work([generate]) == Work(read=10, written=7, longest=7)
    assert work([choice]) == Work(read=4, written=0, longest=0)  # the second begins like the first
    assert work([generate, asked.generate("z" * 40, 7)]) == Work(read=20, written=14, longest=7)
    assert work([generate, asked.generate("x" * 40, 9)]) == Work(read=10, written=16, longest=9)
    assert work([]) == Work(read=0, written=0, longest=0)


def test_the_prior_is_two_operations_for_each_parameter_and_token() -> None:
    assert prior_seconds(model(), Work(read=1000, written=0)) == pytest.approx(2 * 1e6 * 1000 / 1e11)


def test_writing_reads_all_weights_once_a_step_for_all_answers_of_a_batch() -> None:
    """4 MB of weights, 10 GB a second, 50 steps; 1 million parameters, 2 operations each, 1e11 a second."""
    one, many, waves = (Work(read=0, written=50 * n, longest=50) for n in (1, 100, 1280))
    assert prior_seconds(model(), one) == pytest.approx(50 * 4e6 / 1e10 + 50 * 2e6 / 1e11)
    assert prior_seconds(model(), many) == pytest.approx(50 * 4e6 / 1e10 + 5000 * 2e6 / 1e11)
    assert prior_seconds(model(), waves) == pytest.approx(10 * 50 * 4e6 / 1e10 + 64000 * 2e6 / 1e11)


def test_a_job_and_each_request_take_something_beside_the_model() -> None:
    tokens = Work(read=1000, written=0)
    none, one, many = (prior_seconds(model(), tokens, n) for n in (0, 1, 101))
    assert none == prior_seconds(model(), tokens)
    assert (one - none, many - one) == pytest.approx((JOB_SECONDS + REQUEST_SECONDS, 100 * REQUEST_SECONDS))


def test_a_larger_model_takes_longer_and_a_gpu_shortens_it() -> None:
    shard = Work(read=100, written=10)
    small, large, gpu = (prior_seconds(m, shard) for m in (model(), model(2_000_000), model(num_gpus=1)))
    assert gpu < small < large


def test_half_precision_halves_the_bytes_and_not_the_operations() -> None:
    assert [weight_bytes(model(dtype=dtype)) for dtype in ("float32", "bfloat16")] == [4_000_000, 2_000_000]
    shard = Work(read=100, written=0)
    assert prior_seconds(model(), shard) == prior_seconds(model(dtype="bfloat16"), shard)


def test_a_model_of_unknown_size_is_taken_for_a_usual_one() -> None:
    assert prior_seconds(model(None), Work(read=100, written=0)) > prior_seconds(model(), Work(read=100, written=0))
    assert prior_load_seconds(model(None)) > prior_load_seconds(model()) > 0


def test_a_small_model_loads_in_a_second_where_its_worker_is_a_fork() -> None:
    cpu, gpu = prior_load_seconds(model()), prior_load_seconds(model(num_gpus=1))
    assert 1 <= cpu < 2 < 10 <= gpu < 11


TOKENS = Work(read=1000, written=0)


def took(root: Path, record: ModelRecord, dataset: str, ratio: float, load: float = 1.0, **facts: Any) -> Path:
    """A prediction file of a job that took `ratio` times what the prior says, and `load` times to load."""
    seconds = {"seconds": ratio * prior_seconds(record, TOKENS, 1), "load_seconds": load * prior_load_seconds(record)}
    folder = root / f"predictions/{record.full_name}/{dataset}"
    path = folder / f"{len(list(folder.glob('*')))}.jsonl"
    write_predictions(path, [], made(**({"work": TOKENS} | seconds | facts)))
    return path


def ratios(costs: Costs, record: ModelRecord, dataset: str, kind: str) -> tuple[float, float]:
    """What is predicted over the priors: of inference and of loading."""
    seconds = costs.predict(record, dataset, kind, TOKENS, 1)
    return seconds.inference / prior_seconds(record, TOKENS, 1), seconds.load / prior_load_seconds(record)


def test_the_nearest_measurement_corrects_the_prior(tmp_path: Path) -> None:
    """The same data set, else data sets of its kind, else other models on such a device, else nothing."""
    costs, own = Costs(tmp_path), model()
    others = [replace(model(), name=name) for name in "abc"]
    on_gpu = replace(model(num_gpus=1), name="g")
    assert ratios(costs, own, "sums", "generate") == (1, 1)
    for record, ratio in zip([*others, on_gpu], (5, 7, 100, 1000), strict=True):
        took(tmp_path, record, "sums", ratio, load=ratio)
        costs.measure(record, "sums", "generate")
    assert ratios(costs, own, "sums", "generate") == pytest.approx((7, 7))
    assert ratios(costs, own, "sums", "choice") == pytest.approx((1, 7))
    took(tmp_path, own, "words", 3, load=2)
    costs.measure(own, "words", "generate")
    assert ratios(costs, own, "sums", "generate") == pytest.approx((3, 2))
    took(tmp_path, own, "sums", 4, load=4)
    costs.measure(own, "sums", "generate")
    assert ratios(costs, own, "sums", "generate") == pytest.approx((4, 3))
    assert ratios(costs, own, "words", "generate") == pytest.approx((3, 3))


def test_models_on_this_machine_say_nothing_about_an_endpoint(tmp_path: Path) -> None:
    costs, far = Costs(tmp_path), fake_endpoint.record("http://127.0.0.1:9/v1")
    took(tmp_path, model(), "sums", 100)
    costs.measure(model(), "sums", "generate")
    assert costs.predict(far, "sums", "generate", TOKENS, 1).inference == prior_seconds(far, TOKENS, 1)


def test_shards_that_were_reused_say_nothing_and_partly_reused_ones_count_what_they_inferred(tmp_path: Path) -> None:
    costs, own = Costs(tmp_path), model()
    took(tmp_path, own, "sums", 2)
    took(tmp_path, own, "sums", 0, load=0, inferred=0, work=Work(read=0, written=0))
    half = Work(read=500, written=0)
    took(tmp_path, own, "sums", 0, seconds=2 * prior_seconds(own, half, 1), work=half, reused=5)
    costs.measure(own, "sums", "generate")
    assert ratios(costs, own, "sums", "generate") == pytest.approx((2, 1))


def test_a_load_is_one_whatever_a_worker_does_after_it(tmp_path: Path) -> None:
    costs, own = Costs(tmp_path), model()
    took(tmp_path, own, "sums", 1, load=3)
    for _ in range(3):
        took(tmp_path, own, "sums", 1, load=0)
    costs.measure(own, "sums", "generate")
    assert ratios(costs, own, "sums", "generate") == pytest.approx((1, 3))


def test_trailers_are_read_again_only_if_their_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = took(tmp_path, model(), "sums", 2).parent
    costs = Costs(tmp_path)
    costs.measure(model(), "sums", "generate")
    costs.save()
    read: list[Path] = []
    monkeypatch.setattr("shardmark.plan.cost.read_trailer", read.append)
    again = Costs(tmp_path)
    again.measure(model(), "sums", "generate")
    assert not read
    assert ratios(again, model(), "sums", "generate") == pytest.approx((2, 1))
    os.utime(folder, ns=(1, 1))
    again.measure(model(), "sums", "generate")
    assert len(read) == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", "null", "{}", '{"measured": 5}', '{"measured": {"m@0": 5}}',
     '{"measured": {"m@0": {"sums": 5}}}',
     '{"measured": {"m@0": {"sums": {}}}}'],
)  # fmt: skip
def test_damaged_costs_only_cost_time(tmp_path: Path, content: str) -> None:
    took(tmp_path, model(), "sums", 2)
    write_whole(tmp_path / "plans/costs.json", pretty_json(sealed(json.loads(content))) if "m" in content else content)
    costs = Costs(tmp_path)
    costs.measure(model(), "sums", "generate")
    assert ratios(costs, model(), "sums", "generate") == pytest.approx((2, 1))


def test_answers_are_as_long_as_the_model_lets_them_be() -> None:
    """A limit of the model counts like a shorter one of the data set; one above the data set's changes nothing."""
    tokens = Work(read=100, written=5120, longest=512)
    shorter = Work(read=100, written=640, longest=64)
    limited, wide = (model(max_out_len=limit) for limit in (64, 1024))
    assert prior_seconds(limited, tokens) == pytest.approx(prior_seconds(model(), shorter))
    assert prior_seconds(wide, tokens) == prior_seconds(model(), tokens)


def test_what_another_versions_prior_was_measured_with_is_measured_again(tmp_path: Path) -> None:
    costs, own = Costs(tmp_path), model()
    took(tmp_path, own, "sums", 3)
    costs.measure(own, "sums", "generate")
    costs.save()
    old = json.loads(costs.path.read_text())
    old["measured"]["m@0"]["sums"]["seconds_prior"] *= 10
    write_whole(costs.path, pretty_json(sealed({k: v for k, v in old.items() if k != SEAL} | {"prior": "old"})))
    again = Costs(tmp_path)
    again.measure(own, "sums", "generate")
    assert ratios(again, own, "sums", "generate") == pytest.approx((3, 1))
