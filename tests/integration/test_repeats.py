"""Several answers to each question, from the plan to the report."""

import csv
import json
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml

from quick_engine import use_quick_engine
from unit.report.fake_results import read_index, read_texts
from workflow import Project

pytestmark = pytest.mark.slow

ROWS = [{"q": f"Is {n} odd?", "odd": n % 2, "options": ["yes", "no", str(n)], "right": 1 - n % 2} for n in range(12)]
REPEATS = ["avg", {"name": "pass", "k": 3}, "maj"]
SETTINGS: dict[str, Any] = {
    "source": {"file": "data/rows.jsonl"},
    "kind": "generate",
    "prompt": "{{ q }}",
    "target": "odd",
    "generation": {"max_new_tokens": 3, "temperature": 1.0, "samples": 6},
    "filters": [{"name": "template", "template": "{{ answer | int % 2 }}"}],
    "metrics": [{"name": "exact_match", "repeats": repeats} for repeats in REPEATS],
}
CIRCULAR: dict[str, Any] = {
    "source": {"file": "data/rows.jsonl"},
    "kind": "choice",
    "prompt": "{{ q }}\nA. {{ options[0] }}\nB. {{ options[1] }}\nC. {{ options[2] }}\nAnswer:",
    "choices": ["A", "B", "C"],
    "target": "right",
    "circular": "options",
    "metrics": ["accuracy"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run."""
    project = Project.create(
        tmp_path_factory.mktemp("repeats") / "project", run="test", models=["demo_small"], datasets=["t_odd", "t_turn"]
    )
    use_quick_engine(project)
    (project.folder / "data").mkdir()
    (project.folder / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (project.folder / "config/datasets/t_turn.yaml").write_text(yaml.safe_dump(CIRCULAR))
    write(project, SETTINGS)
    project.run()
    return project


def write(project: Project, settings: dict[str, Any]) -> None:
    (project.folder / "config/datasets/t_odd.yaml").write_text(yaml.safe_dump(settings))


def right(project: Project) -> list[list[bool]]:
    """Which of the answers to each question are right, from the outputs alone."""
    samples = [sample for (_, name, _), sample in project.samples().items() if name == "t_odd"]
    return [[int(text) % 2 == sample["row"]["odd"] for text in sample["outputs"]] for sample in samples]


def leaderboard(project: Project, dataset: str) -> dict[str, tuple[float, float, int]]:
    """By metric, the value, the standard error and the number of samples."""
    rows = csv.DictReader((project.results / "reports/test/leaderboard.csv").open())
    return {
        row["metric"]: (float(row["value"]), float(row["stderr"]), int(row["n"]))
        for row in rows
        if row["dataset"] == dataset
    }


def test_scores_are_of_questions_and_named_by_what_became_of_the_answers(project: Project) -> None:
    verdicts = right(project)
    assert [len(each) for each in verdicts] == [6] * 12
    means = [fmean(each) for each in verdicts]
    passes = [fmean(any(choice) for choice in combinations(each, 3)) for each in verdicts]
    found = leaderboard(project, "t_odd")
    assert list(found) == ["exact_match avg@6", "exact_match pass@3", "exact_match maj@6"]
    assert found["exact_match avg@6"] == pytest.approx((fmean(means), stdev(means) / 12**0.5, 12))
    assert found["exact_match pass@3"] == pytest.approx((fmean(passes), stdev(passes) / 12**0.5, 12))
    assert "exact_match avg@6" in (project.results / "reports/test/index.html").read_text()
    (index,) = read_index(project.results / "reports/test", "t_odd")["models"]
    shown = read_texts(project.results / "reports/test", "t_odd", index["model"])
    assert [len(sample["outputs"]) for sample in shown] == [6] * 12


def test_all_rotations_of_a_rows_options_are_one_sample(project: Project) -> None:
    samples = [sample for (_, name, _), sample in project.samples().items() if name == "t_turn"]
    verdicts = []
    for sample in samples:
        right = sample["row"]["options"][sample["row"]["right"]]
        places = [sample["row"]["options"][turn:] + sample["row"]["options"][:turn] for turn in range(3)]
        logprobs = [rotation["logprobs"] for rotation in sample["rotations"]]
        verdicts.append([max(zip(*both, strict=True))[1] == right for both in zip(logprobs, places, strict=True)])
    found = leaderboard(project, "t_turn")
    whole, means = [float(all(each)) for each in verdicts], [fmean(each) for each in verdicts]
    assert list(found) == ["accuracy circular", "accuracy avg over rotations"]
    assert found["accuracy circular"] == pytest.approx((fmean(whole), stdev(whole) / 12**0.5, 12))
    assert found["accuracy avg over rotations"] == pytest.approx((fmean(means), stdev(means) / 12**0.5, 12))
    (scores,) = (json.loads(text) for name, text in project.scores().items() if "/t_turn@" in name)
    assert (scores["counts"]["samples"], scores["counts"]["requests"]) == (12, 36)
    (index,) = read_index(project.results / "reports/test", "t_turn")["models"]
    shown = read_texts(project.results / "reports/test", "t_turn", index["model"])
    assert [len(sample["rotations"]) for sample in shown] == [3] * 12


def test_another_statistic_is_scored_from_the_same_answers(project: Project, tmp_path: Path) -> None:
    other = project.copy(tmp_path / "other")
    write(other, SETTINGS | {"metrics": [{"name": "exact_match", "repeats": {"name": "all", "k": 2}}]})
    assert other.jobs(other.run()) == {"score": 1, "report": 1}
    (scores,) = (json.loads(text) for name, text in other.scores().items() if name not in project.scores())
    value = fmean(fmean(all(choice) for choice in combinations(each, 2)) for each in right(project))
    assert scores["metrics"]["exact_match pass^2"]["value"] == pytest.approx(value)


def test_a_k_above_samples_is_refused_before_anything_runs(project: Project, tmp_path: Path) -> None:
    other = project.copy(tmp_path / "other")
    write(other, SETTINGS | {"metrics": [{"name": "exact_match", "repeats": {"name": "pass", "k": 7}}]})
    output = other.run(succeeds=False)
    assert "config/datasets/t_odd.yaml:" in output
    assert "metrics.0.repeats.k: k 7 is more than the answers per request: generation.samples is 6" in output
    assert "fix: set generation.samples to at least 7" in output
