"""How long planning takes for large runs, with made-up models and predictions: wall seconds and peak memory.

Whole processes (`snakemake -n`), since that is what a user waits for; the plan alone beside them, so that the
difference is Snakemake's own share.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from shardmark.files import json_line, read_json, write_whole  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402
from shardmark.records.prediction import Scored  # noqa: E402
from shardmark.records.trailer import Made, Work  # noqa: E402
from shardmark.store.predictions import write_predictions  # noqa: E402
from shardmark.store.requests import ids_in  # noqa: E402

PARTS = ("Snakefile", "rules", "scripts", "envs", "profiles", "local")
DATASET = {
    "kind": "choice",
    "prompt": "Question: {{ question }}\nAnswer:",
    "choices": "choices",
    "target": "label",
    "metrics": ["accuracy"],
}
PLAN = """
import sys, yaml, pathlib
sys.path.insert(0, "scripts")
from shardmark.plan.plan import make_plan
make_plan(yaml.safe_load(pathlib.Path("config/config.yaml").read_text()), pathlib.Path.cwd(), "config", local=True)
"""
MADE = Made(
    inferred=0,
    reused=0,
    seconds=1.0,
    load_seconds=1.0,
    work=Work(read=1, written=0),
    started="",
    finished="",
    batch_size="auto",
    hardware={},
    packages={},
)


def make_project(folder: Path, models: int, datasets: int, rows: int) -> None:
    """A project of made-up models and data sets."""
    import numpy
    from safetensors.numpy import save

    for part in PARTS:
        if (ROOT / part).is_symlink():
            (folder / part).symlink_to(os.readlink(ROOT / part))
        elif (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / part, folder / part)
    for n in range(models):
        weights = folder / f"weights/m{n:03}"
        write_whole(weights / "config.json", "{}")
        write_whole(weights / "tokenizer.json", '{"version": "1.0"}')
        write_whole(weights / "model.safetensors", save({"w": numpy.full(8, n, numpy.float32)}))
        write_whole(folder / f"config/models/m{n:03}.yaml", json.dumps({"path": str(weights), "num_gpus": 0}))
    for n in range(datasets):
        source = folder / f"data/d{n:03}.jsonl"
        write_whole(source, "".join(json_line(row(n, number)) for number in range(rows)))
        write_whole(folder / f"config/datasets/d{n:03}.yaml", json.dumps(DATASET | {"source": {"file": str(source)}}))
    write_whole(folder / "config/config.yaml", json.dumps({"run": "scale", "models": ["*"], "datasets": ["*"]}))


def row(dataset: int, number: int) -> dict[str, Any]:
    """A question with four answers, about as long as one of ARC."""
    words = " ".join(f"word{(dataset * 7919 + number * 104729 + k * 31) % 9973}" for k in range(16))
    return {"question": f"{number}: {words}?", "choices": [f"choice {k} of {number}" for k in range(4)], "label": 0}


def finish(folder: Path) -> None:
    """Predictions for every shard of the plan, and files where scores would be."""
    made = read_json(next((folder / "results/plans/reports").glob("*.json")))
    for path in (folder / file for kind in ("scores", "samples", "timings") for file in made[kind]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    shards = {path: ids_in(path) for path in (folder / "results/requests").glob("*/*.jsonl")}
    for model in {Path(file).parent.name for file in made["scores"]}:
        for path, ids in shards.items():
            answers = [Scored(id=key, logprobs=[-1.0] * 4, tokens=[3] * 4, greedy=[False] * 4, cut=0) for key in ids]
            out = folder / "results/predictions" / model / path.parent.name / path.name
            write_predictions(out, answers, replace(MADE, inferred=len(ids)))


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Wall seconds and peak memory (GB) of a command, and its exit status must be 0."""
    begin = time.monotonic()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile its modules again
    with open(folder / "output.txt", "w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit((folder / "output.txt").read_text()[-3000:])
    return {"seconds": time.monotonic() - begin, "gigabytes": usage.ru_maxrss / 1e6}


def many_pairs(folder: Path, size: int) -> dict[str, dict[str, float]]:
    """`size` models on `size` data sets, each pair one shard: nothing changed, then one row edited."""
    snakemake = [sys.executable, "-m", "snakemake", "--profile", "local", "-n", "--quiet", "all"]
    plan = [sys.executable, "-c", PLAN]
    make_project(folder, size, size, 100)
    cases = {"first plan": timed(plan, folder)}
    finish(folder)
    cases["first plan of a finished run"] = timed(plan, folder)
    cases["nothing changed"] = timed(snakemake, folder)
    cases["nothing changed, the plan alone"] = timed(plan, folder)
    rows = (folder / "data/d000.jsonl").read_text().splitlines(keepends=True)
    rows[50] = json_line(row(size, 50))
    (folder / "data/d000.jsonl").write_text("".join(rows))
    cases["one row edited"] = timed(snakemake, folder)
    cases["one row edited, the plan alone"] = timed(plan, folder)
    return cases


def many_rows(folder: Path, rows: int) -> dict[str, dict[str, float]]:
    """One model on one data set of many rows, for the first time and then again."""
    make_project(folder, 1, 1, rows)
    plan = [sys.executable, "-c", PLAN]
    return {f"{rows:,} requests, first time": timed(plan, folder), f"{rows:,} requests, again": timed(plan, folder)}


def main(arguments: argparse.Namespace) -> None:
    cases: dict[str, dict[str, float]] = {}
    for case, size in ((many_pairs, arguments.pairs), (many_rows, arguments.rows)):
        with tempfile.TemporaryDirectory() as folder:
            cases |= case(Path(folder), size)
    for name, result in cases.items():
        print(f"{name:40} {result['seconds']:8.1f} s {result['gigabytes']:6.2f} GB")
    write_whole(arguments.out, json.dumps({"hardware": hardware(), "cases": cases}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100, help="models, and data sets")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large data set")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scale.json", help="file for the results")
    main(parser.parse_args())
