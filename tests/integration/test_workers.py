"""Warm workers: a model is loaded once, a fault costs its own shard no answer, and no worker outlives its run.

Most of these tests put a module of their own in the place of transformers (STAND_IN): a worker then starts in half
a second, and its model does what the prompts say, so that faults come exactly where they are wanted.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import asked
import tiny_models
from projects import model_record
from shardmark.engine import devices, worker, worker_client
from shardmark.engine.infer import infer_shard
from shardmark.engine.worker_client import WorkerFailed, infer_with_worker
from shardmark.errors import UserError
from shardmark.files import digest, pretty_json, sealed
from shardmark.processes.sockets import LOCK, SOCKET, claimed, run_folder
from shardmark.records.base import to_json
from shardmark.records.model import Staged
from shardmark.records.model_brief import read_brief
from shardmark.records.request import GenerateRequest
from shardmark.records.trailer import Trailer
from shardmark.store.partials import partial_files, read_partial
from shardmark.store.predictions import read_predictions
from shardmark.tasks import request_id
from stand_in import write_stand_in

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = '''
"""The backend that a worker loads does what a request's prompt says."""

import hashlib, logging, os, sys, time
from pathlib import Path

from shardmark.engine.backend import Backend
from shardmark.errors import Problem, UserError
from shardmark.records.prediction import Generated

worker = sys.modules["shardmark.engine.worker"]
worker.ALIVE_SECONDS = 0.1
worker.IDLE_SECONDS = float(os.environ.get("TEST_IDLE_SECONDS", worker.IDLE_SECONDS))
pulse = sys.modules["shardmark.engine.watchdog"]
pulse.STILL_SECONDS = float(os.environ.get("TEST_STILL_SECONDS", pulse.STILL_SECONDS))
pulse.STEP_SECONDS = float(os.environ.get("TEST_STEP_SECONDS", pulse.STEP_SECONDS))


class Obeying(Backend):
    device_names = ["a stand-in"]

    def __init__(self, record, staged, beat):
        time.sleep(0.2)
        if record.name == "broken":
            raise UserError(Problem(record.file, "path", "cannot be loaded"))
        self.beat = beat

    def answer(self, requests):
        for key, request in requests.items():
            act(*request.prompt.split())
            self.beat()
            yield [Generated(id=key, text=str(os.getpid()), tokens=1, end="eos", cut=0)]


def act(verb, *words):
    if verb in ("wait", "spin", "hash"):
        Path(words[0]).with_suffix(f".{os.getpid()}").touch()
    if verb == "wait":
        while not Path(words[0]).exists():
            time.sleep(0.001)
    elif verb == "spin":
        while True:
            pass
    elif verb == "sleep":
        time.sleep(1000)
    elif verb == "hash":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
    elif verb == "die":
        os.kill(os.getpid(), 9)
    elif verb == "crash":
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    elif verb == "log":
        logging.getLogger("transformers").warning("a %s of two\\nlines", "message")
        logging.getLogger("transformers").warning("too few words: %s %s", "one")
        try:
            raise ValueError("a caught mistake")
        except ValueError:
            logging.getLogger("transformers").exception("noted")


