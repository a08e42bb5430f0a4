"""All that is to be found out on a machine with a GPU, in one run of at most eight minutes.

The GPU tests; float32 scores on the GPU beside the CPU's; and the speed of scoring and of generation in bfloat16, with
random weights of 1B and 8B shapes that are made on the device: Shardmark, lm-eval's hf backend, transformers' own
`generate` and `generate_batch`, each in a process of its own, as a share of the matrix product's measured peak. A part
for which no time is left, or that fails, is named, and the others go on. Writes benchmarks/results/gpu.json.

    python benchmarks/gpu.py                        # SHARDMARK_LM_EVAL names the Python that has lm-eval
    python benchmarks/gpu.py --device cpu --tiny    # the same with small shapes, to try the script itself
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

import generation  # noqa: E402
import tasks  # noqa: E402

RESULTS = ROOT / "benchmarks/results/gpu.json"
SECONDS = 480.0
PARTS = 5
"A part may take one of so many parts of the time, so that one that hangs leaves some to others."
WINDOW = 2048


class Shape(NamedTuple):
    """A model of Llama's shape, and how much work it is given."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    documents: int
    "Of four choices after five examples of their own."
    prompts: int
    "To go on with, after examples in common."
    new_tokens: int = 64


SHAPES = {"1B": Shape(2048, 8192, 16, 32, 8, 256, 256), "8B": Shape(4096, 14336, 32, 32, 8, 96, 256)}
TINY = {"tiny": Shape(64, 128, 2, 4, 2, 2, 3, new_tokens=4)}


def make_model(shape: Shape, device: str, dtype: str) -> Any:
    """A model with random weights, made where it computes."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=generation.LLAMA["vocab_size"],
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def backend(folder: Path, shape: Shape, device: str, dtype: str, cuda_graphs: bool) -> Any:
    """Shardmark's backend of such a model, whose tokenizer is in a folder."""
    from shardmark.config.backends.transformers import TransformersConfig
    from shardmark.engine.local import LocalBackend
    from shardmark.engine.transformers import model as engine
    from shardmark.records.model import Folder, ModelRecord, Staged

    settings = TransformersConfig.model_validate(
        {"path": str(folder), "num_gpus": int(device != "cpu"), "dtype": dtype, "max_seq_len": WINDOW}
    )
    record = ModelRecord(
        name="m",
        digest="0",
        file="m.yaml",
        source=Folder(path=str(folder), identity={}),
        tokenizer=None,
        dtype=dtype,
        settings=settings,
    )
    made = make_model(shape, device, dtype)
    made.config.save_pretrained(folder)
    with mock.patch.object(engine, "load_model", return_value=made):
        staged = Staged(model=str(folder), tokenizer=str(folder))
        return LocalBackend(record, engine.TransformersModel(record, staged, cuda_graphs=cuda_graphs))


def pairs_of(shape: Shape) -> list[Any]:
    return tasks.random_shots(shape.documents)


def shardmark(
    folder: Path, shape: Shape, device: str, dtype: str, what: str
) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """What warms our engine up, the work itself, and what tells how it was done."""
    from shardmark.records.request import ChoiceRequest, GenerateRequest

    ours = backend(folder, shape, device, dtype, cuda_graphs=what != "write step by step")
    if what == "score":
        asked: dict[str, Any] = {
            str(n): ChoiceRequest(pairs=[(c, t) for c, t in document]) for n, document in enumerate(pairs_of(shape))
        }
    else:
        asked = {
            str(n): GenerateRequest(prompt=prompt, max_new_tokens=shape.new_tokens, stop=[])
            for n, prompt in enumerate(generation.prompts(shape.prompts))
        }

    def answers(requests: dict[str, Any]) -> Any:
        found = {one.id: one for done in ours.answer(requests) for one in done}
        if what == "score":
            return [value for key in requests for value in found[key].logprobs]
        return sum(found[key].tokens for key in requests)

    return lambda: answers(dict(list(asked.items())[:4])), lambda: answers(asked), lambda: dict(ours.methods)


def lm_eval(
    folder: Path, shape: Shape, device: str, dtype: str, what: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same with lm-eval's hf backend."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    peer = HFLM(
        pretrained=make_model(shape, device, dtype),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        batch_size=64 if device != "cpu" else 1,
        max_length=WINDOW,
    )
    if what == "score":
        pairs = [tuple(pair) for document in pairs_of(shape) for pair in document]
        asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
        return (
            lambda: peer.loglikelihood(asked[:4], disable_tqdm=True),
            lambda: [float(value) for value, _ in peer.loglikelihood(asked, disable_tqdm=True)],
        )
    settings = {"until": [], "max_gen_toks": shape.new_tokens, "do_sample": False}
    prompts = generation.prompts(shape.prompts)
    written = [Instance("generate_until", {}, (prompt, dict(settings)), n) for n, prompt in enumerate(prompts)]
    count = peer.tokenizer

    def write(instances: list[Any]) -> int:
        texts = peer.generate_until(instances, disable_tqdm=True)
        return sum(len(count.encode(text, add_special_tokens=False)) for text in texts)

    return lambda: write(written[:4]), lambda: write(written)


