"""The demo's chat models show what they are there for."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from transformers import AutoTokenizer

from quick_engine import use_quick_scoring
from shardmark.records.base import convert
from shardmark.records.sample import Sample
from workflow import Project

Samples = dict[tuple[str, str, str], dict[str, Any]]


def of(samples: Samples, model: str, dataset: str) -> list[dict[str, Any]]:
    """The samples of a model on a data set."""
    return [sample for key, sample in samples.items() if key[:2] == (model, dataset)]


def share(samples: list[dict[str, Any]]) -> float:
    """How many of them are right, as a fraction."""
    return fmean(sample["answer"] == sample["target"] for sample in samples)


@pytest.mark.slow
def test_chat_models_do_better_in_chats_and_the_thinker_without_its_thoughts(tmp_path: Path) -> None:
    config: dict[str, Any] = {"models": ["demo_chat", "demo_thinker"], "limit": 60, "max_num_workers": 1}
    config["datasets"] = ["demo_arithmetic", "demo_arithmetic_text"]
    project = Project.create(tmp_path / "project", run="test", **config)
    use_quick_scoring(project)
    project.run()
    samples = project.samples()
    for model in config["models"]:
        in_chats, as_texts = (share(of(samples, model, dataset)) for dataset in config["datasets"])
        assert in_chats > as_texts + 0.2, model
        tokenizer = AutoTokenizer.from_pretrained(project.folder / "demo/models" / model.removeprefix("demo_"))
        for sample in of(samples, model, "demo_arithmetic"):
            chat = [{"role": "user", "content": sample["prompt"].removeprefix("[user]\n")}]
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            assert convert(sample, Sample).as_sent == text
    thoughts = of(samples, "demo_thinker", "demo_arithmetic")
    assert all(sample["output"].startswith("<think>") for sample in thoughts)
    assert not any(sample["output"] == sample["target"] for sample in thoughts)
    assert 'id="reasoning"' in (project.results / "reports/test/index.html").read_text()
