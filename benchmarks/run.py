"""Measure Shardmark against the plain way of doing the same, in one process; write benchmarks/results/*.json.

Ratios of CPU seconds, medians of alternating runs: absolute times say more about the machine than about the code.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))


from shardmark.layout import REQUESTS  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402
from shardmark.plan.plan import Plan, make_plan  # noqa: E402
from shardmark.records.request import ChoiceRequest  # noqa: E402
from shardmark.store.requests import read_requests  # noqa: E402

DEMO: dict[str, Any] = {"models": ["demo_large"], "datasets": ["demo_comparison"]}


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process for some work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(ours: Callable[[], Any], plain: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians of both in alternating runs, after one run of each to warm up, and their ratio."""
    ours(), plain()
    times = [(cpu_seconds(ours), cpu_seconds(plain)) for _ in range(repeats)]
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    return {"shardmark": mine, "plain": other, "ratio": other / mine}


def plan(results: Path, **config: Any) -> Plan:
    """Plan a run of this repository's models and data sets."""
    return make_plan({"results": str(results), **config}, ROOT, "benchmarks/run.py", local=True)


def scoring(repeats: int) -> dict[str, float]:
    """Choices of demo_comparison: the token tree, against one forward a choice."""
    import torch

    from shardmark.engine.local import LocalBackend
    from shardmark.engine.tokens import encode_pair
    from shardmark.engine.transformers.model import TransformersModel
    from shardmark.records.model import Staged

    with tempfile.TemporaryDirectory() as folder:
        planned = plan(Path(folder), **DEMO)
        record = planned.models[0]
        files = REQUESTS.found(Path(folder), dataset="*", shard="*")
        requests = {key: request for file in files for key, request in read_requests(file).items()}
    path = str(ROOT / record.source.path)
    model = TransformersModel(record, Staged(model=path, tokenizer=path))
    backend = LocalBackend(record, model)

    @torch.inference_mode()
    def plain() -> None:
        for request in (request for request in requests.values() if isinstance(request, ChoiceRequest)):
            for pair in request.pairs:
                context, continuation = encode_pair(model.tokenizer, str(pair[0]), str(pair[1]))
                logits = model.model(torch.tensor([(context + continuation)[:-1]])).logits[0].float()
                logits.log_softmax(-1)[-len(continuation) :].gather(1, torch.tensor(continuation)[:, None]).sum()

    return compare(lambda: list(backend.answer(requests)), plain, repeats)


def planning(repeats: int, rows: int = 20_000) -> dict[str, float]:
    """A data set of so many rows: the plan of a run that is done, against the first plan."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "root/arc_challenge/test.jsonl")
        data.parent.mkdir(parents=True)
        choices = {"text": ["one", "two", "three", "four"], "label": ["A", "B", "C", "D"]}
        data.write_text(
            "".join(
                json.dumps({"id": str(n), "question": f"Question {n}", "choices": choices, "answerKey": "A"}) + "\n"
                for n in range(rows)
            )
        )
        config = DEMO | {"datasets": ["ARC_c_ppl"], "data_root": f"{folder}/root"}
        fresh = iter(range(repeats + 1))
        return compare(
            lambda: plan(Path(folder, "results-0"), **config),
            lambda: plan(Path(folder, f"results-{next(fresh)}"), **config),
            repeats,
        )


def main(arguments: argparse.Namespace) -> None:
    cases = {"scoring, tree": scoring, "planning, cached": planning}
    results = {name: case(arguments.repeats) for name, case in cases.items()}
    for name, result in results.items():
        print(f"{name:20} {result['shardmark']:8.2f} s   plain {result['plain']:8.2f} s   {result['ratio']:6.1f} x")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"hardware": hardware(), "cpu_seconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, alternating")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/run.json", help="file for the results")
    main(parser.parse_args())
