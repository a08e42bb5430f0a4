"""Generation against lm-evaluation-harness and vLLM: same model, prompts and precision, a process for each run.

5 fixed shots, 64 new tokens, 32 documents, on the CPU in float32. Inference alone is timed: loading is before, and the
answers are kept to be compared. lm-eval takes its best batch size, which is found first; then they alternate. vLLM runs
where `make vllm` has installed it.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

RESULTS = ROOT / "benchmarks/results/generation.json"
SHOTS, NEW_TOKENS, STOP = 5, 64, ["Question:"]
PEER_BATCHES = (8, 16, 32)
NAMES = ("Ann", "Ben", "Chloe", "David", "Ella", "Farid", "Grace", "Hugo")
THINGS = ("apples", "books", "coins", "cards", "eggs", "pencils", "stamps", "tickets")
LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 14,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}


def question(draw: random.Random, answered: bool) -> str:
    """A word problem in the manner of GSM8K, with its worked answer if it is an example."""
    one, other = draw.sample(NAMES, 2)
    thing, have, days, each = draw.choice(THINGS), draw.randint(10, 90), draw.randint(2, 9), draw.randint(2, 12)
    text = (
        f"Question: {one} has {have} {thing} in a box. On each of the next {days} days {other} brings {each} more "
        f"{thing}, and nobody takes any away. How many {thing} are in the box at the end?\nAnswer:"
    )
    steps = f" {other} brings {each} {thing} on {days} days, which makes {each} * {days} = {each * days} {thing}."
    return text + (f"{steps} With the {have} from before there are {have + each * days}.\n\n" if answered else "")


def prompts(documents: int) -> list[str]:
    """Prompts that share their examples."""
    draw = random.Random(0)
    shots = "".join(question(draw, True) for _ in range(SHOTS))
    return [shots + question(draw, False) for _ in range(documents)]


def measured(work: Callable[[], list[str]]) -> dict[str, Any]:
    """What some work returns, its CPU and wall seconds, and the peak memory of the process in MiB."""
    cpu, wall = time.process_time(), time.monotonic()
    texts = work()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.monotonic() - wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "texts": texts,
    }


def run_shardmark(model: Path, asked: list[str], batch: int) -> dict[str, Any]:
    """This repository's engine, with `batch_size: auto`."""
    from shardmark.config import Named
    from shardmark.config.backends.transformers import TransformersConfig
    from shardmark.engine.local import LocalBackend
    from shardmark.engine.transformers.model import TransformersModel
    from shardmark.lock.lock import Lock
    from shardmark.plan.models import resolve_model
    from shardmark.records.model import Staged
    from shardmark.records.prediction import Generated
    from shardmark.records.request import GenerateRequest
    from shardmark.store.hashes import HashCache

    with tempfile.TemporaryDirectory() as folder:
        named = Named("benchmark", "benchmark.yaml", TransformersConfig(path=str(model), num_gpus=0, dtype="float32"))
        record = resolve_model(named, Lock(Path(folder, "lock")), HashCache(Path(folder, "cache")))
    staged = Staged(model=str(model), tokenizer=str(model))
    backend = LocalBackend(record, TransformersModel(record, staged))
    requests = {
        str(n): GenerateRequest(prompt=prompt, max_new_tokens=NEW_TOKENS, stop=STOP) for n, prompt in enumerate(asked)
    }

    def work() -> list[str]:
        found = {
            p.id: p.text for predictions in backend.answer(requests) for p in predictions if isinstance(p, Generated)
        }
        return [found[key] for key in requests]

    return measured(work)


