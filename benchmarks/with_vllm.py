"""The vLLM backend against vLLM called directly, and its scoring against the tree engine's, in alternating processes.

256 requests to write 32 tokens each, on the CPU in float32: CPU seconds of the second round in a process, after one
that warms it up. And choices after shared shots: what vLLM takes for the log-probabilities of prompts, over what the
tree engine takes. Loading is before; texts and log-likelihoods are kept to be compared.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT / "benchmarks")
sys.path.insert(0, str(ROOT / "scripts"))

from generation import LLAMA, prompts, question  # noqa: E402

RESULTS = ROOT / "benchmarks/results/with_vllm.json"
SHAPE = LLAMA | {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
NEW_TOKENS, STOP = 32, ["Question:"]
SHOTS, CHOICES = 12, 4
WINDOW = 2048
WARMING = 8
"The round that warms a process up has this part of the requests."
KINDS = {"direct": "vllm", "backend": "vllm", "scored by vLLM": "vllm", "scored by the tree engine": ""}
"What is measured, and which Python it needs."


def asked(count: int, seed: int) -> list[str]:
    """Different questions, each by itself."""
    draw = random.Random(seed)
    return [question(draw, answered=False) for _ in range(count)]


def model_record(model: Path, **settings: Any) -> Any:
    """The plan's record of a model, as far as an engine reads it."""
    from shardmark.config.backends.vllm import VllmConfig
    from shardmark.records.model import Folder, ModelRecord

    config = VllmConfig(path=str(model), num_gpus=0, dtype="float32", max_seq_len=WINDOW, **settings)
    source = Folder(path=str(model), identity={})
    return ModelRecord(
        name="m", digest="0", file="m.yaml", source=source, tokenizer=None, dtype="float32", settings=config
    )


def through_backend(model: Path, engine: str, **settings: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What answers requests with an engine of ours."""
    from shardmark.engine.backend import open_backend
    from shardmark.records.model import Staged

    staged = Staged(model=str(model), tokenizer=str(model))
    backend = open_backend(model_record(model, **settings), staged, lambda: None, engine)
    return lambda requests: {one.id: one for done in backend.answer(requests) for one in done}


def run_direct(model: Path) -> Callable[[int, int], list[Any]]:
    """vLLM's own class for offline inference, which makes tokens of texts and texts of tokens, too."""
    from shardmark.engine.vllm.arguments import prepare_environment

    prepare_environment(on_gpus=False)
    from vllm import LLM, SamplingParams

    usual = {"dtype": "float32", "max_model_len": WINDOW, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 30}
    llm = LLM(model=str(model), generation_config="vllm", disable_log_stats=True, **usual)
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, stop=STOP)
    return lambda seed, count: [one.outputs[0].text for one in llm.generate(asked(count, seed), params, use_tqdm=False)]


def run_backend(model: Path) -> Callable[[int, int], list[Any]]:
    """The backend, with the same settings."""
    from shardmark.records.request import GenerateRequest

    answer = through_backend(model, "vllm", vllm_kwargs={"kv_cache_memory_bytes": 1 << 30})

    def work(seed: int, count: int) -> list[Any]:
        requests = {
            str(n): GenerateRequest(prompt=prompt, max_new_tokens=NEW_TOKENS, stop=STOP)
            for n, prompt in enumerate(asked(count, seed))
        }
        found = answer(requests)
        return [found[key].text for key in requests]

    return work


