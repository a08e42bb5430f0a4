"""Each kind of data set through the real workflow: chats, likelihoods, examples, groups, several answers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmark.records.base import convert
from shardmark.records.sample import Sample
from workflow import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = [{"q": f"{n} + 1", "a": str(n + 1), "even": n % 2 == 0, "wrong": str(n)} for n in range(6)]
SOURCE = {"source": {"file": "data/rows.jsonl"}}
META = {"round": {"user": {"begin": "Q: ", "end": "\n"}, "assistant": {"begin": "A:", "end": "\n"}}}
CHAT = {"messages": [{"role": "user", "content": "{{ q }}"}], "few_shot": {"pick": "random", "count": 2}}
DATASETS: dict[str, dict[str, Any]] = {
    "t_chat": {"kind": "generate", "target": "a", "metrics": ["exact_match"], **CHAT, **SOURCE}
    | {"generation": {"max_new_tokens": 4, "stop": ["\n"]}},
    "t_chat_choice": {"kind": "choice", "choices": ["{{ a }}", "{{ wrong }}"], "target": "0", **CHAT, **SOURCE}
    | {"metrics": ["accuracy"], "group_by": "even", "group_mean": "macro"},
    "t_likelihood": {"kind": "loglikelihood", "prompt": "Q: {{ q }}\nA:", "target": "a", **SOURCE}
    | {"metrics": ["accuracy", "perplexity"]},
    "t_rolling": {"kind": "rolling", "prompt": "{{ (q ~ ' is ' ~ a ~ '. ') * 40 }}", **SOURCE}
    | {"metrics": ["byte_perplexity", "bits_per_byte"]},
    "t_samples": {"kind": "generate", "prompt": "Q: {{ q }}\nA:", "target": "a", "metrics": ["exact_match"], **SOURCE}
    | {"generation": {"max_new_tokens": 3, "temperature": 1.0, "samples": 3}, "filters": ["strip", "majority_vote"]},
    "t_group": {"group": ["t_chat*"], "mean": "micro"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run of all of them by one model that has a meta template."""
    project = Project.create(
        tmp_path_factory.mktemp("kinds") / "project", run="test", models=["demo_small"],
        datasets=["t_group", "t_likelihood", "t_rolling", "t_samples"],
    )  # fmt: skip
    (project.folder / "data").mkdir()
    (project.folder / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, settings in DATASETS.items():
        (project.folder / "config/datasets" / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    project.edit_yaml("config/models/demo_small.yaml", meta_template=META)
    project.run()
    return project


def scores(project: Project, dataset: str) -> dict[str, Any]:
    (found,) = [value for name, value in project.scores().items() if f"/{dataset}@" in name]
    return dict(json.loads(found))


def test_every_kind_is_scored(project: Project) -> None:
    for name in DATASETS.keys() - {"t_group"}:
        assert all(math.isfinite(metric["value"]) for metric in scores(project, name)["metrics"].values())
        assert scores(project, name)["counts"]["samples"] == 6


def test_a_chat_is_shown_with_its_roles(project: Project) -> None:
    sample = project.samples()["demo_small", "t_chat", "0"]
    assert sample["prompt"].count("[user]\n") == 3
    assert sample["prompt"].count("[assistant]\n") == 2
    assert sample["prompt"].endswith("[user]\n0 + 1")
    for dataset in ("t_chat", "t_chat_choice"):
        asked = convert(project.samples()["demo_small", dataset, "0"], Sample)
        first, *examples = [line for line in asked.prompt.splitlines() if not line.startswith("[")][::-1]
        turns = zip(examples[1::2][::-1], examples[::2][::-1], strict=True)
        assert asked.as_sent == "".join(f"Q: {q}\nA:{a}\n" for q, a in turns) + f"Q: {first}\nA:"


def test_the_macro_mean_comes_first_where_it_is_asked_for(project: Project) -> None:
    found = scores(project, "t_chat_choice")
    assert found["primary"] == "accuracy (macro)"
    assert list(found["metrics"]) == ["accuracy (macro)", "accuracy"]


def test_a_perplexity_is_that_of_the_samples(project: Project) -> None:
    samples = [s for (_, name, _), s in project.samples().items() if name == "t_likelihood"]
    mean = sum(sample["logprobs"][0] for sample in samples) / len(samples)
    assert scores(project, "t_likelihood")["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(-mean))
    assert all(sample["answer"] in (0, -1) for sample in samples)


def test_a_rolling_text_is_longer_than_the_window_and_scored_whole(project: Project) -> None:
    samples = [s for (_, name, _), s in project.samples().items() if name == "t_rolling"]
    size = sum(len(sample["output"].encode()) for sample in samples)
    surprise = -sum(sample["logprobs"][0] for sample in samples)
    found = scores(project, "t_rolling")["metrics"]
    assert found["bits_per_byte"]["value"] == pytest.approx(surprise / size / math.log(2))
    assert all(sample["truncated"] == 0 for sample in samples)


def test_several_answers_are_judged_together(project: Project) -> None:
    sample = project.samples()["demo_small", "t_samples", "0"]
    assert len(sample["outputs"]) == 3


def test_a_group_is_in_the_leaderboard(project: Project) -> None:
    table = (project.results / "reports/test/leaderboard.csv").read_text()
    assert "t_group" in table
    assert "t\\_group (micro mean, %)" in (project.results / "reports/test/leaderboard.md").read_text()


def test_nothing_is_left_to_do(project: Project) -> None:
    assert project.planned() == {}


def test_a_model_without_any_template_is_refused_before_a_job(project: Project, tmp_path: Path) -> None:
    other = project.copy(tmp_path / "other")
    other.edit_yaml("config/models/demo_small.yaml", meta_template=None)
    output = other.run(succeeds=False)
    assert "config/models/demo_small.yaml: meta_template: data set t_chat asks in chats" in output
    assert "fix: add meta_template" in output