def run_lm_eval(model: Path, asked: list[str], batch: int) -> dict[str, Any]:
    """lm-eval's hf backend."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=str(model), device="cpu", dtype=torch.float32, batch_size=batch, max_length=2048)
    settings = {"until": STOP, "max_gen_toks": NEW_TOKENS, "do_sample": False, "temperature": 0.0}
    instances = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(settings)), idx=0) for prompt in asked
    ]
    return measured(lambda: peer.generate_until(instances, disable_tqdm=True))


def run_vllm(model: Path, asked: list[str], batch: int) -> dict[str, Any]:
    """vLLM's own class for offline inference; what it sets up with its first tokens is not timed."""
    from shardmark.engine.vllm.arguments import prepare_environment

    prepare_environment(on_gpus=False)
    from vllm import LLM, SamplingParams

    usual = {"dtype": "float32", "max_model_len": 2048, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 30}
    llm = LLM(model=str(model), generation_config="vllm", disable_log_stats=True, **usual)
    llm.generate(["Hello"], SamplingParams(temperature=0, max_tokens=2), use_tqdm=False)
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, stop=STOP)
    return measured(lambda: [one.outputs[0].text for one in llm.generate(asked, params, use_tqdm=False)])


RUNS = {"shardmark": run_shardmark, "lm_eval": run_lm_eval, "vllm": run_vllm}


def process(python: str, kind: str, model: Path, documents: int, threads: int, batch: int = 0) -> dict[str, Any]:
    """A run in a process of its own."""
    from shardmark.engine.worker_client import ALLOCATOR  # here: the peers' Pythons lack what it imports

    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [python, __file__, "--worker", kind, "--model", str(model), "--documents", str(documents)]
        command += ["--threads", str(threads), "--batch", str(batch), "--out", out.name]
        vllm = {"OMP_NUM_THREADS": str(threads), "VLLM_LOGGING_LEVEL": "WARNING"}
        own = {"vllm": vllm, "shardmark": ALLOCATOR}.get(kind, {})
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | own)
        return dict(json.loads(Path(out.name).read_text()))


def work_ratio(model: Path, asked: list[str], texts: list[str]) -> float:
    """Multiplications of plain batches over those that must be done: what bounds the ratio of their times.

    A token of a prompt takes the body's parameters, one that is written also the output layer's. Plain batches read
    every prompt whole and write as long as the longest row; attention's own products are left out on both sides.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from shardmark.engine.prefixes import shared_prefixes

    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    head = empty.get_output_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in empty.base_model.parameters())
    body -= empty.get_input_embeddings().weight.numel()
    rows = [tokenizer.encode(prompt) for prompt in asked]
    written = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    parts = {part for _, prefix in shared_prefixes(rows) if prefix for part in prefix.chain()}
    own = sum(len(rows[n]) - (prefix.end if prefix else 0) for n, prefix in shared_prefixes(rows))
    needed = (sum(len(part.tokens) for part in parts) + own) * body + sum(written) * (body + head)
    plain = sum(map(len, rows)) * body + len(rows) * max(written) * (body + head)
    return float(plain / needed)


def compare(model: Path, peer: str, vllm: str, documents: int, repeats: int, threads: int) -> dict[str, Any]:
    """Medians of alternating runs, and how many answers are the same; vLLM's beside them if its Python is given."""
    tried = {size: process(peer, "lm_eval", model, documents, threads, size) for size in PEER_BATCHES}
    best = min(tried, key=lambda size: float(tried[size]["cpu"]))
    runs: dict[str, list[dict[str, Any]]] = {"shardmark": [], "lm_eval": []}
    for _ in range(repeats):
        runs["shardmark"].append(process(sys.executable, "shardmark", model, documents, threads))
        runs["lm_eval"].append(process(peer, "lm_eval", model, documents, threads, best))
        if vllm:
            runs.setdefault("vllm", []).append(process(vllm, "vllm", model, documents, threads))
    medians = {
        kind: {key: statistics.median(run[key] for run in found) for key in ("cpu", "wall", "peak_mib")}
        for kind, found in runs.items()
    }
    texts = {kind: found[0]["texts"] for kind, found in runs.items()}
    same = {kind: sum(map(str.__eq__, texts["shardmark"], found)) for kind, found in texts.items()}
    beside = {}
    if vllm:
        beside = {"over_vllm": medians["shardmark"]["cpu"] / medians["vllm"]["cpu"], "same_as_vllm": same["vllm"]}
    return {
        **medians,
        **beside,
        "ratio": medians["lm_eval"]["cpu"] / medians["shardmark"]["cpu"],
        "bound": work_ratio(model, prompts(documents), texts["shardmark"]),
        "same": same["lm_eval"],
        "documents": documents,
        "peer_batch": {"best": best, "cpu": {size: run["cpu"] for size, run in tried.items()}},
        "peer_batch_1_peak_mib": process(peer, "lm_eval", model, 2, threads, 1)["peak_mib"],
        "repeats": repeats,
        "threads": threads,
    }


