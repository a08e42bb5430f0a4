"""The cases of tasks.py made from real data: a folder of JSON lines with the columns of the Hub's data sets.

Read are `arc_easy/{train,test}.jsonl`, `mmlu/{dev,test}.jsonl` (with a column `subject`) and
`hellaswag/validation.jsonl`. Prompts are those of lm-evaluation-harness's tasks arc_easy, mmlu and hellaswag, nearly.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import Pairs

SUBJECT = "college_biology"


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _arc(row: dict[str, Any]) -> str:
    return f"Question: {row['question']}\nAnswer:"


def _arc_shots(rows: list[dict[str, Any]]) -> str:
    def answer(row: dict[str, Any]) -> str:
        return str(row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])])

    return "".join(f"{_arc(row)} {answer(row)}\n\n" for row in rows)


def _arc_documents(root: Path, documents: int, shots: Callable[[list[dict[str, Any]]], str]) -> list[Pairs]:
    train, test = (_rows(root / f"arc_easy/{split}.jsonl") for split in ("train", "test"))
    found = []
    for row in test[:documents]:
        context = shots(train) + _arc(row)
        found.append([[context, f" {text}"] for text in row["choices"]["text"]])
    return found


def fixed_shots(root: Path, documents: int) -> list[Pairs]:
    """ARC easy, the first five of the training split for all documents."""
    return _arc_documents(root, documents, lambda train: _arc_shots(train[:5]))


def random_shots(root: Path, documents: int) -> list[Pairs]:
    """ARC easy, five of the training split drawn for each document."""
    draw = random.Random(1234)
    return _arc_documents(root, documents, lambda train: _arc_shots(draw.sample(train, 5)))


def one_letter(root: Path, documents: int) -> list[Pairs]:
    """One subject of MMLU, with its five development examples."""
    dev, test = (
        [row for row in _rows(root / f"mmlu/{split}.jsonl") if row["subject"] == SUBJECT] for split in ("dev", "test")
    )

    def asked(row: dict[str, Any]) -> str:
        options = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", row["choices"], strict=True))
        return f"{row['question'].strip()}\n{options}Answer:"

    head = f"The following are multiple choice questions (with answers) about {SUBJECT.replace('_', ' ')}.\n\n"
    head += "".join(f"{asked(row)} {'ABCD'[row['answer']]}\n\n" for row in dev[:5])
    return [[[head + asked(row), f" {letter}"] for letter in "ABCD"] for row in test[:documents]]


def no_shots(root: Path, documents: int) -> list[Pairs]:
    """HellaSwag."""
    rows = _rows(root / "hellaswag/validation.jsonl")[:documents]
    return [[[f"{row['activity_label']}: {row['ctx']}", f" {end}"] for end in row["endings"]] for row in rows]


CASES: dict[str, Callable[[Path, int], list[Pairs]]] = {
    "multi-token, 5 fixed shots": fixed_shots,
    "one-letter, 5 fixed shots": one_letter,
    "multi-token, 5 random shots": random_shots,
    "multi-token, 0-shot": no_shots,
}
"By the names of tasks.CASES."
