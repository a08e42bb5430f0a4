"""Models that vLLM runs, with the real vLLM: the same answers and scores as with the engine of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_models
from asked import by_id, choice, generate, lines, rolling
from quick_engine import use_quick_scoring
from requirements_check import need
from shardmark.files import digest, pretty_json, sealed
from shardmark.plan.vllm import look_at, with_engines
from shardmark.records.base import to_json
from shardmark.records.model import ModelRecord
from shardmark.store.partials import read_partial
from shardmark.store.predictions import read_predictions
from workflow import ROOT, Project

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = ROOT / "demo/models/large"
PLAIN = {"path": "demo/models/large", "num_gpus": 0, "dtype": "float32", "cpus": 2}


def write_model(project: Project, name: str, **keys: Any) -> None:
    (project.folder / f"config/models/{name}.yaml").write_text(yaml.safe_dump(PLAIN | keys))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The demo's arithmetic and comparisons, with the local engine and both ways that vLLM may score."""
    config = {"models": ["local", "fast", "all"], "datasets": ["demo_arithmetic", "demo_comparison"], "limit": 60}
    folder = tmp_path_factory.mktemp("vllm") / "project"
    project = Project.create(folder, run="test", vllm_python=need("vllm"), **config)
    write_model(project, "local")
    write_model(project, "fast", backend="vllm")
    write_model(project, "all", backend="vllm", scoring="vllm", vllm_kwargs={"max_num_seqs": 8})
    use_quick_scoring(project)
    project.run()
    return project


def predictions(project: Project, model: str, dataset: str) -> dict[str, Any]:
    files = project.folder.glob(f"results/predictions/{model}@*/{dataset}/*.jsonl")
    return {key: one for file in files for key, one in read_predictions(file)[0].items()}


def scores(project: Project, model: str, dataset: str) -> Any:
    (file,) = project.folder.glob(f"results/scores/{model}@*/{dataset}@*.json")
    return json.loads(file.read_text())


def test_texts_are_those_of_the_local_engine(ran: Project) -> None:
    local = predictions(ran, "local", "demo_arithmetic")
    assert len(local) == 60
    assert local == predictions(ran, "fast", "demo_arithmetic") == predictions(ran, "all", "demo_arithmetic")


def test_log_likelihoods_are_those_of_the_local_engine(ran: Project) -> None:
    local, fast, every = (predictions(ran, name, "demo_comparison") for name in ("local", "fast", "all"))
    assert fast == local
    for key, one in local.items():
        assert every[key].logprobs == pytest.approx(one.logprobs, abs=1e-3)
        assert (every[key].greedy, every[key].tokens) == (one.greedy, one.tokens)
    for dataset in ("demo_arithmetic", "demo_comparison"):
        values = [scores(ran, name, dataset)["metrics"] for name in ("local", "fast", "all")]
        assert values[0] == values[1] == values[2]


def test_each_score_names_its_engine_with_its_packages(ran: Project) -> None:
    def told(model: str, dataset: str) -> tuple[list[str], str | None, str]:
        source = scores(ran, model, dataset)["provenance"]
        engines = [engine["name"] for engine in source.get("engines", [])]
        return engines, source["packages"].get("vllm"), source["packages"]["transformers"]

    has = look_at(need("vllm")).version
    own = told("local", "demo_comparison")[2]
    assert told("local", "demo_arithmetic") == ([], None, own)
    assert told("fast", "demo_comparison") == (["tree"], None, own)
    for model, dataset in (("fast", "demo_arithmetic"), ("all", "demo_comparison")):
        engines, version, transformers = told(model, dataset)
        assert (engines, version) == (["vllm"], has)
        assert transformers != own
    assert scores(ran, "fast", "demo_arithmetic")["counts"]["repeated"] == 4


