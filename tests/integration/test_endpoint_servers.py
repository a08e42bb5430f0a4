"""Real servers that speak OpenAI's protocol give the answers of the local engine with the same weights in float32."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import accelerate
import pytest

import tiny_models
from asked import by_id, choice, generate, rolling
from fake_endpoint import record
from shardmark.engine.endpoints.backend import open_backend
from shardmark.errors import UserError
from shardmark.plan.vllm import OWN
from shardmark.records.model import Staged
from workflow import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = ROOT / "demo/models/large"
WINDOW = 256
START_SECONDS = 600.0
TEXTS = by_id(
    [generate("Q: What is 3 + 4?\nA:", new=9), generate("a b c ", new=5), generate("Q: x\nA:", new=12, stop=["\n"])]
)
SCORED = by_id(
    [
        choice(("The sky is", " blue"), ("The sky is", " a"), ("The sky is", " END")),
        choice(("", "ab"), ("", "c")),
        choice(("x " * 400, "yz")),
        rolling("word by word, " * 60),
    ]
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[str]:
    """The address of a server that is started with a port, when it says that it is well."""
    port = free_port()
    told = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    with open(log, "wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=output, env=told)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                yield f"http://127.0.0.1:{port}/v1"
                return
            time.sleep(0.5)
        pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server."""
    options = ["--model", str(MODEL), "--served-model-name", "demo", "--host", "127.0.0.1", "--dtype", "float32"]
    limits = ["--enforce-eager", "--max-model-len", str(WINDOW), "--max-num-seqs", "16"]
    command = [str(OWN), "-m", "vllm.entrypoints.openai.api_server", *options, *limits]
    with running(command, tmp_path_factory.mktemp("vllm") / "log", VLLM_CPU_KVCACHE_SPACE="1") as url:
        yield url


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` of vLLM's environment, which has all it needs but accelerate: ours is lent to it."""
    lent = tmp_path_factory.mktemp("lent")
    (lent / "accelerate").symlink_to(Path(accelerate.__file__).parent)
    for facts in Path(accelerate.__file__).parents[1].glob("accelerate-*.dist-info"):
        (lent / facts.name).symlink_to(facts)
    options = [str(MODEL), "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]
    command = [str(OWN.parent / "transformers"), "serve", *options]
    with running(command, lent / "log", PYTHONPATH=str(lent)) as url:
        yield url


def answers(backend: Any, requests: dict[str, Any]) -> dict[str, Any]:
    return {prediction.id: prediction for batch in backend.answer(requests) for prediction in batch}


def asked(url: str, folder: Path, requests: dict[str, Any], tokens: bool, model: str) -> dict[str, Any]:
    """What an endpoint answers; `tokens` says whether prompts are sent as token ids."""
    settings = {"tokenizer_path": str(MODEL), "max_seq_len": WINDOW} if tokens else {}
    staged = Staged(model="", tokenizer=str(MODEL) if tokens else "")
    with closing(
        open_backend(record(url, model=model, api="completions", **settings), staged, lambda: None)
    ) as backend:
        backend.join(folder, os.getpid())
        return answers(backend, requests)


@pytest.fixture(scope="module")
def local() -> Any:
    return tiny_models.load_backend(MODEL)


def test_vllm_scores_as_the_local_engine(
    vllm: str, local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "scoring_window", WINDOW - 2)
    wanted = answers(tiny_models.local_backend(MODEL, local), SCORED)
    found = asked(vllm, tmp_path, SCORED, tokens=True, model="demo")
    for key, one in wanted.items():
        assert found[key].logprobs == pytest.approx(one.logprobs, abs=1e-3)
        assert (found[key].tokens, found[key].greedy, found[key].cut) == (one.tokens, one.greedy, one.cut)
        assert found[key].served.startswith("demo ")


@pytest.mark.parametrize("tokens", [True, False])
def test_vllm_writes_as_the_local_engine(vllm: str, local: Any, tmp_path: Path, tokens: bool) -> None:
    wanted = answers(tiny_models.local_backend(MODEL, local), TEXTS)
    found = asked(vllm, tmp_path, TEXTS, tokens, model="demo")
    assert {key: one.text for key, one in found.items()} == {key: one.text for key, one in wanted.items()}


def test_transformers_serve_writes_as_the_local_engine(transformers: str, local: Any, tmp_path: Path) -> None:
    wanted = answers(tiny_models.local_backend(MODEL, local), TEXTS)
    found = asked(transformers, tmp_path, TEXTS, tokens=False, model=str(MODEL))
    assert {key: one.text for key, one in found.items()} == {key: one.text for key, one in wanted.items()}


def test_transformers_serve_which_scores_no_prompts_is_found_out(transformers: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not return the log-probabilities of prompts"):
        asked(transformers, tmp_path, SCORED, tokens=True, model=str(MODEL))