def learned_tokenizer(folder: Path) -> None:
    """A tokenizer of 32,000 tokens, learned from Python's own sources."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=LLAMA["vocab_size"], special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    sources = sorted(Path(random.__file__).parent.glob("*/*.py"))
    tokenizer.train_from_iterator((file.read_text(errors="replace") for file in sources), trainer)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", bos_token="<eos>"
    ).save_pretrained(folder)


def random_llama(folder: Path) -> Path:
    """A model of Llama's shape with 250M random parameters, and a tokenizer."""
    import torch
    import transformers

    learned_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**LLAMA, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def show(name: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [f"{name:24}", f"{result['ratio']:5.2f} x (arithmetic {result['bound']:4.2f} x)"]
    for kind in ("shardmark", "lm_eval", "vllm"):
        if not (one := result.get(kind)):
            continue
        cells.append(f"{kind} {one['cpu']:7.1f} CPU s {one['wall']:7.1f} s {one['peak_mib']:6.0f} MiB")
    cells.append(f"lm_eval batch {result['peer_batch']['best']}, same answers {result['same']}/{result['documents']}")
    if "over_vllm" in result:
        cells.append(
            f"over vLLM {result['over_vllm']:.2f} x, same answers {result['same_as_vllm']}/{result['documents']}"
        )
    return "   ".join(cells)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a comparison takes."""
    parser.add_argument(
        "--peer", default=os.environ.get("SHARDMARK_LM_EVAL"), help="Python of an environment with lm-eval"
    )
    python = ROOT / ".venv-vllm/bin/python"
    parser.add_argument(
        "--vllm", default=str(python) if python.exists() else "", help="Python of an environment with vLLM; '' for none"
    )
    parser.add_argument("--model", type=Path, help="folder of another model to generate with, e.g. Gemma 3 270M")
    parser.add_argument("--model-only", action="store_true", help="generate with that model only")
    parser.add_argument("--documents", type=int, default=32, help="prompts to generate for")
    parser.add_argument("--threads", type=int, default=2, help="threads to generate with")


def main(arguments: argparse.Namespace) -> None:
    """Compare with each model; print a table and write benchmarks/results/generation.json."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {} if arguments.model_only else {"generation, Llama 250M": random_llama(Path(folder))}
        if arguments.model:
            cases[f"generation, {arguments.model.name}"] = arguments.model
        for name, model in cases.items():
            results[name] = compare(
                model, arguments.peer, arguments.vllm, arguments.documents, arguments.repeats, arguments.threads
            )
            print(show(name, results[name]), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def work(arguments: argparse.Namespace) -> None:
    """One measured run, in this process."""
    import torch

    torch.set_num_threads(arguments.threads)
    run = RUNS[arguments.worker]
    arguments.out.write_text(json.dumps(run(arguments.model, prompts(arguments.documents), arguments.batch)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating")
    parser.add_argument("--worker", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
    elif given.peer:
        main(given)
    else:
        parser.error("set SHARDMARK_LM_EVAL, or give --peer: the Python of an environment with lm-eval==0.4.13")