def plain(
    folder: Path, shape: Shape, device: str, dtype: str, what: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """transformers' own `generate`, all rows in one batch, or `generate_batch`."""
    from transformers import AutoTokenizer, GenerationConfig

    model, tokenizer = make_model(shape, device, dtype), AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = generation.prompts(shape.prompts)
    config = GenerationConfig(max_new_tokens=shape.new_tokens, do_sample=False, pad_token_id=0, eos_token_id=0)

    def together(texts: list[str]) -> int:
        inputs = tokenizer(texts, return_tensors="pt", padding=True).to(device)
        rows = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=config)
        return int((rows[:, inputs["input_ids"].shape[1] :] != 0).sum())

    def joined(texts: list[str]) -> int:
        rows = model.generate_batch([tokenizer.encode(text) for text in texts], generation_config=config)
        return sum(len(row.generated_tokens) for row in rows.values())

    run = {"generate": together, "generate_batch": joined}[what]
    return lambda: run(prompts[:4]), lambda: run(prompts)


KINDS: dict[str, tuple[Callable[..., Any], str]] = {
    "Shardmark, scoring": (shardmark, "score"),
    "lm-eval, scoring": (lm_eval, "score"),
    "Shardmark, generation": (shardmark, "write"),
    "Shardmark, without CUDA graphs": (shardmark, "write step by step"),
    "lm-eval, generation": (lm_eval, "write"),
    "generate": (plain, "generate"),
    "generate_batch": (plain, "generate_batch"),
}


def measured(kind: str, folder: Path, shape: Shape, device: str, dtype: str) -> dict[str, Any]:
    """Seconds by the clock, peak memory on the device in MiB, and log-likelihoods, or how many tokens were written.

    Of our engine also the unusual methods that it used: CUDA graphs, unless it had a reason not to.
    """
    import torch

    make, what = KINDS[kind]
    warm, work, *told = make(folder, shape, device, dtype, what)
    warm()
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.synchronize()
    begin = time.monotonic()
    found = work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.monotonic() - begin
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
    methods = told[0]() if told else {}
    return {"seconds": seconds, "peak_mib": peak, "found": found, "methods": methods}


def multiplications(folder: Path, shape: Shape, scoring: bool, written: int = 0) -> float:
    """Multiplications and additions that the work takes with shared prefixes, without attention's own products."""
    from transformers import AutoTokenizer

    from shardmark.engine.prefixes import shared_prefixes
    from shardmark.engine.tokens import encode_pair, fit_window
    from shardmark.engine.tree import TokenTree

    size, tokenizer = shape.hidden // shape.heads, AutoTokenizer.from_pretrained(folder)
    attention = 2 * shape.hidden**2 + 2 * shape.hidden * shape.kv_heads * size
    body = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    head = shape.hidden * generation.LLAMA["vocab_size"]
    if scoring:
        pairs = [encode_pair(tokenizer, *pair) for document in pairs_of(shape) for pair in document]
        tree = TokenTree([fit_window(*pair, WINDOW) for pair in pairs])
        return 2.0 * (body * len(tree) + head * len(tree.output_places))
    rows = [tokenizer.encode(prompt) for prompt in generation.prompts(shape.prompts)]
    order = shared_prefixes(rows)
    parts = {part for _, prefix in order if prefix for part in prefix.chain()}
    read = sum(len(p.tokens) for p in parts) + sum(len(rows[n]) - (p.end if p else 0) for n, p in order)
    return 2.0 * (body * (read + written) + head * written)


def matrix_peak(device: str, dtype: str, size: int) -> float:
    """Multiplications and additions a second of the best of some large matrix products."""
    import torch

    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        begin = time.monotonic()
        for _ in range(4):
            one @ other
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, (time.monotonic() - begin) / 4)
    return 2.0 * size**3 / best


