"""Our requests beside lm-eval's, byte by byte, for all of its tasks whose rows are in a data folder.

    SHARDMARK_LM_EVAL=.../bin/python SHARDMARK_DATA_ROOT=DIR python benchmarks/lm_eval_requests.py [--scores] [TASK ...]

Prints a table for docs/lm_eval_tasks.md.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from lm_eval_compare import compare, compare_scores, local_tasks, rows_of  # noqa: E402
from shardmark.tasks.lm_eval.index import Task, read_index, tasks_folder  # noqa: E402

Verdicts = dict[tuple[str, int | None], str]
StandIns = set[tuple[str, str | None, str]]


def table(tasks: list[Task], verdicts: Verdicts, stand_ins: StandIns, documents: int) -> str:
    """A line for each data set: how many tasks, how often they were compared, and how it went."""
    by_hub: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        by_hub[task.config["dataset_path"]].append(task)
    missing = {hub: sorted({split for h, _, split in stand_ins if h == hub}) for hub, _, _ in stand_ins}
    lines = [
        "| data set | tasks | comparisons | identical | refused by both | else | splits stood in for |",
        "|---|---|---|---|---|---|---|",
    ]
    for hub, found in sorted(by_hub.items(), key=lambda item: item[0].lower()):
        names = {task.name for task in found}
        words = [verdict for (name, _), verdict in verdicts.items() if name in names]
        same = sum(word == "identical" for word in words)
        both = sum(word.startswith("refused by both") for word in words)
        counts = [len(found), len(words), same, both, len(words) - same - both]
        lines.append(f"| {hub} | {' | '.join(map(str, counts))} | {', '.join(missing.get(hub, [])) or '-'} |")
    same = sum(verdict == "identical" for verdict in verdicts.values())
    head = f"{len(tasks)} tasks, {len(verdicts)} comparisons of {documents} documents: {same} are identical."
    return "\n".join([head, "", *lines, "", *_others(verdicts)]) + "\n"


def _others(verdicts: Verdicts) -> list[str]:
    """What is not identical, alike ones together."""
    alike: dict[str, list[str]] = defaultdict(list)
    for (name, shots), verdict in verdicts.items():
        if verdict != "identical":
            alike[verdict].append(f"{name} ({'its own' if shots is None else shots} shots)")
    rows = [f"| {verdict.replace('|', '/')} | {len(names)} | {names[0]} |" for verdict, names in sorted(alike.items())]
    return ["| not identical | comparisons | for instance |", "|---|---|---|", *rows] if rows else []


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=["*"], help="globs of tasks; all")
    arguments.add_argument("--documents", type=int, default=50, help="so many of each task; 50")
    arguments.add_argument("--scores", action="store_true", help="compare scores of made-up responses, not requests")
    given = arguments.parse_args()
    index = read_index(tasks_folder(Path(os.environ["SHARDMARK_LM_EVAL"]), "SHARDMARK_LM_EVAL"))
    tasks, data = local_tasks(index, Path(os.environ["SHARDMARK_DATA_ROOT"]))
    tasks = [task for task in tasks if any(fnmatch(task.name, name) for name in given.names)]
    verdicts: Verdicts
    with tempfile.TemporaryDirectory() as folder:
        if given.scores:
            scores = compare_scores(tasks, index, data, given.documents, Path(folder))
            verdicts = {(name, None): verdict for name, verdict in scores.items()}
        else:
            verdicts = compare(tasks, index, data, given.documents, Path(folder))
    print(table(tasks, verdicts, rows_of(tasks, data)[1], given.documents), end="")


if __name__ == "__main__":
    main()
