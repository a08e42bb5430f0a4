"""A whole run of Shardmark against one of OpenCompass: same model, rows, prompts and scoring (perplexity), on the CPU.

Both from the command line to the accuracy, by turns: CPU seconds of all processes, wall, and the peak memory of the
largest. Needs the python of an environment with OpenCompass 0.5.4, named by --opencompass or SHARDMARK_OPENCOMPASS.
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

from scoring import MODELS  # noqa: E402
from tasks import LEXICON  # noqa: E402

from shardmark.files import pretty_json, write_whole  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402

PARTS = ("Snakefile", "rules", "scripts", "envs", "profiles", "local")
WINDOW = 2048
DATASET = {
    "kind": "choice",
    "prompt": "Question: {{ question }}\nA. {{ A }}\nB. {{ B }}\nC. {{ C }}\nD. {{ D }}\nAnswer: {{ choice }}",
    "choices": ["A", "B", "C", "D"],
    "target": "'ABCD'.index(answer)",
    "scoring": "perplexity",
    "metrics": ["accuracy"],
}
"What OpenCompass makes of a custom file of multiple-choice rows with `--custom-dataset-infer-method ppl`."
PR_SET_CHILD_SUBREAPER = 36


def mcq_rows(count: int) -> list[dict[str, str]]:
    """Made-up questions in OpenCompass's format of custom data."""
    draw = random.Random(5)

    def words(least: int, most: int) -> str:
        return " ".join(draw.choice(LEXICON) for _ in range(draw.randint(least, most)))

    options = [{letter: words(3, 12) for letter in "ABCD"} for _ in range(count)]
    return [{"question": f"{words(15, 45)}?", **option, "answer": draw.choice("ABCD")} for option in options]


def measured(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """What a command and all that it starts take, also those that outlive their parents."""
    begin, cpu, peak, status = time.monotonic(), 0.0, 0, 0
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        wall = 0.0
        while True:
            try:
                pid, ended, usage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
            if pid == process.pid:
                wall, status = time.monotonic() - begin, ended
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    return {"cpu": cpu, "wall": wall, "peak_mib": peak / 1024}


def run_shardmark(model: Path, rows: Path, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """A new project, so that nothing is there to be reused."""
    for part in PARTS:
        source = ROOT / part
        if source.is_symlink():
            (folder / part).symlink_to(os.readlink(source))
        else:
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / part)
    write_whole(folder / "config/datasets/mcq.yaml", json.dumps({"source": {"file": str(rows)}, **DATASET}))
    settings = {"path": str(model), "num_gpus": 0, "dtype": "float32", "max_seq_len": WINDOW}
    write_whole(folder / "config/models/model.yaml", json.dumps(settings))
    run = {"run": "whole", "models": ["model"], "datasets": ["mcq"]}
    write_whole(folder / "config/config.yaml", json.dumps(run))
    taken = measured([sys.executable, "-m", "snakemake", "--profile", "local"], folder, environment)
    (scores,) = folder.glob("results/scores/*/*.json")
    return taken | {"accuracy": 100 * json.loads(scores.read_text())["metrics"]["accuracy"]["value"]}


def older_tokenizer(model: Path, folder: Path) -> Path:
    """The tokenizer in words of transformers 4, which OpenCompass needs: it does not know the class that 5 names."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(model / name, folder / name)
    config = json.loads((model / "tokenizer_config.json").read_text())
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_whole(folder / "tokenizer_config.json", pretty_json(config))
    return folder


def run_opencompass(model: Path, rows: Path, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Its command for custom data, with the python that the environment names, one row at a time."""
    command = [environment["SHARDMARK_OPENCOMPASS"], "-m", "opencompass.cli.main", "--debug"]
    command += ["--hf-type", "base", "--hf-path", str(model), "--hf-num-gpus", "0", "--batch-size", "1"]
    command += ["--custom-dataset-path", str(rows), "--custom-dataset-data-type", "mcq"]
    command += ["--custom-dataset-infer-method", "ppl", "--max-seq-len", str(WINDOW)]
    command += ["--tokenizer-path", str(older_tokenizer(model, folder / "tokenizer"))]
    command += ["--model-kwargs", "torch_dtype=torch.float32", "-w", str(folder / "out")]
    taken = measured(command, folder, environment)
    (result,) = folder.glob("out/*/results/*/*.json")
    return taken | {"accuracy": json.loads(result.read_text())["accuracy"]}


RUNS = {"shardmark": run_shardmark, "opencompass": run_opencompass}


def compare(model: Path, arguments: argparse.Namespace, here: Path) -> dict[str, Any]:
    """Medians of alternating runs."""
    rows = here / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in mcq_rows(arguments.rows)))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"SHARDMARK_OPENCOMPASS": arguments.opencompass}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(arguments.threads)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for number in range(arguments.repeats):
        for name, found in runs.items():
            folder = here / f"{name}{number}"
            folder.mkdir()
            found.append(RUNS[name](model, rows, folder, environment))
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }


def main(arguments: argparse.Namespace) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # a warm worker outlives the job that started it
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name in [str(arguments.model)] if arguments.model else arguments.models:
            model = arguments.model.resolve() if arguments.model else MODELS[name](work)
            with tempfile.TemporaryDirectory() as here:
                result = compare(model, arguments, Path(here))
            results.append({"model": name, "rows": arguments.rows, **result})
            for who, one in result.items():
                figures = f"{one['cpu']:8.1f} CPU s {one['wall']:8.1f} s {one['peak_mib']:6.0f} MiB"
                print(f"{name:10} {who:12} {figures}  accuracy {one['accuracy']:.1f}", flush=True)
    facts = {"hardware": hardware(), "repeats": arguments.repeats, "threads": arguments.threads}
    write_whole(arguments.out, pretty_json(facts | {"results": results}))


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--opencompass", default=os.environ.get("SHARDMARK_OPENCOMPASS"), help="a python that has OpenCompass"
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["llama"])
    parser.add_argument("--model", type=Path, help="folder of another model instead")
    parser.add_argument("--rows", type=int, default=64, help="questions, of four choices each")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder to keep the models in")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/opencompass.json", help="file for the results"
    )
    arguments = parser.parse_args(given)
    if not arguments.opencompass:
        parser.error(
            "--opencompass, or the variable SHARDMARK_OPENCOMPASS, must name a python that has opencompass==0.5.4"
        )
    return arguments


if __name__ == "__main__":
    main(parse())