def test_nothing_is_left_to_do_and_a_faster_setting_changes_nothing(ran: Project, tmp_path: Path) -> None:
    project = ran.copy(tmp_path / "project")
    write_model(project, "all", backend="vllm", scoring="vllm", vllm_kwargs={"max_num_seqs": 4, "block_size": 32})
    assert project.planned() == {}
    write_model(project, "all", backend="vllm", scoring="vllm", vllm_kwargs={"seed": 4, "max_num_sequences": 4})
    output = project.run("-n", succeeds=False)
    assert "config/models/all.yaml: vllm_kwargs.seed: is set by Shardmark" in output


def test_what_had_finished_before_a_kill_is_not_asked_again(ran: Project, tmp_path: Path) -> None:
    project = ran.copy(tmp_path / "project")
    subprocess.run(["rm", "-r", *project.folder.glob("results/predictions/fast@*")], check=True)
    subprocess.run(["rm", "-r", *project.folder.glob("results/scores/fast@*")], check=True)
    project.configure(run="test", models=["fast"], datasets=["demo_arithmetic"], limit=60, vllm_python=need("vllm"))
    write_model(project, "fast", backend="vllm", vllm_kwargs={"max_num_seqs": 1})
    run = project.start()
    finished = 0
    deadline = time.monotonic() + 300
    while finished < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
        parts = list(project.folder.glob("results/predictions/fast@*/demo_arithmetic/*.partial"))
        finished = sum(len(read_partial(part)) for part in parts)
    run.kill()
    run.communicate()
    assert 5 <= finished < 60
    assert not project.outlived()
    project.run("--unlock")
    project.run()
    (trailer,) = [found for path, found in project.trailers().items() if "/fast@" in str(path)]
    assert finished <= trailer["reused"] < 60
    assert trailer["inferred"] == 60 - trailer["reused"]
    assert predictions(project, "fast", "demo_arithmetic") == predictions(ran, "local", "demo_arithmetic")


