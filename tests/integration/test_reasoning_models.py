"""A model whose marks of thoughts are special tokens, through the real workflow: as it is, cut, and within a budget."""

import csv
import json
from pathlib import Path

import pytest
import yaml

import tiny_models
from workflow import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}Q{% endif %}"
MODELS = {
    "t_plain": {},
    "t_room": {"reasoning_tokens": 8},
    "t_budget": {"reasoning": {"budget": 2}},
}
DATASET = {
    "kind": "generate",
    "messages": [{"role": "user", "content": "{{ q }}"}],
    "target": "a",
    "source": {"file": "data/rows.jsonl"},
    "generation": {"max_new_tokens": 3},
    "metrics": ["exact_match"],
}


def test_thoughts_are_told_from_answers_and_counted(tmp_path: Path) -> None:
    names = ["t_whole", "t_stripped"]
    project = Project.create(tmp_path / "project", run="test", models=[*MODELS], datasets=names)
    folder = project.folder
    tiny_models.chain_model(folder / "model", "Q<think>mnop</think>yz<eos>", marks=["<think>", "</think>"])
    (folder / "model/chat_template.jinja").write_text(TEMPLATE)
    (folder / "data").mkdir()
    (folder / "data/rows.jsonl").write_text("".join(json.dumps({"q": f"{n}?", "a": "yz"}) + "\n" for n in range(4)))
    for name, filters in zip(names, ([], ["strip_thinking"]), strict=True):
        (folder / f"config/datasets/{name}.yaml").write_text(yaml.safe_dump(DATASET | {"filters": filters}))
    for name, keys in MODELS.items():
        settings = {"path": "model", "num_gpus": 0} | keys
        (folder / f"config/models/{name}.yaml").write_text(yaml.safe_dump(settings))
    project.edit_yaml("config/models/t_plain.yaml", reasoning="off")
    said = project.run("-n", succeeds=False)
    assert "t_plain.yaml" in said
    assert "reasoning is off, but the chat template has no such switch" in said
    project.edit_yaml("config/models/t_plain.yaml", reasoning=None)
    project.run()
    with open(folder / "results/reports/test/leaderboard.csv") as file:
        rows = {(row["model"], row["dataset"]): row for row in csv.DictReader(file)}
    found = {
        pair: tuple(row[key] for key in ("value", "reasoning_cut", "reasoning_tokens", "answer_tokens"))
        for pair, row in rows.items()
    }
    cut = ("0.0", "1.0", "3.0", "0.0")
    whole, budget = ("1.0", "0.0", "6.0", "2.0"), ("1.0", "0.0", "4.0", "2.0")
    expected = {"t_plain": cut, "t_room": whole, "t_budget": budget}
    assert found == {(model, dataset): numbers for model, numbers in expected.items() for dataset in names}
    samples = project.samples()
    assert samples["t_plain", "t_whole", "0"]["answer"] == "mn"
    assert samples["t_plain", "t_stripped", "0"]["answer"] is None
    assert samples["t_budget", "t_whole", "0"]["output"] == "<think>mn</think>yz"
    page = (folder / "results/reports/test/index.html").read_text()
    assert "reasoning of 4 of 4 answers cut" in page
    assert page.count("thoughts treated as part of 4 of 4 answers") == 2  # at the score, and where scores need care
