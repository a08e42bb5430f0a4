"""How long a shard will take, before and after its model has been measured."""

from pathlib import Path
from typing import Any

import pytest

from shardmark.plan.cost import Measured, load_seconds, predictions_folder, prior_seconds, work


def model(size: int | None = 4_000_000, dtype: str = "float32", num_gpus: int = 0) -> dict[str, Any]:
    return {"source": {"bytes": size}, "dtype": dtype, "settings": {"num_gpus": num_gpus}}


def test_work_counts_tokens_to_read_and_to_write() -> None:
    generate = {"kind": "generate", "prompt": "x" * 40, "max_new_tokens": 7, "stop": []}
    choice = {"kind": "choice", "pairs": [["x" * 8, "y" * 4], ["x" * 8, "y" * 8]]}
    assert work([generate]) == {"read": 10, "written": 7}
    assert work([choice]) == {"read": 7, "written": 0}
    assert work([generate, choice]) == {"read": 17, "written": 7}
    assert work([]) == {"read": 0, "written": 0}


def test_the_prior_is_two_operations_for_each_parameter_and_token() -> None:
    assert prior_seconds(model(), {"read": 1000, "written": 0}) == pytest.approx(2 * 1e6 * 1000 / 5e10)


def test_a_written_token_costs_more_than_one_that_is_read() -> None:
    read, written = ({"read": r, "written": w} for r, w in ((100, 0), (0, 100)))
    assert prior_seconds(model(), written) == pytest.approx(10 * prior_seconds(model(), read))


def test_a_larger_model_takes_longer_and_a_gpu_shortens_it() -> None:
    shard = {"read": 100, "written": 10}
    small, large, gpu = (prior_seconds(m, shard) for m in (model(), model(8_000_000), model(num_gpus=1)))
    assert gpu < small < large


def test_bytes_of_half_precision_are_twice_the_parameters() -> None:
    shard = {"read": 100, "written": 0}
    assert prior_seconds(model(4_000_000), shard) == prior_seconds(model(2_000_000, "bfloat16"), shard)


def test_a_model_of_unknown_size_is_taken_for_a_usual_one() -> None:
    assert prior_seconds(model(None), {"read": 100, "written": 0}) > prior_seconds(model(), {"read": 100, "written": 0})
    assert load_seconds(model(None)) > load_seconds(model()) > 0


def test_what_was_measured_gives_the_rate() -> None:
    measured = Measured({"sums": [{"seconds": 2.0, "inferred": 10}, {"seconds": 4.0, "inferred": 20}]})
    assert measured.seconds("sums", 5) == pytest.approx(1.0)


def test_a_data_set_without_measurements_has_no_rate() -> None:
    reused = [{"seconds": 0.0, "inferred": 0}]
    measured = Measured({"reused": reused, "empty": []})
    assert [measured.seconds(name, 5) for name in ("reused", "empty", "unknown")] == [None, None, None]


def test_reused_shards_do_not_count_in_the_rate() -> None:
    measured = Measured({"sums": [{"seconds": 2.0, "inferred": 10}, {"seconds": 0.0, "inferred": 0}]})
    assert measured.seconds("sums", 10) == pytest.approx(2.0)


def test_predictions_are_filed_under_the_model_and_its_digest() -> None:
    folder = predictions_folder(Path("results"), {"name": "m", "digest": "0123456789abcdef"})
    assert folder == Path("results/predictions/m@0123456789abcdef")