def test_both_engines_share_a_shard_of_both_kinds(tmp_path: Path) -> None:
    from shardmark.config import Named
    from shardmark.config.backends.vllm import VllmConfig
    from shardmark.lock.lock import Lock
    from shardmark.plan.models import resolve_model
    from shardmark.store.hashes import HashCache

    settings = VllmConfig(path=str(MODEL), num_gpus=0, dtype="float32")
    record: ModelRecord = resolve_model(
        Named("m", "m.yaml", settings), Lock(tmp_path / "no.lock"), HashCache(tmp_path / "no.cache")
    )
    (record,) = with_engines([record], need("vllm"), tmp_path, "", [])
    asked = dict(sorted(by_id([generate("Q: 2 + 3\nA:", stop=["\n"]), choice(("Q: 2 + 3\nA:", " 5"))]).items()))
    files = {
        "model": (f"results/models/{record.full_name}.json", pretty_json(sealed(to_json(record)))),
        "staged": ("staged.json", pretty_json(sealed(to_json(tiny_models.staged(MODEL))))),
        "requests": (f"requests/demo/{digest(list(asked))}.jsonl", lines(asked)),
    }
    command = [sys.executable, str(ROOT / "scripts/infer.py"), "--threads", "2"]
    for option, (name, text) in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        command += [f"--{option}", str(tmp_path / name)]
    out = tmp_path / f"results/predictions/{record.full_name}/demo/{digest(list(asked))}.jsonl"
    out.parent.mkdir(parents=True)
    subprocess.run([*command, "--out", str(out)], check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    found, trailer = read_predictions(out)
    assert found.keys() == asked.keys()
    assert [use.name for use in trailer.engines] == ["vllm", "tree"]
    assert (trailer.inferred, trailer.reused) == (2, 0)
    assert trailer.packages["transformers"].count(" and ") == 1
    assert not list(out.parent.glob("*.partial"))


# One vLLM, and many ways to ask it

THOUGHTS = {"reasoning": {"budget": 3}, "reasoning_tags": [" ", "Q"]}
MANY = [
    *(generate(f"Q: {n} + {n}\nA:", 8, ["\n"]) for n in range(12)),
    *(generate(f"Q: reverse: ab{n}\nA:", 1 + n, ["b", "\nA"], min_new_tokens=n % 3) for n in range(12)),
    generate("Q: copy: word\nA:", 20),
    generate("Q: 3 + 4\nA:", 8, ["</s>", "<eos>"]),
    generate("Q: " + "9 " * 200, 4),
]
DRAWN = [generate(f"Q: {n} + 4\nA:", 6, temperature=1.5, top_k=8, top_p=0.9, samples=2) for n in range(6)]
HOT = [generate(f"Q: {n} + 4\nA:", 6, temperature=t) for n in range(3) for t in (0.001, 4.0)]
SCORED = [*(choice((f"Q: {n} + 1\nA:", f" {n + 1}"), ("", "Q")) for n in range(6)), rolling("Q: 1 + 1\nA: 2\n" * 40)]


@pytest.fixture(scope="module")
def asked() -> Any:
    """The answers of one vLLM to several batches of requests, and what it measured."""
    batches = [({}, MANY), ({}, [*MANY[::-1], *DRAWN]), ({}, DRAWN[:1]), (THOUGHTS, MANY), ({}, HOT), ({}, SCORED)]
    first = {"scoring": "vllm", "dtype": "float32"}
    job = {
        "folder": str(MODEL),
        "batches": [(first | said, [to_json(request) for request in requests]) for said, requests in batches],
    }
    command = [need("vllm"), str(ROOT / "tests/vllm_answers.py")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def local() -> Any:
    return tiny_models.load_backend(MODEL, dtype="float32")


def by_name(answers: list[Any]) -> dict[str, Any]:
    found = {answer["id"]: answer for answer in answers}
    assert len(found) == len(answers)
    return found


def locally(loaded: Any, requests: Any, **said: Any) -> dict[str, Any]:
    backend = tiny_models.local_backend(MODEL, loaded, dtype="float32", **said)
    return by_name([to_json(one) for done in backend.answer(by_id(requests)) for one in done])


def test_stops_lengths_and_windows_mean_the_same(asked: Any, local: Any) -> None:
    found = by_name(asked["answers"][0])
    assert found == locally(local, MANY)
    assert {one["end"] for one in found.values()} == {"eos", "stop", "length"}


def test_answers_depend_neither_on_the_order_nor_on_what_is_beside_them(asked: Any) -> None:
    alone, beside, lone = (by_name(answers) for answers in asked["answers"][:3])
    assert alone.items() <= beside.items()
    assert lone.items() <= beside.items()
    assert asked["use"]["repeated"] == 4
    assert asked["use"].get("differing", 0) == 0


def test_budgets_of_thoughts_mean_the_same(asked: Any, local: Any) -> None:
    found = by_name(asked["answers"][3])
    assert found == locally(local, MANY, **THOUGHTS)
    assert any(one.get("thought") for one in found.values())


def test_drawn_texts_differ_and_cold_ones_are_greedy(asked: Any, local: Any) -> None:
    drawn = [sample["text"] for one in asked["answers"][1] for sample in one.get("samples", [])]
    assert len(drawn) == 12
    assert len(set(drawn)) > 2
    found = by_name(asked["answers"][4])
    asked_greedily = [generate(f"Q: {n} + 4\nA:", 6) for n in range(3)]
    greedy = locally(local, asked_greedily)
    cold = [found[key]["text"] for key, request in by_id(HOT).items() if request.temperature < 1]
    assert cold == [greedy[key]["text"] for key in by_id(asked_greedily)]


def test_log_likelihoods_are_the_same(asked: Any, local: Any) -> None:
    found, wanted = by_name(asked["answers"][5]), locally(local, SCORED)
    (whole,) = by_id(SCORED[-1:])
    for key, one in wanted.items():
        near = {"rel": 0.05} if key == whole else {"abs": 1e-3}  # its windows are two tokens shorter
        assert found[key]["logprobs"] == pytest.approx(one["logprobs"], **near)
        assert (found[key]["tokens"], found[key]["greedy"]) == (one["tokens"], one["greedy"])
