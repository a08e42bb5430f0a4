"""Tasks in lm-eval's format through the real workflow, without lm-eval."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from projects import write_rows, write_yaml
from requirements_check import need
from shardmark.records.sample import read_sample
from workflow import Project

CHOICE = {
    "dataset_path": "some/numbers",
    "test_split": "test",
    "fewshot_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{a}} + {{b}} =",
    "doc_to_choice": "{{[sum, sum + 1]}}",
    "doc_to_target": 0,
}
GENERATE = {
    "task": "written",
    "dataset_path": "some/numbers",
    "test_split": "test",
    "doc_to_text": "{{a}} + {{b}} =",
    "doc_to_target": "{{sum}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
}
WHOLE = {
    "task": "whole",
    "dataset_path": "some/numbers",
    "test_split": "test",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{a}} + {{b}} = {{sum}}",
}


def write_tasks(project: Project) -> dict[str, Any]:
    """Two choices in a group, one text, and a task with code; the settings of a run that reads them."""
    tasks, data = project.folder / "tasks", project.folder / "data"
    for name in ("plus_a", "plus_b"):
        choices = "{{[sum|string, (sum + 1)|string]}}"
        write_yaml(tasks / f"{name}.yaml", CHOICE | {"task": name, "doc_to_choice": choices})
    aggregates = [{"metric": "acc", "weight_by_size": True}]
    write_yaml(
        tasks / "plus.yaml", {"group": "plus", "task": ["plus_a", "plus_b"], "aggregate_metric_list": aggregates}
    )
    write_yaml(
        tasks / "both.yaml", {"group": "both", "task": ["plus_a", "written"], "aggregate_metric_list": aggregates}
    )
    write_yaml(tasks / "written.yaml", GENERATE)
    write_yaml(tasks / "whole.yaml", WHOLE)
    (tasks / "utils.py").write_text("def even(rows):\n    return rows.filter(lambda row: row['sum'] % 2 == 0)\n")
    (tasks / "coded.yaml").write_text("include: written.yaml\ntask: coded\nprocess_docs: !function utils.even\n")
    write_rows(data / "numbers.jsonl", [{"a": a, "b": b, "sum": a + b} for a in range(3) for b in range(3)])
    write_yaml(project.folder / "config/lm_eval/data.yaml", {"some/numbers": "numbers.jsonl"})
    return {"lm_eval_path": str(tasks), "data_root": str(data)}


def scores(project: Project, name: str) -> Any:
    (file,) = (project.folder / "results/scores").glob(f"*/{name}@*.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_tasks_run_from_yaml_to_report(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    settings = write_tasks(project)
    run = {"run": "test", "models": ["demo_small"], "num_fewshot": 1, **settings}
    tasks = ["lm_eval:plus", "lm_eval:written", "lm_eval:coded", "lm_eval:whole", "lm_eval:both"]
    project.configure(**run, datasets=tasks)
    refused = project.run("-n", succeeds=False)
    assert "lm_eval.coded needs its own Python code (utils.even)" in refused
    project.configure(**run, datasets=tasks, lm_eval_code=True)
    ran = project.run()
    assert "Python code of lm-eval's tasks is executed for lm_eval.coded" in ran
    plus = scores(project, "lm_eval.plus")
    of_tasks = [f"{metric} ({task})" for task in ("plus_a", "plus_b") for metric in ("acc", "acc_norm")]
    assert list(plus["metrics"]) == ["acc", *of_tasks]
    assert plus["counts"]["samples"] == 18
    both = scores(project, "lm_eval.both")
    assert both["dataset"]["kind"] == "mixed"
    assert list(both["metrics"]) == ["acc", "acc (plus_a)", "acc_norm (plus_a)", "exact_match,strip (written)"]
    assert both["metrics"]["acc"]["value"] == plus["metrics"]["acc (plus_a)"]["value"]
    remark = "prompts contain their own question with its answer among the examples"
    (said,) = scores(project, "lm_eval.written")["dataset"]["remarks"]
    assert remark in said
    assert f"lm_eval.written: {said}" in ran
    assert remark in (project.folder / "results/reports/test/index.html").read_text()
    assert list(scores(project, "lm_eval.written")["metrics"]) == ["exact_match,strip"]
    whole = scores(project, "lm_eval.whole")["metrics"]
    assert list(whole) == ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    assert whole["bits_per_byte"]["value"] == pytest.approx(math.log2(whole["byte_perplexity"]["value"]))
    coded = scores(project, "lm_eval.coded")
    assert coded["counts"]["samples"] == 5
    (file,) = coded["provenance"]["config"]["dataset"]["executes"]["files"]
    assert file.endswith("tasks/utils.py")
    assert not project.planned()


@pytest.mark.slow
def test_a_task_is_asked_in_a_chat_and_its_programs_run_in_the_sandbox(tmp_path: Path) -> None:
    need("bwrap")
    project = Project.create(tmp_path / "project")
    settings = write_tasks(project)
    turns = {role: {"end": "\n"} for role in ("user", "assistant")}
    model = {"path": "demo/models/small", "num_gpus": 0, "meta_template": {"round": turns}}
    write_yaml(project.folder / "config/models/chatty.yaml", model)
    chat = {"lm_eval": "plus", "apply_chat_template": True, "num_fewshot": 2, "system_instruction": ""}
    write_yaml(project.folder / "config/datasets/plus_chat.yaml", chat)
    program = GENERATE | {"task": "program", "unsafe_code": True, "doc_to_target": "assert x > 0"}
    program |= {"filter_list": None, "metric_list": [{"metric": "OWN", "aggregation": "mean"}]}
    file = write_yaml(project.folder / "tasks/program.yaml", program)
    file.write_text(file.read_text().replace("OWN", "!function own.passed"))
    (project.folder / "tasks/own.py").write_text(
        "import evaluate\ncode = evaluate.load('code_eval')\n"
        "def passed(references, predictions):\n"
        "    return code.compute(references=references, predictions=[['x = 1'] + predictions], k=[1])[0]\n"
    )
    datasets = ["plus_chat", "lm_eval:program"]
    project.configure(run="test", models=["chatty"], datasets=datasets, lm_eval_code=True, **settings)
    project.run()
    (file,) = (project.folder / "results/samples").glob("*/plus_chat@*.jsonl")
    sample = read_sample(file.read_bytes().splitlines()[0])
    *said, question = re.split(r"\n?\[(?:user|assistant)\]\n", sample.prompt)[1:]
    assert len(said) == 4
    assert sample.as_sent == "".join(f"{text}\n" for text in [*said, question])
    assert 0.5 <= scores(project, "lm_eval.program")["metrics"]["pass@1"]["value"] <= 1
