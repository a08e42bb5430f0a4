"""What rules ask Snakemake for: memory by the size of a model's weights, and models one after the other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from projects import COMMIT, model_record, write_record
from shardmark.records.model import HubRepository
from shardmark.workflow.rule_inputs import Inputs


@pytest.mark.parametrize(("dtype", "megabytes"), [("float32", 28_000), ("bfloat16", 16_000)])
def test_a_job_asks_for_twice_its_weights_and_room_for_the_libraries(
    tmp_path: Path, dtype: str, megabytes: int
) -> None:
    source = HubRepository(path="org/m", identity=COMMIT, parameters=3_000_000_000)
    write_record(tmp_path / "models/m@0.json", model_record(source=source, dtype=dtype))
    job = SimpleNamespace(model="m@0")
    asked = [Inputs(str(tmp_path), {}).memory_mb(job, attempt=attempt) for attempt in (1, 2)]
    assert asked == [megabytes, 2 * megabytes]


def test_models_are_staged_first_and_then_run_in_the_order_of_the_run(tmp_path: Path) -> None:
    """The larger number goes first, so a device loads each model once."""
    order = ["first@0", "second@0", "third@0"]
    inputs = Inputs(str(tmp_path), {}, order=order)
    jobs = [SimpleNamespace(model=name) for name in order]
    infer = [inputs.priority(job) for job in jobs]
    stage = [inputs.staging_priority(job) for job in jobs]
    assert infer == sorted(set(infer), reverse=True)
    assert stage == sorted(set(stage), reverse=True)
    assert min(stage) > max(infer)
    assert inputs.priority(SimpleNamespace(model="of another run@0")) == 0


def test_what_the_second_engine_of_a_model_answers_comes_after_what_the_first_does(tmp_path: Path) -> None:
    names = [("first@0", "written"), ("first@0", "scored"), ("second@0", "written"), ("second@0", "scored")]
    later = {pair for pair in names if pair[1] == "scored"}
    inputs = Inputs(str(tmp_path), {}, order=["first@0", "second@0"], later=later)
    found = [inputs.priority(SimpleNamespace(model=model, dataset=dataset)) for model, dataset in names]
    assert found == sorted(set(found), reverse=True)
    assert inputs.staging_priority(SimpleNamespace(model="second@0")) > max(found)


def test_where_jobs_have_no_groups_no_file_is_read_to_find_that_of_a_score(tmp_path: Path) -> None:
    assert Inputs(str(tmp_path / "none"), {}).score_group(SimpleNamespace(model="m@0", dataset="d", task="1")) is None
