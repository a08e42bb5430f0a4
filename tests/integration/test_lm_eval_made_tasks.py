"""Tasks of lm-eval that make their rows: the whole plan asks what lm-eval asks."""

import os
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from lm_eval_compare import oracle
from projects import plan, write_model
from shardmark.config.synthetic import Ruler
from shardmark.files import read_jsonl
from shardmark.tasks.ruler import NOISE, ruler

pytestmark = [pytest.mark.lmeval, pytest.mark.slow]

LIMIT = 3
ESSAYS, STORIES = "baber/paul_graham_essays", "RMT-team/babilong-1k-samples"
RULER = ("niah_multiquery", "ruler_vt", "ruler_cwe", "ruler_fwe")
"One of the needles: importing the code of each takes lm-eval seconds."


def tokenizer(folder: Path) -> Path:
    """A tokenizer whose tokens are words and signs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?").save_pretrained(folder)
    return folder


def stories() -> Iterator[dict[str, Any]]:
    """Rows like those of BABILong's first task."""
    for n, place in enumerate(("garden", "kitchen", "office", "hallway")):
        facts = f"Mary went to the {place}. It rained on day {n}. John moved to the attic."
        yield {"input": f" {facts} ", "question": "Where is Mary? ", "target": place}


@pytest.fixture
def rows() -> dict[Any, datasets.Dataset]:
    """Stand-ins for what the tasks read from the Hub."""
    draw = random.Random(1)
    words = ("start", "work", "people", "make", "think", "write", "new", "idea", "old", "a", "the", "of")
    sentences = [" ".join(draw.choices(words, k=9)).capitalize() + "." for _ in range(400)]
    essays = [{"text": " ".join(sentences[n : n + 100])} for n in range(0, 400, 100)]
    found = {(ESSAYS, None, "train"): essays, (STORIES, "0k", "qa1"): list(stories())}
    return {key: datasets.Dataset.from_list(values) for key, values in found.items()}


@pytest.fixture
def root(tmp_path: Path, rows: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a network: NLTK finds an untrained model of sentences, and `datasets` the stand-ins."""
    punkt = tmp_path / "nltk/tokenizers/punkt_tab/english"
    punkt.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (punkt / name).write_text("")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    monkeypatch.setattr("nltk.data.path", [str(tmp_path / "nltk")])
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, split=None: rows[path, name, split])
    write_model(tmp_path, "m")
    return tmp_path


def asked(root: Path, name: str) -> list[Any]:
    """The requests of the plan."""
    files = (root / "results/requests" / f"lm_eval.{name}").glob("*.jsonl")
    found = [line for file in files for line in read_jsonl(file)]
    return sorted([line["prompt"], line["max_new_tokens"], line.get("stop", [])] for line in found)


def compare(root: Path, rows: Any, names: tuple[str, ...], metadata: dict[str, Any]) -> None:
    """The plan's requests are those of lm-eval."""
    path = Path(os.environ["SHARDMARK_LM_EVAL"])
    run = {"lm_eval_path": str(path), "lm_eval_code": True, "lm_eval_metadata": metadata, "limit": LIMIT}
    plan(root, datasets=[f"lm_eval:{name}" for name in names], **run)
    theirs = oracle({name: [None] for name in names}, rows, LIMIT, root, metadata=metadata)
    for name in names:
        pairs = [pair for document in theirs[name, None]["arguments"] for pair in document]
        wanted = sorted([prompt, generation["max_gen_toks"], generation["until"]] for prompt, generation in pairs)
        assert asked(root, name) == wanted, name
        assert len(wanted) == LIMIT


CHANGES: Sequence[tuple[str, str]] = (
    (r"\s+", " "),
    (r"afterwards\. .* What", "afterwards. ... What"),
    (r"for \S+.*? mentioned", "for ... mentioned"),
    (r"coded words\. .* Question", "coded words. ... Question"),
    (r"(\d+\. [\w-]+ )+", "... "),
    (r"(VAR \w+ = \w+( \w+)? )+", ""),
    (re.escape(NOISE) + " ", ""),
    (r"\d{5}", "..."),
    (r"they are:( [A-Z]{3})+", "they are: ..."),
    ("assgined", "assigned"),
)
"What differs from row to row, and a slip of lm-eval's."


def words(prompt: str) -> str:
    """What a task says in all its rows."""
    for pattern, instead in CHANGES:
        prompt = re.sub(pattern, instead, prompt)
    return prompt


def test_needles_and_chains_are_those_of_ruler(root: Path, rows: Any) -> None:
    compare(root, rows, RULER, {"tokenizer": str(tokenizer(root / "words")), "max_seq_lengths": [1500]})
    for name in RULER:
        task = name.removeprefix("ruler_")
        (row,) = ruler(Ruler.model_validate({"name": "ruler", "task": task, "lengths": [1000], "rows": 1}))
        if task == "cwe":  # lm-eval leaves out RULER's solved example
            row["input"] = "Below is" + row["input"].rpartition("Below is")[2]
        theirs = {words(prompt) for prompt, *_ in asked(root, name)}
        assert {words(f"{row['input']} {row['answer_prefix']}")} == theirs, "our data sets say what lm-eval says"


def test_stories_are_those_of_babilong(root: Path, rows: Any) -> None:
    compare(root, rows, ("babilong_qa1",), {"max_seq_lengths": "0k"})