def run_scoring(model: Path, engine: str) -> Callable[[int, int], list[Any]]:
    """Choices after shared shots, with one of the two engines."""
    from shardmark.records.request import ChoiceRequest

    own = {"vllm": {"scoring": "vllm", "vllm_kwargs": {"kv_cache_memory_bytes": 1 << 30}}, "tree": {}}[engine]
    answer = through_backend(model, engine, **own)
    shots = prompts(1)[0].rpartition("Question:")[0]
    shots = shots * (SHOTS // 5 + 1)

    def work(seed: int, count: int) -> list[Any]:
        draw = random.Random(seed)
        requests = {}
        for number in range(count):
            text = shots + question(draw, answered=False)
            requests[str(number)] = ChoiceRequest(pairs=[(text, f" {draw.randint(10, 99)}.") for _ in range(CHOICES)])
        found = answer(requests)
        return [found[key].logprobs for key in requests]

    return work


def process(python: str, kind: str, model: Path, count: int, threads: int) -> dict[str, Any]:
    """A run in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [python, __file__, "--worker", kind, "--model", str(model), "--count", str(count), "--out", out.name]
        own = {"OMP_NUM_THREADS": str(threads), "VLLM_LOGGING_LEVEL": "WARNING", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | own)
        return dict(json.loads(Path(out.name).read_text()))


def worker(kind: str, model: Path, count: int) -> dict[str, Any]:
    """Two rounds in this process, of which the first is small and the second counts."""
    made = {
        "direct": lambda: run_direct(model),
        "backend": lambda: run_backend(model),
        "scored by vLLM": lambda: run_scoring(model, "vllm"),
        "scored by the tree engine": lambda: run_scoring(model, "tree"),
    }
    work = made[kind]()
    work(0, max(2, count // WARMING))
    cpu, wall = time.process_time(), time.monotonic()
    answers = work(1, count)
    return {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall, "answers": answers}


def main(arguments: argparse.Namespace) -> None:
    """Compare by turns; print each run and two lines of medians, and write benchmarks/results/with_vllm.json."""
    import generation

    with tempfile.TemporaryDirectory() as folder:
        generation.LLAMA = SHAPE
        model = arguments.model or generation.random_llama(Path(folder))
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for _ in range(arguments.repeats):
            for kind, python in KINDS.items():
                count = arguments.documents if "scored" in kind else arguments.count
                run = process(arguments.vllm if python else sys.executable, kind, model, count, arguments.threads)
                print(f"{kind}: {run['cpu']:.1f} CPU s", flush=True)
                runs[kind].append(run)
    cpu = {kind: statistics.median(run["cpu"] for run in found) for kind, found in runs.items()}
    direct, backend, by_vllm, by_tree = (runs[kind][0]["answers"] for kind in KINDS)
    apart = max(
        abs(a - b) for one, other in zip(by_vllm, by_tree, strict=True) for a, b in zip(one, other, strict=True)
    )
    result = {
        "cpu": cpu,
        "wall": {kind: statistics.median(run["wall"] for run in found) for kind, found in runs.items()},
        "generation": cpu["backend"] / cpu["direct"],
        "scoring": cpu["scored by vLLM"] / cpu["scored by the tree engine"],
        "same_texts": sum(a == b for a, b in zip(direct, backend, strict=True)),
        "apart": apart,
        "requests": arguments.count,
        "documents": arguments.documents,
        "repeats": arguments.repeats,
        "threads": arguments.threads,
    }
    print(
        f"generation: backend {cpu['backend']:.1f} CPU s, vLLM called directly {cpu['direct']:.1f} CPU s: "
        f"{result['generation']:.3f} x (aim: at most 1.05), same texts {result['same_texts']}/{arguments.count}"
    )
    print(
        f"scoring: vLLM {cpu['scored by vLLM']:.1f} CPU s, tree engine {cpu['scored by the tree engine']:.1f} CPU s: "
        f"{result['scoring']:.1f} x (aim: at least 20), apart at most {apart:.1e}"
    )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", default=str(ROOT / ".venv-vllm/bin/python"), help="the Python that has vLLM")
    parser.add_argument("--model", type=Path, help="folder of another model than the random one")
    parser.add_argument("--count", type=int, default=256, help="requests to write answers to")
    parser.add_argument("--documents", type=int, default=24, help="documents to score the choices of")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating")
    parser.add_argument("--threads", type=int, default=2, help="threads to compute with")
    parser.add_argument("--worker", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        given.out.write_text(json.dumps(worker(given.worker, given.model, given.count)))
    else:
        main(given)
