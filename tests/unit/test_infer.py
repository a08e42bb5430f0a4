"""An inference job writes a whole file, and answers only what has not been answered before."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import asked
import tiny_models
from answered import wrote
from asked import by_id, choice, lines
from projects import problems
from shardmark.engine.infer import infer_shard
from shardmark.errors import UserError
from shardmark.files import digest, json_line, pretty_json, sealed
from shardmark.plan.cost import work
from shardmark.records.base import to_json
from shardmark.records.model import Folder, Staged
from shardmark.records.prediction import Generated
from shardmark.records.request import GenerateRequest
from shardmark.records.trailer import Trailer
from shardmark.store.hashes import HashCache
from shardmark.store.partials import append_partial, partial_files, read_partial
from shardmark.store.predictions import read_predictions
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
        self.record.write_text(pretty_json(to_json(tiny_models.model_record(model, **settings))))
        self.staged = root / "staged.json"
        self.stage(tiny_models.staged(model))
        self.requests = root / "requests/demo"
        self.requests.mkdir(parents=True)
        self.folder = root / "predictions/tiny@0/demo"
        self.folder.mkdir(parents=True)
        self.out = self.folder / "shard.jsonl"
        self.partial = self.folder / "shard.elsewhere-1.partial"

    def stage(self, staged: Staged) -> None:
        self.staged.write_text(pretty_json(sealed(to_json(staged))))

    def run(self, requests: Sequence[Any]) -> tuple[dict[str, Any], Trailer]:
        """The predictions and the trailer that a job for these requests writes."""
        infer_shard(self.record, self.staged, self.ask(requests), self.out, threads=1)
        assert not partial_files(self.out)
        return read_predictions(self.out)

    def ask(self, requests: Sequence[Any]) -> Path:
        """The request file, named by its ids."""
        named = dict(sorted(by_id(requests).items()))
        path = self.requests / f"{digest(list(named))}.jsonl"
        path.write_text(lines(named))
        return path


@pytest.fixture
def job(tmp_path: Path, model: Path) -> Job:
    return Job(tmp_path, model, batch_size=2)


def generate(prompt: str) -> GenerateRequest:
    return asked.generate(prompt, 4)


REQUESTS = [generate("1"), generate("2"), generate("x"), choice(("1", "x"), ("1", "z"))]


def made_up(request: Any) -> Generated:
    """A prediction that the model would never make, so that it is known again."""
    return wrote(request_id(request), f"made up for {request.prompt}")


def kept(prediction: Generated) -> str:
    """A line of a partial file."""
    value = to_json(prediction)
    return json_line(value | {"check": digest(value)})


def counts(trailer: Trailer) -> tuple[int, int]:
    return trailer.inferred, trailer.reused


def test_a_damaged_note_of_where_the_model_is_loads_nothing(job: Job) -> None:
    job.staged.write_text(job.staged.read_text().replace("/", "//", 1))
    with pytest.raises(UserError, match=r"staged.json: it is damaged\n +fix: run again"):
        job.run(REQUESTS)


def test_a_job_writes_every_prediction_and_how_it_was_made(job: Job) -> None:
    predictions, trailer = job.run(REQUESTS)
    assert list(predictions) == sorted(map(request_id, REQUESTS))
    assert predictions[request_id(REQUESTS[0])] == replace(made_up(REQUESTS[0]), text="xyz", tokens=3)
    assert predictions[request_id(REQUESTS[1])] == replace(made_up(REQUESTS[1]), text="", tokens=0)
    assert predictions[request_id(REQUESTS[3])].greedy == [True, False]
    assert counts(trailer) == (4, 0)
    assert trailer.seconds > 0
    assert trailer.load_seconds > 0
    assert trailer.started <= trailer.finished
    assert trailer.batch_size == 2
    assert trailer.shard == "shard"
    assert trailer.work == work(REQUESTS)
    assert trailer.predicted_seconds > 0
    assert trailer.gpus == trailer.gpu_names == []
    assert {"torch", "transformers"} <= trailer.packages.keys()
    assert trailer.hardware["cores"] >= 1


def crash(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a job whose device dies when two generations are done."""
    from shardmark.engine.transformers import model

    class Crashing(model.Scheduler):
        def results(self, rows: Any) -> Any:
            left = 2
            for done in super().results(rows):
                yield done[:left]
                left -= len(done)
                if left <= 0:
                    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    with monkeypatch.context() as patch:
        patch.setattr(model, "Scheduler", Crashing)
        with pytest.raises(RuntimeError, match="uncorrectable"):
            job.run(REQUESTS)
    assert not job.out.exists()


def test_a_job_that_crashed_goes_on_with_what_it_had(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(job, monkeypatch)
    assert sum(len(read_partial(path)) for path in partial_files(job.out)) == 3
    predictions, trailer = job.run(REQUESTS)
    assert counts(trailer) == (1, 3)
    job.out.unlink()
    assert job.run(REQUESTS)[0] == predictions


def test_choices_that_were_scored_before_a_crash_are_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import scoring

    asked = [choice((f"question {n}", "x"), (f"question {n}", "yz")) for n in range(5)]
    forwards, whole = [], scoring.chunk_states

    def crashing(*arguments: Any) -> Any:
        forwards.append(arguments)
        if len(forwards) == 3:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "chunk_states", crashing)
        with pytest.raises(RuntimeError, match="uncorrectable"):
            job.run(asked)
    kept = sum(len(read_partial(path)) for path in partial_files(job.out))
    assert 1 <= kept < 5
    assert counts(job.run(asked)[1]) == (5 - kept, kept)