open_backend = Obeying
'''
NO_PIDFD = "import os\ndel os.pidfd_open\n"


def until(met: Callable[[], Any], seconds: float = 60) -> Any:
    """What a condition gives as soon as it is met."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def generate(prompt: str) -> GenerateRequest:
    return asked.generate(prompt)


@dataclass
class Gate:
    """Where a worker waits in the middle of a shard, for the prompt `wait GATE`."""

    path: Path

    def reached_by(self) -> int:
        """The process of the worker that has come to the gate last; waits for one."""
        (found,) = until(lambda: list(self.path.parent.glob(f"{self.path.stem}.[0-9]*")))
        found.unlink()
        return int(found.suffix[1:])

    def open(self) -> None:
        """Let the worker go on."""
        self.path.touch()

    def __str__(self) -> str:
        return str(self.path)


@dataclass
class Run:
    """A process that is the run, models, and clients of its workers."""

    folder: Path
    owner: "subprocess.Popen[bytes]" = field(default_factory=lambda: subprocess.Popen(["sleep", "600"]))
    clients: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    @property
    def logs(self) -> Path:
        return self.folder / "logs/workers"

    def sockets(self) -> list[Path]:
        return sorted(run_folder(self.owner.pid).glob(f"*{SOCKET}"))

    def files(self, name: str, requests: list[Any], weights: Path | None = None, **settings: Any) -> list[Path]:
        """The files of a job: the model's record, where it is staged, the requests, the predictions."""
        settings = {"num_gpus": 0, "batch_size": 1, **settings}
        record, staged = model_record(name, **settings), Staged(model="/no/such/model", tokenizer="/no/such/model")
        if weights:
            record, staged = tiny_models.model_record(weights, **settings), tiny_models.staged(weights)
        shard = digest([request_id(request) for request in requests])
        paths = [f"models/{name}.json", f"staged/{name}.json", f"requests/d/{shard}.jsonl"]
        files = [self.folder / path for path in [*paths, f"predictions/{name}@0/d/{shard}.jsonl"]]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        files[0].write_text(pretty_json(to_json(record)))
        files[1].write_text(pretty_json(sealed(to_json(staged))))
        files[2].write_text(asked.lines(asked.by_id(requests)))
        return files

    def infer(self, files: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The predictions and the trailer that a client writes."""
        infer_with_worker(read_brief(files[0]), *files[1:], 1, self.owner.pid, self.logs)
        return read_predictions(files[3])

    def say(self, *prompts: str, model: str = "tiny", **settings: Any) -> "Future[Answers]":
        """What a model answers to prompts, each with a word of its own: a client of it starts now."""
        requests = [generate(f"{prompt} {time.monotonic_ns()}") for prompt in prompts]
        files = self.files(model, requests, **settings)
        return self.clients.submit(lambda: Answers(requests, *self.infer(files)))

    def start(self, files: list[Path], *more: str) -> "subprocess.Popen[str]":
        """Start a client as a process; its output, standard error included, in a pipe."""
        names = ("--model", "--staged", "--requests", "--out")
        paths = [str(word) for pair in zip(names, files, strict=True) for word in pair]
        return subprocess.Popen(
            [sys.executable, str(ROOT / "scripts/infer.py"), *paths, "--threads", "1", *more],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def warm(self, files: list[Path], log: str = "logs/infer/m/d/s.log") -> "subprocess.Popen[str]":
        """Start a client with a log, as the workflow does."""
        return self.start(files, "--owner", str(self.owner.pid), "--log", log)

    def close(self) -> None:
        self.owner.kill()
        self.owner.wait()
        self.clients.shutdown()


@dataclass
class Answers:
    """What the stand-in has answered: by which worker, request by request, and how."""

    requests: list[Any]
    predictions: dict[str, Any]
    trailer: Trailer

    @property
    def workers(self) -> list[int]:
        return [int(self.predictions[request_id(request)].text) for request in self.requests]

    @property
    def loaded(self) -> bool:
        return bool(self.trailer.load_seconds > 0.1)


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """The folder for temporary files of clients and workers, with a name that is short enough for sockets."""
    tempfile.gettempdir()  # this process's own stays where it is
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
            patch.setenv(name, str(folder))
        patch.setenv("SHARDMARK_DEVICE_LOCKS", str(folder / "devices"))
        patch.setenv("SHARDMARK_FORKS", "off")  # the stand-in needs none of the imports that forks would save
        patch.delenv("SLURM_JOB_ID", raising=False)
        yield folder
    until(lambda: not [one for one in psutil.process_iter(["cmdline"]) if str(folder) in str(one.info["cmdline"])])
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def run(tmp_path: Path, temporary: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from where workers take what stands in for transformers."""
    folder = tmp_path / "stand_in"
    write_stand_in(folder, STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate.open")
    yield gate
    gate.open()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the workers of this process's clients have told them."""
    messages: list[Any] = []
    heard = worker_client._heard
    monkeypatch.setattr(worker_client, "_heard", lambda message, show: messages.append(message) or heard(message, show))
    return messages


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_ten_shards_load_a_model_once_and_say_what_a_process_for_each_says(run: Run, weights: Path) -> None:
    shards = [
        [generate(f"{n}: a"), generate(f"{n}: bc"), asked.choice((f"{n}?", " yes"), (f"{n}?", " no"))]
        for n in range(10)
    ]
    files = [run.files("tiny", shard, weights) for shard in shards]
    process = run.start(files[0])
    for job in files[1:]:
        infer_shard(*job, 1)
    assert process.communicate()[0] == ""
    assert run.sockets() == []
    alone = [read_predictions(job[3])[0] for job in files]
    for job in files:
        job[3].unlink()
    warm = [run.infer(job) for job in files]
    trailers = [trailer for _, trailer in warm]
    assert [predictions for predictions, _ in warm] == alone
    assert [trailer.load_seconds > 0.1 for trailer in trailers] == [True] + 9 * [False]
    assert [trailer.inferred for trailer in trailers] == 10 * [3]
    assert len(run.sockets()) == 1


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_the_same_mistake_with_a_worker(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(weights, broken)
    files = run.files("tiny", [generate("a")], broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError) as alone:
        infer_shard(*files, 1)
    process = run.warm(files)
    output, _ = process.communicate()
    assert output.strip() == str(alone.value.problems[0])
    assert output.startswith("config/models/tiny.yaml: path: model tiny cannot be loaded")
    assert process.returncode == 1
    assert "Traceback" not in (tmp_path / "logs/infer/m/d/s.log").read_text()
    assert not files[3].exists()


@pytest.mark.usefixtures("stand_in")
def test_two_clients_at_once_have_two_workers_and_a_third_takes_an_idle_one(run: Run, gate: Gate) -> None:
    first = run.say(f"wait {gate}")
    one = gate.reached_by()
    second = run.say(f"wait {gate}")
    two = gate.reached_by()
    gate.open()
    assert (first.result().workers, second.result().workers) == ([one], [two])
    third = run.say("hello").result()
    assert third.workers[0] in (one, two)
    assert not third.loaded
    assert one != two


@pytest.mark.usefixtures("stand_in")
def test_another_run_has_workers_of_its_own(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    try:
        assert run.say("hello").result().workers != other.say("hello").result().workers
    finally:
        other.close()


@pytest.mark.usefixtures("stand_in")
def test_a_worker_gives_memory_back_unless_the_user_says_otherwise(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    (worker,) = run.say("hello").result().workers
    told = psutil.Process(worker).environ()
    assert {name: told[name] for name in worker_client.ALLOCATOR} == worker_client.ALLOCATOR | {"MALLOC_ARENA_MAX": "4"}


@pytest.mark.slow
def test_a_worker_s_memory_serves_the_next_operator_and_large_blocks_go_back() -> None:
    code = """
import numpy, resource
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
resident = lambda: int(open("/proc/self/statm").read().split()[1])
before = faults()
for _ in range(100):
    numpy.ones(2 << 20, numpy.uint8)
between, small = faults(), resident()
large = [numpy.ones(16 << 20, numpy.uint8) for _ in range(8)]
del large
print(between - before, resident() - small)
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=os.environ | worker_client.ALLOCATOR, capture_output=True, check=True).stdout
    faults, kept = map(int, output.split())
    pages = (2 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults < 10 * pages
    assert kept < 16 * pages


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced_and_its_answers_are_kept(
    run: Run, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: signal.Signals
) -> None:
    monkeypatch.setattr(worker_client, "SILENT_SECONDS", 2.5)  # the first sign of life comes after two
    answers = run.say("hello", "hello", f"wait {gate}", "hello")
    faulty = gate.reached_by()
    os.kill(faulty, fault)
    gate.open()
    one, two, *more = answers.result().workers
    assert [one, two] == [faulty, faulty]
    assert set(more) == {gate.reached_by()} != {faulty}
    assert (answers.result().trailer.reused, answers.result().trailer.inferred) == (2, 2)
    assert not alive(faulty)
    assert "the worker of model tiny died" in caplog.text


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_computes_for_long_shows_that_it_lives(
    run: Run, gate: Gate, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = run.say("hello").result().workers
    monkeypatch.setattr(worker_client, "SILENT_SECONDS", 1.0)
    answers = run.say(f"wait {gate}")
    until(lambda: said.count({"alive": True}) > 15)
    gate.open()
    assert answers.result().workers == busy


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("prompt", "limit", "reason"),
    [("sleep", "STILL", "it has neither computed nor read for"), ("spin", "STEP", "it has been at one step for")],
)
def test_a_worker_whose_work_hangs_ends_although_a_thread_of_it_could_tell_that_it_lives(
    run: Run,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    prompt: str,
    limit: str,
    reason: str,
) -> None:
    monkeypatch.setenv(f"TEST_{limit}_SECONDS", "1.0")
    requests = [generate("hello"), generate(f"{prompt} {gate}")]
    files = run.files("tiny", requests)
    with pytest.raises(UserError, match="died twice"):
        run.infer(files)
    assert caplog.text.count(f"this worker hangs: {reason}") == 2
    assert len([line for path in partial_files(files[3]) for line in read_partial(path)]) == 1


@pytest.mark.usefixtures("stand_in")
def test_a_shard_whose_workers_die_twice_is_an_error_that_says_where_to_look(run: Run) -> None:
    with pytest.raises(UserError) as error:
        run.say("hello", "die").result()
    (problem,) = error.value.problems
    assert problem.where == "config/models/tiny.yaml"
    assert "the worker of model tiny died twice; memory may have run out" in problem.what
    assert f"see {run.logs}" in problem.fix
    assert len(list(run.logs.iterdir())) == 2
    assert run.say("hello").result().loaded


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_cannot_start_is_told_with_its_last_words(
    run: Run, stand_in: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (stand_in / "tqdm.py").write_text("raise SystemExit('no tqdm today')")
    with pytest.raises(UserError, match="died twice"):
        run.say("hello").result()
    assert "it ended with status 1: no tqdm today" in caplog.text


@pytest.mark.parametrize(("prompt", "pidfd"), [("spin", True), ("hash", True), ("hello", True), ("spin", False)])
def test_a_worker_is_gone_two_seconds_after_its_run_even_from_the_middle_of_a_computation(
    run: Run, gate: Gate, stand_in: Path, prompt: str, pidfd: bool
) -> None:
    if not pidfd:
        write_stand_in(stand_in, STAND_IN, NO_PIDFD)
    answers = run.say(f"{prompt} {gate}")
    (worker,) = answers.result().workers if prompt == "hello" else [gate.reached_by()]
    folder = run_folder(run.owner.pid)
    run.owner.kill()
    until(lambda: not alive(worker), 2)
    assert not folder.exists()
    if prompt != "hello":
        with pytest.raises(UserError, match=f"process {run.owner.pid} has ended"):
            answers.result()
    assert len(list(run.logs.iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["hello", "spin"])
@pytest.mark.parametrize("pidfd", [True, False])
def test_a_stopped_worker_is_killed_soon_after_its_run(
    run: Run, gate: Gate, stand_in: Path, prompt: str, pidfd: bool
) -> None:
    if not pidfd:
        write_stand_in(stand_in, STAND_IN, NO_PIDFD)
    answers = run.say(f"{prompt} {gate}")
    (worker,) = answers.result().workers if prompt == "hello" else [gate.reached_by()]
    (guard,) = psutil.Process(worker).children()
    os.kill(worker, signal.SIGSTOP)
    run.owner.kill()
    run.owner.wait()
    until(lambda: not alive(worker), 15)
    until(lambda: not alive(guard.pid), 15)
    if prompt != "hello":
        with pytest.raises(UserError, match=f"process {run.owner.pid} has ended"):
            answers.result()


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_is_stopped_with_its_guard_is_killed_by_the_next_run(run: Run, tmp_path: Path) -> None:
    (worker,) = run.say("hello").result().workers
    (guard,) = psutil.Process(worker).children()
    for process in (guard.pid, worker):
        os.kill(process, signal.SIGSTOP)
    run.owner.kill()
    run.owner.wait()
    other = Run(tmp_path / "other")
    try:
        assert other.say("hello").result().loaded
        until(lambda: not alive(worker), 5)
    finally:
        guard.kill()
        other.close()


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_ends_takes_its_guard_with_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_IDLE_SECONDS", "0.5")
    (worker,) = run.say("hello").result().workers
    (guard,) = psutil.Process(worker).children()
    until(lambda: not alive(worker) and not alive(guard.pid))


@pytest.mark.usefixtures("stand_in")
def test_a_worker_whose_run_is_over_before_it_starts_does_not_stay(run: Run) -> None:
    """Even if another process has the number of the one that was the run."""
    path = run_folder(run.owner.pid).parent / f"{run.owner.pid}-1" / f"key-0{SOCKET}"
    path.parent.mkdir(mode=0o700)
    files = run.files("tiny", [])
    command = [sys.executable, str(ROOT / "scripts/worker.py"), "--model", str(files[0]), "--staged", str(files[1])]
    subprocess.run([*command, "--socket", str(path), "--owner", str(run.owner.pid)], check=True, timeout=30)
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("stand_in")
def test_a_worker_drops_the_job_of_a_dead_client_at_the_next_batch_and_serves_another(run: Run, gate: Gate) -> None:
    requests = [generate(prompt) for prompt in ("hello", f"wait {gate}", "hello again")]
    files = run.files("tiny", requests)
    with run.warm(files) as died:
        worker = gate.reached_by()
        died.kill()
    gate.open()
    assert run.say("hello").result().workers == [worker]
    assert len([line for path in partial_files(files[3]) for line in read_partial(path)]) == 2
    predictions, trailer = run.infer(files)
    assert {prediction.text for prediction in predictions.values()} == {str(worker)}
    assert (trailer.reused, trailer.inferred, trailer.load_seconds > 0.1) == (2, 1, False)


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_who_comes_during_a_long_batch_for_a_dead_client_waits_for_the_warm_worker(
    run: Run, gate: Gate, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = run.say("hello").result().workers
    with run.warm(run.files("tiny", [generate(f"wait {gate}"), generate("hello")])) as died:
        assert gate.reached_by() == worker
        died.kill()
    monkeypatch.setattr(worker_client, "SILENT_SECONDS", 1.0)
    answers = run.say("hello")
    until(lambda: said.count({"alive": True}) > 15)
    gate.open()
    assert answers.result().workers == [worker]


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_an_idle_worker_makes_room_for_another_model_on_the_cpu_and_a_busy_one_stays(run: Run, gate: Gate) -> None:
    (idle,) = run.say("hello", model="idle").result().workers
    busy = run.say(f"wait {gate}", "hello", model="busy")
    worker = gate.reached_by()
    until(lambda: not alive(idle))
    assert run.say("hello", model="third").result().loaded
    gate.open()
    assert busy.result().workers == [worker, worker]
    assert len(run.sockets()) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_an_idle_worker_gives_its_gpu_to_another_run_and_a_busy_one_keeps_it(
    run: Run, gate: Gate, said: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    other = Run(tmp_path / "other")
    try:
        (idle,) = run.say("hello", model="one", num_gpus=1).result().workers
        busy = other.say(f"wait {gate}", "hello", model="two", num_gpus=1)
        worker = gate.reached_by()
        until(lambda: not alive(idle))
        waiting = run.say("hello", model="three", num_gpus=1)
        said.clear()
        until(lambda: said.count({"alive": True}) > 25)  # for more than two seconds; it asks once a second
        gate.open()
        assert busy.result().workers == [worker, worker]
        assert waiting.result().trailer.gpus == busy.result().trailer.gpus == ["7"]
        assert waiting.result().loaded
    finally:
        other.close()


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_no_more_workers_leave_than_gpus_are_wanted(run: Run, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    answers, workers = [], []
    for _ in range(2):
        answers.append(run.say(f"wait {gate}", model="one", num_gpus=1))
        workers.append(gate.reached_by())
    gate.open()
    assert [answer.result().workers[0] for answer in answers] == workers
    run.say("hello", model="two", num_gpus=1).result()
    assert not run.say("hello", model="one", num_gpus=1).result().loaded


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_could_not_load_onto_a_gpu_does_not_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch has seen of the devices stays as it was, whatever is leased later."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with pytest.raises(UserError, match=r"config/models/broken.yaml: path: cannot be loaded"):
        run.say("hello", model="broken", num_gpus=1).result()
    assert run.sockets() == []


@pytest.mark.usefixtures("stand_in")
def test_a_note_that_another_user_left_of_a_devices_holder_is_not_believed(run: Run, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can make a file another user's")
    (worker,) = run.say("hello").result().workers
    note = devices._holder(tmp_path, "7")
    note.write_text(str(run.sockets()[0]))
    os.chown(note, 65534, 65534)
    devices._ask_holder(tmp_path, "7")
    assert run.say("hello").result().workers == [worker]


@pytest.mark.usefixtures("stand_in")
def test_an_unexpected_error_fails_its_shard_only_with_a_traceback_in_its_log(run: Run, tmp_path: Path) -> None:
    (worker,) = run.say("hello").result().workers
    files = run.files("tiny", [generate("hello"), generate("crash")])
    process = run.warm(files)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "RuntimeError: CUDA error: uncorrectable ECC error encountered; the traceback is in logs/infer" in output
    assert "in act\n" in (tmp_path / "logs/infer/m/d/s.log").read_text()
    assert run.sockets() == []
    until(lambda: not alive(worker))
    assert run.say("hello").result().loaded
    with pytest.raises(WorkerFailed, match="uncorrectable"):
        run.infer(files)


@pytest.mark.usefixtures("stand_in")
def test_log_lines_of_a_job_come_to_the_log_of_its_client_and_of_no_other(run: Run, tmp_path: Path) -> None:
    texts = []
    for number, prompt in enumerate(("hello", "log", "hello once more")):
        files = run.files("tiny", [generate(prompt)])
        log = f"logs/infer/m/d/{number}.log"
        run.warm(files, log).communicate()
        texts.append((tmp_path / log).read_text())
    assert ["WARNING transformers: a message of two\nlines" in text for text in texts] == [False, True, False]
    assert "ERROR transformers: noted\nTraceback (most recent call last):" in texts[1]
    assert "ValueError: a caught mistake" in texts[1]
    assert all("INFO shardmark.engine.infer: 1 requests, 0 already answered" in text for text in texts)


@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_nobody_comes_to_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_IDLE_SECONDS", "0.05")
    (worker,) = run.say("hello").result().workers
    until(lambda: not alive(worker))
    assert list(run_folder(run.owner.pid).iterdir()) == []
    assert run.say("hello").result().loaded


def test_a_worker_does_not_leave_while_a_client_that_has_claimed_it_is_on_its_way(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(worker, "claimed", lambda path: looked.append(path) or claimed(path))
    path = run_folder(run.owner.pid) / f"key-0{SOCKET}"
    path.with_suffix(LOCK).touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with claimed(path):
            wanted = run.clients.submit(worker._awaited, worker.Reception(listener), path)
            until(lambda: len(looked) > 3)
            assert not wanted.done()
        assert not wanted.result()
    assert not path.exists()


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "TMPDIR"])
@pytest.mark.usefixtures("stand_in")
def test_a_very_long_name_of_the_temporary_folder_is_no_obstacle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    long = tmp_path / ("long" * 40)
    long.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv(name, str(long))
    files = run.files("tiny", [generate("hello")])
    run.warm(files).communicate()
    assert read_predictions(files[3])[1].inferred == 1


@pytest.mark.usefixtures("stand_in")
def test_a_folder_that_is_open_to_others_is_refused_by_name(run: Run, temporary: Path) -> None:
    folder = run_folder(run.owner.pid)
    folder.chmod(0o755)
    files = run.files("tiny", [generate("hello")])
    process = run.warm(files)
    output, _ = process.communicate()
    assert output.startswith(f"{folder}: is open to others\n    fix: remove it")
    assert "Traceback" not in output
    assert process.returncode == 1


@pytest.mark.usefixtures("stand_in")
def test_a_client_needs_no_results_folder_around_its_log(run: Run, tmp_path: Path) -> None:
    files = run.files("tiny", [generate("hello")])
    process = run.warm(files, log="job.log")
    assert process.communicate()[0] == ""
    assert process.returncode == 0


def test_the_client_imports_nothing_that_is_slow_to_import() -> None:
    code = "import runpy, sys; sys.argv = ['infer.py', '--help']; sys.path.insert(0, 'scripts')"
    show = "import shardmark.engine.worker_client\nprint(*{name.partition('.')[0] for name in sys.modules})"
    run_infer = "try: runpy.run_path('scripts/infer.py', run_name='__main__')\nexcept SystemExit: pass"
    command = [sys.executable, "-c", f"{code}\n{run_infer}\n{show}"]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    imported = set(output.splitlines()[-1].split())
    assert "shardmark" in imported
    assert not imported & {"torch", "transformers", "numpy", "pydantic", "yaml", "jinja2", "rich", "tqdm"}