def beside_the_cpu(folder: Path, shape: Shape, device: str) -> dict[str, Any]:
    """How far float32 scores on the device are from the CPU's, and how many documents have another best choice."""
    import torch

    few = shape._replace(hidden=256, intermediate=512, layers=4, heads=4, kv_heads=2, documents=min(8, shape.documents))
    torch.manual_seed(0)
    weights = make_model(few, "cpu", "float32").state_dict()
    found: dict[str, list[float]] = {}
    for place in ("cpu", device):
        model = make_model(few, place, "float32")
        model.load_state_dict(weights)
        with mock.patch(f"{__name__}.make_model", lambda *_, model=model: model):
            found[place + str(len(found))] = shardmark(folder, few, place, "float32", "score")[1]()
    here, there = (torch.tensor(values).reshape(-1, 4) for values in found.values())
    return {
        "apart": float((here - there).abs().max()),
        "other_best": int((here.argmax(1) != there.argmax(1)).sum()),
        "documents": len(here),
    }


def gpu_tests(seconds: float) -> str:
    """The last line of the tests marked `gpu`."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "--no-header", "tests/unit"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not done in {seconds:.0f} s"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "; ".join([*failed, lines[-1]]) if lines else f"ended with status {done.returncode}"


def process(kind: str, folder: Path, name: str, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A measurement in a process of its own; what went wrong as `error`."""
    python = given.lm_eval if kind.startswith("lm-eval") else sys.executable
    if not python:
        return {"error": "SHARDMARK_LM_EVAL names no Python that has lm-eval"}
    out = folder / "result.json"
    out.unlink(missing_ok=True)
    command = [python, __file__, "--worker", kind, "--shape", name, "--folder", str(folder), "--device", given.device]
    try:
        done = subprocess.run(
            [*command, *(["--tiny"] if given.tiny else [])], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {seconds:.0f} s"}
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"it ended with status {done.returncode}"}
    return dict(json.loads(out.read_text()))


def main(given: argparse.Namespace) -> dict[str, Any]:
    """Every part that there is time for; prints a line for each, and writes the results after each."""
    end = time.monotonic() + given.seconds
    results: dict[str, Any] = {"device": given.device, "peak": None, "measured": {}}

    def left(name: str, seconds: float = given.seconds / PARTS) -> float:
        rest = min(seconds, end - time.monotonic())
        if rest < 5:
            print(f"{name}: left out, no time is left", flush=True)
        return rest if rest >= 5 else 0.0

    def told(name: str, result: Any) -> None:
        results["measured"][name] = result
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=2) + "\n")

    shapes = TINY if given.tiny else SHAPES
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generation.learned_tokenizer(folder)
        if given.device != "cpu":
            import torch

            results["device"] = torch.cuda.get_device_name()
        results["peak"] = peak = matrix_peak(given.device, "bfloat16", 128 if given.tiny else 8192)
        print(f"{results['device']}: bfloat16 matrix product, {peak / 1e12:.2f} TFLOP/s", flush=True)
        near = beside_the_cpu(folder, next(iter(shapes.values())), given.device)
        told("beside the CPU", near)
        print(f"float32 scores beside the CPU's: apart {near['apart']:.1e}, other best choices {near['other_best']}")
        for name, shape in shapes.items():
            for kind in KINDS:
                label = f"{name} {kind}"
                if not (seconds := left(label)):
                    continue
                result = process(kind, folder, name, given, seconds)
                if "error" not in result:
                    scoring = "scoring" in kind
                    written = 0 if scoring else result["found"]
                    needed = multiplications(folder, shape, scoring, written)
                    result |= {"share_of_peak": needed / result["seconds"] / peak}
                told(label, result)
                print(line(label, result), flush=True)
        if not given.tiny and (seconds := left("GPU tests", given.seconds)):
            told("tests", gpu_tests(seconds))
            print(f"GPU tests: {results['measured']['tests']}", flush=True)
    return results


def line(label: str, result: dict[str, Any]) -> str:
    """A measurement in words."""
    if "error" in result:
        return f"{label:33} {result['error']}"
    tokens = "" if isinstance(result["found"], list) else f"  {result['found'] / result['seconds']:8.0f} tokens/s"
    memory = f"  {result['peak_mib']:6.0f} MiB" if result["peak_mib"] else ""
    methods = "".join(f"  {part} with {method}" for part, method in result["methods"].items())
    return f"{label:33} {result['seconds']:7.2f} s  {result['share_of_peak']:6.1%} of the peak{tokens}{memory}{methods}"


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="where to compute")
    parser.add_argument("--tiny", action="store_true", help="small shapes, and not the GPU tests")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="what all parts may take together")
    parser.add_argument("--lm-eval", default=os.environ.get("SHARDMARK_LM_EVAL"), help="a Python that has lm-eval")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    parser.add_argument("--worker", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


if __name__ == "__main__":
    arguments = parse()
    if arguments.worker:
        size = (TINY if arguments.tiny else SHAPES)[arguments.shape]
        result = measured(arguments.worker, arguments.folder, size, arguments.device, "bfloat16")
        (arguments.folder / "result.json").write_text(json.dumps(result))
    else:
        main(arguments)
