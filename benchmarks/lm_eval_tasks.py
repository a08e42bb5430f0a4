"""Which of lm-eval's tasks load, and why the others do not: a table for docs/lm_eval_tasks.md.

    python benchmarks/lm_eval_tasks.py LM_EVAL_PATH

A task loads if its files are read, its keys are known, its functions are there (their modules are imported, which
executes them) and its requests are of a kind that is answered. Whether its metrics are scored is counted beside it.
No row is read.
"""

import argparse
import contextlib
import io
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from shardmark.errors import UserError
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.index import Index, find, package_version, read_index, tasks_folder
from shardmark.tasks.lm_eval.judging import missing
from shardmark.tasks.lm_eval.requests import KINDS
from shardmark.tasks.lm_eval.settings import TaskSettings, task_settings


def load(index: Index, name: str, code: Code) -> tuple[TaskSettings | None, str]:
    """A task's settings, or why it does not load."""
    try:
        settings = task_settings(find(index, name, "")[0])  # type: ignore[arg-type]
        code.check(dict.fromkeys([*settings.asking(), *settings.judging()]))
    except UserError as error:
        return None, error.problems[0].what
    return settings, ""


def kind_of(reason: str, name: str) -> str:
    """A reason without the task's name and the function's, so that alike ones are counted together."""
    short = re.sub(r"^\S+ (imports|cannot be imported)", r"its Python \1", reason)
    short = short.replace(f"{name}: ", "").replace(name, "it")
    return re.sub(r"0x[0-9a-f]+|/\S+/", "", short)[:160]


def survey(index: Index) -> tuple[Counter[str], dict[str, list[str]], dict[str, list[str]]]:
    """How many tasks load, by kind of request; the others by reason; and what scoring lacks for those that load."""
    code = Code(index.root, True)
    loaded: Counter[str] = Counter()
    refused: dict[str, list[str]] = defaultdict(list)
    unscored: dict[str, list[str]] = defaultdict(list)
    for name in sorted(index.tasks):
        with contextlib.redirect_stdout(io.StringIO()):
            settings, reason = load(index, name, code)
        if settings is None:
            refused[kind_of(reason, name)].append(name)
            continue
        loaded[KINDS[settings.output_type]] += 1
        for what in dict.fromkeys(problem.what for problem in missing(settings, "")):
            unscored[kind_of(what, name)].append(name)
            break
    return loaded, refused, unscored


def table(index: Index) -> str:
    """The survey as Markdown."""
    loaded, refused, unscored = survey(index)
    total, good = len(index.tasks), sum(loaded.values())
    lines = [
        f"Of the {total:,} tasks of lm-eval {package_version(index.root)} (and {len(index.groups):,} groups,"
        f" {len(index.tags):,} tags), {good:,} load: {100 * good / total:.1f} %.",
        "",
        "| kind of request | tasks that load |",
        "|---|---|",
        *(f"| {kind} | {count:,} |" for kind, count in loaded.most_common()),
        "",
        "### Those that do not load",
        "",
        "| why | tasks | for instance |",
        "|---|---|---|",
        *_rows(refused),
        "",
        "### What scoring lacks",
        "",
        f"{good - sum(map(len, unscored.values())):,} of the tasks that load are scored, too. The others are refused"
        " when a run is planned:",
        "",
        "| what | tasks | for instance |",
        "|---|---|---|",
        *_rows(unscored),
    ]
    return "\n".join(lines) + "\n"


def _rows(found: dict[str, list[str]]) -> list[str]:
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"| {reason.replace('|', '/')} | {len(names):,} | {names[0]} |" for reason, names in ordered]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="an environment that has lm-eval")
    arguments = parser.parse_args()
    print(table(read_index(tasks_folder(arguments.path, "path"))), end="")
