"""A finished run of two models on data sets of all kinds, with answers that are made up and their real scores."""

from pathlib import Path
from typing import Any

import made_up_answers
from projects import GENERATE, plan, write_dataset, write_model
from shardmark.workflow.newest_report import link_newest

COLOURS = [{"q": f"{n}?", "options": ["red", "blue", "dark green"], "label": n % 3} for n in range(12)]
CHOICE: dict[str, Any] = {
    "kind": "choice",
    "prompt": "Q: {{ q }}\nA:",
    "choices": "options",
    "target": "label",
    "metrics": ["accuracy", {"name": "accuracy", "scoring": "char", "label": "by_length"}, "brier"],
}
SUMS = [{"question": f"{n} + 1?", "answer": str(n + 1), "part": "odd" if n % 2 else "even"} for n in range(10)]
CHAINS: dict[str, Any] = {
    "strict": [{"name": "regex", "pattern": "^(\\d+)$"}],
    "loose": ["last_number"],
}
TEXTS = [{"text": f"A text of {n} words."} for n in range(4)]
ROLLING: dict[str, Any] = {"kind": "rolling", "prompt": "{{ text }}", "metrics": ["word_perplexity", "bits_per_byte"]}


def finished_run(root: Path, choices: dict[str, dict[str, Any]] | None = None, **config: Any) -> Path:
    """Plan and score such a run in a folder, and return its report, of which there is only the front page.

    `choices` are settings of more data sets with choices, by name.
    """
    for name in ("good", "bad"):
        write_model(root, name)
    for name, settings in (choices or {}).items():
        write_dataset(root, name, COLOURS, **settings)
    write_dataset(root, "sums", SUMS, **GENERATE | {"chains": CHAINS, "group_by": "part"})
    write_dataset(root, "colours", COLOURS, **CHOICE)
    write_dataset(root, "texts", TEXTS, **ROLLING)
    made = plan(root, run="trial", max_shard_size=4, **config)
    made_up_answers.finish(made, made_up_answers.guesses)
    made.report.mkdir(parents=True)
    (made.report / "index.html").write_text("a report")
    link_newest(made.report, made.published)
    return made.published
