"""Code that decides scores changes together with its number, or is said to give the same values.

Metrics and filters have their number in their own files, what they share in config/protocols.py. protocols.json has
the number of each part and a digest of its code, without comments, docstrings and layout. After a
change that gives the same answers other scores, raise the number; then, as after one that does not, `make protocols`
writes the file anew. In a commit it says which of the two it was.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shardmark.config import protocols
from shardmark.filters import FILTERS
from shardmark.metrics import METRICS

LIBRARY = Path(protocols.__file__).resolve().parents[1]
PINNED = Path(__file__).with_name("protocols.json")
SCORING = [
    *("scoring/score.py", "scoring/sample_scores.py", "scoring/evaluate_module.py", "texts/thoughts.py"),
    *("metrics/base.py", "filters/base.py", "filters/chain.py"),
]
LM_EVAL = ["tasks/lm_eval/code.py", "tasks/lm_eval/judging.py"]
ROOMS = ("filters", "metrics", "scoring", "texts", "untrusted")
BOUNDS = ("untrusted/limits", "untrusted/watcher", "untrusted/templates", "untrusted/printed")
"What renders prompts, too, or only ends what takes too long."
REPEATS = "metrics/repeats.py"
BESIDE = {
    "math_equivalence": ["metrics/math_process.py"],
    "pass_at_k": [
        "untrusted/sandbox.py",
        *(f"untrusted/inside/{side}.py" for side in ("program", "tester", "together")),
    ],
}
"What metrics run in processes of their own."


def parts() -> dict[str, tuple[Any, list[str], set[str]]]:
    """Each part: its number or numbers, the files it begins with, and those that are another part's."""
    metrics = {f"metrics/{name}.py" for name in METRICS} | {"metrics/__init__.py"}
    filters = {f"filters/{name}.py" for name in FILTERS} | {"filters/__init__.py"}
    lm_eval = {str(file.relative_to(LIBRARY)) for file in LIBRARY.glob("scoring/lm_eval/*.py")}
    scoring = closure(SCORING, metrics | filters | lm_eval | {REPEATS})
    found: dict[str, tuple[Any, list[str], set[str]]] = {
        "scoring": (protocols.SCORING, SCORING, metrics | filters | lm_eval | {REPEATS}),
        "repeats": (protocols.REPEATS, [REPEATS], scoring),
        "costs": (protocols.COSTS, ["plan/cost.py"], set()),
        "lm_eval": (protocols.LM_EVAL, [*sorted(lm_eval), *LM_EVAL], metrics | filters | scoring),
    }
    shared = scoring - {"texts/thoughts.py"}
    for name, kind in METRICS.items():
        found[f"metric {name}"] = (kind.protocol, [f"metrics/{name}.py", *BESIDE.get(name, [])], shared)
    for name, each in FILTERS.items():
        found[f"filter {name}"] = (each.protocol, [f"filters/{name}.py"], shared)
    return found


def closure(files: Iterable[str], others: Iterable[str] = ()) -> set[str]:
    """Files and what they import of what decides scores, without `others`."""
    found, waiting = set[str](), list(files)
    while waiting:
        file = waiting.pop()
        if file in found or file in others:
            continue
        found.add(file)
        for node in ast.walk(ast.parse((LIBRARY / file).read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                path = name.removeprefix("shardmark.").replace(".", "/")
                if path.startswith(ROOMS) and not path.startswith(BOUNDS):
                    waiting += [p for p in (f"{path}.py", f"{path}/__init__.py") if (LIBRARY / p).is_file()]
    return found


def without_comments(source: str) -> str:
    """Python without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
    return ast.unparse(tree)


@cache
def now() -> dict[str, dict[str, Any]]:
    """What protocols.json has to say."""
    said = {}
    for name, (number, files, others) in sorted(parts().items()):
        texts = [without_comments((LIBRARY / file).read_text()) for file in sorted(closure(files, others))]
        said[name] = {"number": number, "code": hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]}
    return said


def test_several_answers_have_a_number_where_they_are_judged() -> None:
    assert "repeats" not in protocols.scoring_protocols(["f1"], [])
    assert protocols.scoring_protocols(["f1"], [], repeats=True)["repeats"] == protocols.REPEATS


def test_every_metric_and_filter_has_a_number() -> None:
    assert all(kind.protocol for kind in [*METRICS.values(), *FILTERS.values()])


@pytest.mark.parametrize("part", sorted(parts()))
def test_code_changes_with_its_number(part: str) -> None:
    assert json.loads(PINNED.read_text()).get(part) == now()[part], __doc__


def test_a_number_is_in_the_digests_of_the_scores_that_it_decides_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def numbers(metric: str) -> dict[str, int]:
        return protocols.scoring_protocols([metric, metric], ["cut"])

    f1, bleu = numbers("f1"), numbers("bleu")
    assert f1 == {"scoring": protocols.SCORING, "metric f1": METRICS["f1"].protocol, "filter cut": 1}
    monkeypatch.setattr(METRICS["f1"], "protocol", 9)
    assert numbers("f1") == f1 | {"metric f1": 9}
    monkeypatch.setattr(FILTERS["cut"], "protocol", 3)
    assert numbers("f1") == f1 | {"metric f1": 9, "filter cut": 3}
    monkeypatch.undo()
    assert numbers("bleu") == bleu


if __name__ == "__main__":
    PINNED.write_text(json.dumps(now(), indent=2) + "\n")
