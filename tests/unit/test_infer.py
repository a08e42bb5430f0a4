"""An inference job writes a whole file, and answers only what has not been answered before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from shardmark.engine.infer import infer_shard
from shardmark.errors import UserError
from shardmark.files import json_line, jsonl, pretty_json
from shardmark.plan.predictions import read_predictions, write_predictions
from shardmark.tasks.requests import request_id

NOWHERE = {"model": "/no/such/model", "tokenizer": "/no/such/model"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.chain_model(tmp_path_factory.mktemp("model"), "1xyz<eos>", "2<eos>")


class Job:
    """The files of a model's jobs for one data set."""

    def __init__(self, root: Path, model: Path, **settings: Any) -> None:
        self.record = root / "models/tiny.json"
        self.record.parent.mkdir()
        self.record.write_text(pretty_json(tiny_models.model_record(model, **settings)))
        self.staged = root / "staged.json"
        self.stage(tiny_models.staged(model))
        self.requests = root / "requests.jsonl"
        self.folder = root / "predictions/tiny@0/demo"
        self.folder.mkdir(parents=True)
        self.out = self.folder / "shard.jsonl"
        self.partial = self.folder / "shard.partial"

    def stage(self, staged: dict[str, str]) -> None:
        self.staged.write_text(json.dumps(staged))

    def run(self, requests: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The predictions and the trailer that a job for these requests writes."""
        self.requests.write_text(jsonl({"id": request_id(r), **r} for r in requests))
        infer_shard(self.record, self.staged, self.requests, self.out, threads=1)
        assert not self.partial.exists()
        return read_predictions(self.out)


@pytest.fixture
def job(tmp_path: Path, model: Path) -> Job:
    return Job(tmp_path, model, batch_size=2)


def generate(prompt: str) -> dict[str, Any]:
    return {"kind": "generate", "prompt": prompt, "max_new_tokens": 4, "stop": []}


REQUESTS = [generate("1"), generate("2"), generate("x"), {"kind": "choice", "pairs": [["1", "x"], ["1", "z"]]}]


def made_up(request: Any) -> dict[str, Any]:
    """A prediction that the model would never make, so that it is known again."""
    return {"id": request_id(request), "text": f"made up for {request['prompt']}", "tokens": 1, "end": "eos", "cut": 0}


def counts(trailer: dict[str, Any]) -> tuple[int, int]:
    return trailer["inferred"], trailer["reused"]


def test_a_job_writes_every_prediction_and_how_it_was_made(job: Job) -> None:
    predictions, trailer = job.run(REQUESTS)
    assert list(predictions) == sorted(map(request_id, REQUESTS))
    assert predictions[request_id(REQUESTS[0])] == made_up(REQUESTS[0]) | {"text": "xyz", "tokens": 3}
    assert predictions[request_id(REQUESTS[1])] == made_up(REQUESTS[1]) | {"text": "", "tokens": 0}
    assert predictions[request_id(REQUESTS[3])]["greedy"] == [True, False]
    assert counts(trailer) == (4, 0)
    assert trailer["seconds"] > 0
    assert trailer["load_seconds"] > 0
    assert trailer["started"] <= trailer["finished"]
    assert trailer["batch_size"] == 2
    assert trailer["gpus"] == trailer["gpu_names"] == []
    assert {"torch", "transformers"} <= trailer["packages"].keys()
    assert trailer["hardware"]["cores"] >= 1


def crash(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a job whose device dies in the second batch of generations."""
    from shardmark.engine import transformers_backend

    class Crashing(transformers_backend.TransformersBackend):
        batches = 0

        def generate(self, rows: Any) -> Any:
            self.batches += 1
            if self.batches == 2:
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            return super().generate(rows)

    with monkeypatch.context() as patch:
        patch.setattr(transformers_backend, "TransformersBackend", Crashing)
        with pytest.raises(RuntimeError, match="uncorrectable"):
            job.run(REQUESTS)
    assert not job.out.exists()


def test_a_job_that_crashed_goes_on_with_what_it_had(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(job, monkeypatch)
    assert len(job.partial.read_text().splitlines()) == 3
    predictions, trailer = job.run(REQUESTS)
    assert counts(trailer) == (1, 3)
    job.out.unlink()
    assert job.run(REQUESTS)[0] == predictions


def test_a_killed_job_goes_on_after_its_last_whole_line(job: Job) -> None:
    done, cut = REQUESTS[0], REQUESTS[1]
    job.partial.write_text(json_line(made_up(done)) + json_line(made_up(cut))[:-20])
    predictions, trailer = job.run(REQUESTS)
    assert predictions[request_id(done)] == made_up(done)
    assert predictions[request_id(cut)]["text"] == ""
    assert counts(trailer) == (3, 1)


def test_what_is_appended_after_a_cut_line_can_be_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [*REQUESTS, generate("y")]
    job.partial.write_text(json_line(made_up(more[4])) + '{"id": "cut in the mid')
    crash(job, monkeypatch)
    lines = [json.loads(line) for line in job.partial.read_text().splitlines()]
    assert lines[0] == made_up(more[4])
    assert len(lines) == 4
    assert counts(job.run(more)[1]) == (1, 4)


@pytest.mark.parametrize("rest", ["", "\x00\x00\x00\n", "null\n", '{"other": 1}\n', "\ufffd\n"])
def test_a_damaged_partial_file_costs_only_its_damaged_lines(job: Job, rest: str) -> None:
    job.partial.write_text(json_line(made_up(REQUESTS[0])) + rest)
    assert counts(job.run(REQUESTS)[1]) == (3, 1)


@pytest.mark.parametrize("name", ["older.jsonl", "other.partial"])
def test_what_a_neighbour_answered_is_not_asked_again(job: Job, name: str) -> None:
    shared, foreign = REQUESTS[2], generate("something else")
    if name.endswith(".jsonl"):
        write_predictions(job.folder / name, map(made_up, [shared, foreign]), {})
    else:
        (job.folder / name).write_text(jsonl(map(made_up, [shared, foreign])))
    before = (job.folder / name).read_bytes()
    predictions, trailer = job.run(REQUESTS)
    assert predictions[request_id(shared)] == made_up(shared)
    assert request_id(foreign) not in predictions
    assert counts(trailer) == (3, 1)
    assert (job.folder / name).read_bytes() == before


def test_nothing_is_taken_from_a_damaged_neighbour(job: Job) -> None:
    neighbour = job.folder / "older.jsonl"
    write_predictions(neighbour, map(made_up, REQUESTS[:3]), {})
    neighbour.write_text(neighbour.read_text().replace("made up", "changed"))
    predictions, trailer = job.run(REQUESTS)
    assert counts(trailer) == (4, 0)
    assert predictions[request_id(REQUESTS[0])]["text"] == "xyz"


def test_nothing_is_taken_from_another_model(job: Job) -> None:
    write_predictions(job.folder.parent.parent / "tiny@1/demo/shard.jsonl", map(made_up, REQUESTS[:3]), {})
    assert counts(job.run(REQUESTS)[1]) == (4, 0)


@pytest.mark.parametrize("file", ["tiny@0/old/shard", "old@0/demo/shard", "old@0/old/shard", "old@0/demo/older"])
@pytest.mark.parametrize("suffix", [".jsonl", ".partial"])
def test_what_was_answered_under_an_earlier_name_is_not_asked_again(job: Job, file: str, suffix: str) -> None:
    path = job.folder.parent.parent / f"{file}{suffix}"
    write_predictions(path, map(made_up, REQUESTS[:3]), {})
    assert counts(job.run(REQUESTS)[1]) == (1, 3)


def test_a_damaged_file_of_its_own_is_made_anew(job: Job) -> None:
    job.out.write_text(json_line(made_up(REQUESTS[0])))
    predictions, trailer = job.run(REQUESTS)
    assert counts(trailer) == (4, 0)
    assert predictions[request_id(REQUESTS[0])]["text"] == "xyz"


def test_the_model_is_not_loaded_if_nothing_is_missing(job: Job) -> None:
    write_predictions(job.folder / "older.jsonl", map(made_up, REQUESTS[:2]), {})
    (job.folder / "other.partial").write_text(json_line(made_up(REQUESTS[2])))
    job.stage(NOWHERE)
    predictions, trailer = job.run(REQUESTS[:3])
    assert list(predictions.values()) == sorted(map(made_up, REQUESTS[:3]), key=lambda p: p["id"])
    assert counts(trailer) == (0, 3)
    assert trailer["seconds"] == trailer["load_seconds"] == 0
    assert "torch" in trailer["packages"]


def test_a_model_that_is_not_there_is_named_and_leaves_no_file(job: Job) -> None:
    job.stage(NOWHERE)
    with pytest.raises(UserError, match=r"config/models/tiny.yaml: path: model tiny cannot be loaded"):
        job.run(REQUESTS)
    assert not job.out.exists()


@pytest.mark.parametrize("name", ["other.partial", "other.jsonl"])
def test_a_neighbour_that_vanishes_before_it_is_read_is_no_error(job: Job, name: str) -> None:
    (job.folder / name).symlink_to("gone")
    assert counts(job.run(REQUESTS)[1]) == (4, 0)


def test_too_few_gpus_are_told_before_anything_is_loaded(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    job = Job(tmp_path, model, num_gpus=1)
    job.stage(NOWHERE)
    with pytest.raises(UserError, match="1 GPUs are wanted, 0 are visible"):
        job.run(REQUESTS)
