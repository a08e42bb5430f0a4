"""A warm worker against a process for each shard: many small shards of one model on the CPU, whole jobs.

A job is what the workflow runs for a shard, scripts/infer.py. Its overhead is what it takes beyond inference itself.
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

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from shardmark.engine.stage import stage_model  # noqa: E402
from shardmark.files import pretty_json, sealed, write_whole  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402
from shardmark.plan.plan import Plan, make_plan  # noqa: E402
from shardmark.records.base import to_json  # noqa: E402
from shardmark.store.predictions import read_trailer  # noqa: E402


def job(plan: Plan, staged: Path, shard: str, out: Path, warm: bool) -> dict[str, float]:
    """Wall seconds of a shard's job and of inference in it, and processor seconds of its process."""
    model, dataset = plan.models[0], plan.datasets[0]
    name = f"{model.full_name}"
    command = [sys.executable, str(ROOT / "scripts/infer.py"), "--threads", str(os.cpu_count())]
    command += ["--model", str(plan.results / "models" / f"{name}.json"), "--staged", str(staged)]
    command += ["--requests", str(plan.results / "requests" / dataset.name / f"{shard}.jsonl")]
    target = out / name / dataset.name / f"{shard}.jsonl"
    command += ["--out", str(target), "--log", str(out / "logs/infer/a/b" / f"{shard}.log")]
    begin, used = time.monotonic(), _children_cpu()
    subprocess.run([*command, "--owner", str(os.getpid())] if warm else command, check=True)
    total, cpu = time.monotonic() - begin, _children_cpu() - used
    trailer = read_trailer(target)
    assert trailer, target
    return {"total": total, "inference": trailer.seconds, "cpu": cpu}


def _children_cpu() -> float:
    """Processor seconds of the processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _worker_cpu() -> float:
    """Processor seconds of the warm workers, which nobody waits for."""
    words = ["--owner", str(os.getpid())]
    workers = [process for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [])[-2:] == words]
    return sum(sum(process.cpu_times()[:2]) for process in workers)


def main(arguments: argparse.Namespace) -> None:
    config: dict[str, Any] = {
        "models": [arguments.model],
        "datasets": ["demo_comparison"],
        "limit": 2 * arguments.shards,
        "max_shard_size": 2,
        "num_gpus": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(config | {"results": f"{folder}/results"}, ROOT, "benchmarks/workers.py", local=True)
        shards = [shard.name for shard in plan.pairs[0].missing]
        staged = Path(folder, "staged.json")
        write_whole(staged, pretty_json(sealed(to_json(stage_model(plan.models[0], ROOT / "results/staged/weights")))))
        few = shards[:: max(1, len(shards) // arguments.cold)][: arguments.cold]
        warm, cold = [], []
        for shard in shards:  # by turns, because other work on the machine comes and goes
            warm.append(job(plan, staged, shard, Path(folder, "warm/predictions"), True))
            if shard in few:
                cold.append(job(plan, staged, shard, Path(folder, "cold/predictions"), False))
        warm_cpu = sum(one["cpu"] for one in warm) + _worker_cpu()
    each, each_cpu = (statistics.mean(one[what] for one in cold) for what in ("total", "cpu"))
    result = {
        "model": arguments.model,
        "shards": len(shards),
        "warm: all shards, s": sum(one["total"] for one in warm),
        "warm: overhead of a shard, median, s": statistics.median(one["total"] - one["inference"] for one in warm[1:]),
        "warm: overhead of the first shard, s": warm[0]["total"] - warm[0]["inference"],
        "cold: shards measured": len(cold),
        "cold: a shard, mean, s": each,
        "cold: all shards, extrapolated, s": each * len(shards),
        "ratio": each * len(shards) / sum(one["total"] for one in warm),
        "warm: all shards, processor, s": warm_cpu,
        "cold: a shard, processor, mean, s": each_cpu,
        "ratio of processor time": each_cpu * len(shards) / warm_cpu,
    }
    for name, value in result.items():
        print(f"{name:40} {value if isinstance(value, str | int) else round(value, 2)}")
    write_whole(arguments.out, json.dumps({"hardware": hardware(), **result}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="demo_large", help="a model of config/models; gemma3_270m needs `make gemma`"
    )
    parser.add_argument("--shards", type=int, default=100, help="about so many shards")
    parser.add_argument("--cold", type=int, default=10, help="so many of them in processes of their own")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/workers.json", help="file for the results"
    )
    main(parser.parse_args())
