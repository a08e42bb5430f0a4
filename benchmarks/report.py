"""Reports of many pairs: CPU seconds, peak memory, size; one pair changed; and how fast a browser shows them.

Results are made up: half of the data sets have choices, half have texts, and models share rows and prompts, as they do.
The case of 80,000 samples is also given to the version that had pages of a hundred samples (commit e36952c).
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT / "scripts")

from shardmark.files import read_object, write_whole  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402

FORMER = "e36952c"
TEXT = "the of river model answer number seven large from city order paper light into glass quiet"
WORDS = TEXT.split()


class Case(NamedTuple):
    """How many models, data sets and rows, and what is aimed at: CPU seconds, bytes, bytes of memory."""

    models: int
    datasets: int
    rows: int
    seconds: float
    size: float
    memory: float


CASES = {
    "tiny": Case(3, 4, 50, 8, 25e6, 1e9),
    "80,000 samples": Case(20, 20, 200, 8, 25e6, 1e9),
    "1,000,000 samples": Case(50, 20, 1000, 90, 300e6, 1e9),
}


def write_results(root: Path, case: Case) -> dict[str, list[str]]:
    """Write score and sample files, and return their paths."""
    found: dict[str, list[str]] = {"scores": [], "samples": []}
    for place in range(case.datasets):
        dataset = f"dataset-{place:02}"
        rows = list(_rows(dataset, case.rows, choices=place % 2 == 0))
        for number in range(case.models):
            model = f"model-{number:02}"
            name = f"{model}@{number:016x}/{dataset}@{place:016x}"
            samples = root / "samples" / f"{name}.jsonl"
            scores = root / "scores" / f"{name}.json"
            for path in (samples, scores):
                path.parent.mkdir(parents=True, exist_ok=True)
            chosen = random.Random(f"{model} {dataset}")
            lines = [_answered(chosen, row, 0.4 + 0.5 * number / case.models) for row in rows]
            samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
            scores.write_text(json.dumps(_scores(model, number, dataset, place, lines)))
            found["scores"].append(str(scores))
            found["samples"].append(str(samples))
    return found


def _text(chosen: random.Random, words: int) -> str:
    return " ".join(chosen.choice(WORDS) + str(chosen.randrange(100)) * (chosen.random() < 0.2) for _ in range(words))


def _rows(dataset: str, rows: int, choices: bool) -> Iterator[dict[str, Any]]:
    chosen = random.Random(dataset)
    for number in range(rows):
        question = _text(chosen, 25)
        row: dict[str, Any] = {"question": question, "id": number}
        options = [_text(chosen, 4) for _ in range(4)]
        row |= {"options": options} if choices else {"answer": str(chosen.randrange(1000))}
        yield {
            "sample": f"{dataset}-{number}", "request": f"{chosen.getrandbits(256):064x}",
            "prompt": f"Question: {question}\nAnswer:", **({"choices": options} if choices else {}),
            "target": chosen.randrange(4) if choices else row["answer"], "row": row, "group": f"group {number % 7}",
        }  # fmt: skip


def _answered(chosen: random.Random, row: dict[str, Any], skill: float) -> dict[str, Any]:
    right = chosen.random() < skill
    if "choices" in row:
        answer = row["target"] if right else (row["target"] + 1) % 4
        logprobs = [-chosen.uniform(10, 30) + 15 * (place == answer) for place in range(4)]
        made = {"output": row["choices"][answer], "logprobs": logprobs, "tokens": [5, 6, 5, 7]}
    else:
        answer = row["target"] if right else str(chosen.randrange(1000))
        made = {"output": f" {_text(chosen, 12)} so the answer is {answer}.", "end": "stop"}
    keys = ("sample", "request", "prompt", "choices")
    first = {key: row[key] for key in keys if key in row}
    last = {"target": row["target"], "scores": {"accuracy": float(right)}, "truncated": 0, "row": row["row"]}
    return first | made | {"answer": answer} | last | {"group": row["group"]}


def _scores(model: str, number: int, dataset: str, place: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    values = [line["scores"]["accuracy"] for line in lines]
    mean = statistics.fmean(values)
    stderr = statistics.stdev(values) / len(values) ** 0.5
    metric = {"value": mean, "stderr": stderr, "ci95": [mean - 1.96 * stderr, mean + 1.96 * stderr], "n": len(values)}
    kind = "choice" if "choices" in lines[0] else "generate"
    about = {"description": "", "source": f"data/{dataset}.jsonl", "revision": None}
    return {
        "protocol": 1,
        "model": {"name": model, "digest": f"{number:016x}", "dtype": "float32", "num_gpus": 1, **about},
        "dataset": {"name": dataset, "digest": f"{place:016x}", "kind": kind, "chance": None, **about},
        "primary": "accuracy", "metrics": {"accuracy": metric | {"percent": True, "higher_is_better": True}},
        "counts": {"samples": len(lines), "requests": len(lines), "truncated": 0, "unanswered": 0, "near_misses": 0},
        "provenance": {
            "shardmark": "1", "git_commit": None, "python": "3.11", "packages": {"torch": "2"}, "hardware": {},
            "config": {"model": {"name": model}, "dataset": {"name": dataset}}, "rows": {"file": f"{dataset}.jsonl"},
        },
    }  # fmt: skip


def built(scripts: Path, inputs: Path, out: Path) -> dict[str, float]:
    """Run report.py of a version, and measure it and the folder that it has made."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(scripts / "report.py"), "--inputs", str(inputs), "--out", str(out)]
    process = subprocess.Popen(command, cwd=scripts.parent, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return {
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory": used.ru_maxrss * 1024,
        "size": sum(files),
        "files": len(files),
        "index": (out / "index.html").stat().st_size,
    }


def shown(report: Path) -> dict[str, float]:
    """Milliseconds that Chromium takes for the first paint, a filter over all samples, and a sample that is opened."""
    from playwright.sync_api import sync_playwright

    sys.path.append(str(ROOT / "tests"))
    from requirements_check import need

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((report / "index.html").as_uri())
        while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
            page.wait_for_timeout(10)  # the page's policy forbids the functions that Playwright would wait for
        first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        page.goto((report / "samples.html").as_uri())
        page.locator("body[data-ready]").wait_for(timeout=120_000)
        ready = float(page.locator("body").get_attribute("data-ready") or "nan")
        filtered, opened = [], []
        for verdict in ("wrong", "right", "wrong", "right", ""):
            page.locator("#verdict").select_option(verdict)
            filtered.append(float(page.locator("body").get_attribute("data-filtered") or "nan"))
        for _ in range(5):
            page.locator("#list").press("PageDown")
            page.locator("body[data-opened]").wait_for()
            opened.append(float(page.locator("body").get_attribute("data-opened") or "nan"))
            page.evaluate("delete document.body.dataset.opened")
        browser.close()
    return {"paint": first, "explorer": ready, "filter": statistics.median(filtered), "open": statistics.median(opened)}


def former(folder: Path) -> Path:
    """The scripts of the version that is compared with."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", FORMER, "scripts"], capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "scripts"


def run_case(name: str, case: Case, root: Path, compare: bool, browser: bool) -> dict[str, Any]:
    """Measure a case, print it and return it."""
    begin = time.monotonic()
    files = write_results(root, case)
    print(f"{name}: made up in {time.monotonic() - begin:.0f} s", flush=True)
    inputs = root / "plans/reports" / f"bench@{0:016x}.json"
    inputs.parent.mkdir(parents=True)
    inputs.write_text(json.dumps({"run": "bench", **files, "facts": {}}))
    found: dict[str, Any] = {"new": built(ROOT / "scripts", inputs, root / "reports/new")}
    with open(files["samples"][1]) as lines:
        text = lines.read().replace("answer is", "answer was").replace("large", "small")
    Path(files["samples"][1]).write_text(text)
    found["one pair changed"] = built(ROOT / "scripts", inputs, root / "reports/changed")
    if compare:
        found["former"] = built(former(root / "former"), inputs, root / "reports/former")
        found["ratio"] = {key: found["former"][key] / found["new"][key] for key in ("cpu", "size", "index")}
    if browser:
        found["browser"] = shown(root / "reports/new")
    for what, numbers in found.items():
        print(f"  {what:17}", ", ".join(f"{key} {value:,.4g}" for key, value in numbers.items()), flush=True)
    print(f"  aims: {case.seconds} CPU s, {case.size / 1e6:.0f} MB, {case.memory / 1e9:.0f} GB of memory", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append", help="by default, all but tiny")
    parser.add_argument("--no-browser", action="store_true", help="leave Chromium out")
    arguments = parser.parse_args()
    path = ROOT / "benchmarks/results/report.json"
    found = read_object(path).get("cases", {})  # those of other cases stay
    for name in arguments.case or list(CASES)[1:]:
        with tempfile.TemporaryDirectory() as folder:
            compare = name != "1,000,000 samples"
            found[name] = run_case(name, CASES[name], Path(folder), compare, not arguments.no_browser)
    write_whole(path, json.dumps({"machine": hardware(), "cases": found}, indent=2))


if __name__ == "__main__":
    main()