def test_a_killed_job_goes_on_after_its_last_whole_line(job: Job) -> None:
    done, cut = REQUESTS[0], REQUESTS[1]
    job.partial.write_text(kept(made_up(done)) + kept(made_up(cut))[:-20])
    predictions, trailer = job.run(REQUESTS)
    assert predictions[request_id(done)] == made_up(done)
    assert predictions[request_id(cut)].text == ""
    assert counts(trailer) == (3, 1)


def test_what_is_appended_after_a_cut_line_can_be_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [*REQUESTS, generate("y")]
    job.partial.write_text(kept(made_up(more[4])) + '{"id": "cut in the mid')
    crash(job, monkeypatch)
    lines = [line for path in partial_files(job.out) for line in read_partial(path)]
    assert made_up(more[4]) in lines
    assert len(lines) == 4
    assert counts(job.run(more)[1]) == (1, 4)


@pytest.mark.parametrize("rest", ["", "\x00\x00\x00\n", "null\n", '{"other": 1}\n', "\ufffd\n"])
def test_a_damaged_partial_file_costs_only_its_damaged_lines(job: Job, rest: str) -> None:
    job.partial.write_text(kept(made_up(REQUESTS[0])) + rest)
    assert counts(job.run(REQUESTS)[1]) == (3, 1)


def test_a_damaged_file_of_its_own_is_made_anew(job: Job) -> None:
    job.out.write_text(json_line(to_json(made_up(REQUESTS[0]))))
    predictions, trailer = job.run(REQUESTS)
    assert counts(trailer) == (4, 0)
    assert predictions[request_id(REQUESTS[0])].text == "xyz"


def test_the_model_is_not_loaded_if_nothing_is_missing(job: Job) -> None:
    append_partial(job.out, list(map(made_up, REQUESTS[:2])))
    job.partial.write_text(kept(made_up(REQUESTS[2])))
    job.stage(NOWHERE)
    predictions, trailer = job.run(REQUESTS[:3])
    assert list(predictions.values()) == sorted(map(made_up, REQUESTS[:3]), key=lambda p: p.id)
    assert counts(trailer) == (0, 3)
    assert trailer.seconds == trailer.load_seconds == 0
    assert "torch" in trailer.packages


@pytest.mark.parametrize("harm", ["cut", "changed", "removed", "renamed"])
def test_a_damaged_request_file_is_refused_by_name(job: Job, harm: str) -> None:
    path = job.ask(REQUESTS)
    text = path.read_text()
    if harm == "renamed":
        path = path.rename(path.with_name(f"{'0' * 16}.jsonl"))
    else:
        _, rest = text.split("\n", 1)
        path.write_text({"cut": text[:-9], "changed": text.replace('"1"', '"7"', 1), "removed": rest}[harm])
    (problem,) = problems(infer_shard, job.record, job.staged, path, job.out, threads=1)
    assert (problem.where, problem.what) == (str(path), "the request file is damaged")
    assert not job.out.exists()


def test_a_model_that_is_not_there_is_named_and_leaves_no_file(job: Job) -> None:
    job.stage(NOWHERE)
    with pytest.raises(UserError, match=r"config/models/tiny.yaml: path: model tiny cannot be loaded"):
        job.run(REQUESTS)
    assert not job.out.exists()


def test_too_few_gpus_are_told_before_anything_is_loaded(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    job = Job(tmp_path, model, num_gpus=1)
    job.stage(NOWHERE)
    with pytest.raises(UserError, match="1 GPUs are needed, but 0 are visible"):
        job.run(REQUESTS)


def test_weights_that_changed_since_the_plan_answer_nothing(tmp_path: Path, model: Path) -> None:
    """Their answers would be filed under the model that they were, and be taken for its answers once it is back."""
    folder = Path(shutil.copytree(model, tmp_path / "weights"))
    job = Job(tmp_path, folder)
    tiny_models.chain_model(folder, "2<eos>")
    (problem,) = problems(job.run, [generate("1")])
    assert problem.where == str(folder / "model.safetensors")
    assert problem.what == "model tiny: changed since the plan was made"
    assert not job.out.exists()
    assert not partial_files(job.out)


def test_weights_that_were_only_touched_answer(tmp_path: Path, model: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "weights"))
    job = Job(tmp_path, folder)
    (folder / "model.safetensors").touch()
    assert job.run([generate("1")])[1].inferred == 1


def test_an_adapter_that_changed_since_the_plan_is_refused_too(tmp_path: Path, model: Path) -> None:
    from shardmark.engine.infer import _refuse_changed_files

    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(b"what it is now")
    adapter = Folder(path=str(tmp_path), identity={file.name: "the hash of what it was"})
    record = replace(tiny_models.model_record(model), adapter=adapter)
    (problem,) = problems(_refuse_changed_files, record, HashCache(tmp_path / "hashes.json"))
    assert problem.where == str(file)
