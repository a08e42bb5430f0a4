"""`prompts` shows exactly what a model is asked, with what a terminal hides, and real counts of tokens."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from projects import GENERATE, problems, write_dataset, write_model
from shardmark import command
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.merge import Merged
from shardmark.tools.counting import Count, Counter
from shardmark.tools.prompts import show_prompts
from shardmark.tools.visible import visible

SCRIPTS = Path(command.__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A:", "A:"),
        ("A: ", "A:␠"),
        (" A", "␠A"),
        ("a  b", "a  b"),
        ("a \nb\n", "a␠\nb⏎"),
        ("a\n\n", "a\n⏎"),
        ("\n", "⏎"),
        ("", ""),
        ("  ", "␠␠"),
        ("a\tb", "a⇥b"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("no\xa0break \ufeff\ud83d", "no\\xa0break \\ufeff\\ud83d"),
        ("é 日本 😀", "é 日本 😀"),
    ],
)
def test_what_a_terminal_hides_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def run_of(root: Path, **config: Any) -> Merged:
    return Merged({"models": ["*"], "datasets": ["*"], "results": str(root / "results")} | config, "config/config.yaml")


def lines(root: Path, wanted: list[str] | None = None, count: int = 1, **config: Any) -> list[str]:
    return list(show_prompts(run_of(root, **config), root, wanted or [], count))


def test_a_prompt_is_shown_with_shots_target_and_limits(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    shots = {"examples": [{"question": "0 + 0?", "answer": "0"}], "answer": " {{ answer }}"}
    generation = {"max_new_tokens": 7, "stop": ["\n"]}
    write_dataset(tmp_path, "d", few_shot=shots, generation=generation, **GENERATE)
    shown = lines(tmp_path)
    assert shown[0].startswith("== d: generate, 1 shot, config/datasets/d.yaml, rows of ")
    assert shown[2:] == [
        "-- d, sample 0",
        "prompt: 36 characters; about 9 tokens for m",
        "  | Q: 0 + 0?",
        "  | A: 0",
        "  | ",
        "  | Q: What is 0 + 1?",
        "  | A:",
        "at most 7 new tokens; stops before: '\\n'",
        "target: '1'",
        "",
    ]


def test_the_choices_of_a_prompt_are_shown_once_each(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    keys = {"kind": "choice", "prompt": "{{ q }} ", "choices": "o", "target": "l", "metrics": ["accuracy"]}
    write_dataset(tmp_path, "d", [{"q": "Yes?", "o": ["yes", "no"], "l": 1}], **keys)
    shown = lines(tmp_path)
    assert shown[3:] == [
        "prompt: 5 characters",
        "  | Yes?␠",
        "choice 0: 4 characters; about 2 tokens with the prompt for m",
        "  | ␠yes",
        "choice 1 (the target): 3 characters; about 2 tokens with the prompt for m",
        "  | ␠no",
        "target: 1 ('no')",
        "",
        "␠ is a space at the end of a line or at the beginning of a text",
    ]


def test_a_right_choice_that_a_task_of_lm_eval_gives_as_another_number_is_shown(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "utils.py").write_text("def gold(doc):\n    return doc['n'] / 2\n")
    (tmp_path / "tasks" / "t.yaml").write_text(
        "task: t\ndataset_path: a/b\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{ q }}'\n"
        'doc_to_choice: ["no", "yes"]\ndoc_to_target: !function utils.gold\n'
    )
    (tmp_path / "t.jsonl").write_text('{"q": "Yes?", "n": 2}\n')
    (tmp_path / "data.yaml").write_text("a/b: {default: t.jsonl}\n")
    keys = {"lm_eval_code": True, "data_root": str(tmp_path), "lm_eval_data": str(tmp_path / "data.yaml")}
    shown = lines(tmp_path, datasets=["lm_eval:t"], lm_eval_path=str(tmp_path / "tasks"), **keys)
    assert "target: 1.0 ('yes')" in shown
    assert any(line.startswith("choice 1 (the target)") for line in shown)


def test_only_so_many_samples_of_the_data_sets_that_are_wanted(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    for name in ("one_gen", "two_gen", "three_ppl"):
        write_dataset(tmp_path, name)
    asked = [line for line in lines(tmp_path, ["*_gen"], 2) if line.startswith("-- ")]
    assert asked == [f"-- {name}, sample {n}" for name in ("one_gen", "two_gen") for n in (0, 1)]
    assert len([line for line in lines(tmp_path, count=9, limit=3) if line.startswith("-- ")]) == 9, "3 data sets x 3"


def test_nothing_is_written(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    before = sorted(tmp_path.rglob("*"))
    lines(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_of_several_data_sets_that_cannot_be_shown_are_told_together(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    for name in ("one", "two"):
        write_dataset(tmp_path, name, **GENERATE | {"prompt": "{{ questoin }}"})
    assert [problem.where for problem in problems(lines, tmp_path)] == [
        f"config/datasets/{n}.yaml" for n in ("one", "two")
    ]


def test_wrong_names_and_counts_are_named_together(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "arithmetic")
    found = problems(lines, tmp_path, ["arithmetics"], 0)
    assert [(p.where, p.fix) for p in found] == [
        ("--samples", "give a number from 1"),
        ("--datasets", "did you mean 'arithmetic'?"),
    ]


def test_a_row_that_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d", [{"question": "q"}])
    (found,) = problems(lines, tmp_path)
    assert (found.where, found.key) == ("config/datasets/d.yaml", "target")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("model"))


def counter(folder: Path, path: str | None = None) -> Counter:
    settings = TransformersConfig(path=path or str(folder))
    return Counter(Named("m", "config/models/m.yaml", settings), folder / "results", {})


TEXTS = ["", "a", "The quick brown fox ", " 1 + 1 = 2\n\n", "日本 😀", "half \ud83d"]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_as_many_as_the_engine_makes(folder: Path, text: str) -> None:
    from transformers import AutoTokenizer

    from shardmark.engine.tokens import encode, encode_pair

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert counter(folder).prompt(text) == Count(len(encode(tokenizer, text)) or 1, True)
    pair = encode_pair(tokenizer, text, " yes")
    assert counter(folder).pair(text, " yes") == Count(len(pair[0]) + len(pair[1]), True)


def test_a_tokenizer_that_is_elsewhere_is_estimated_and_never_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    guess = counter(folder, "org/model").prompt("x" * 400)
    assert guess == Count(100, False)
    assert str(guess) == "about 100"


def test_no_torch_pandas_or_datasets_is_imported(tmp_path: Path, folder: Path) -> None:
    write_model(tmp_path, "m", path=str(folder))
    write_dataset(tmp_path, "d")
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
sys.argv = ["prompts.py", "--config", "models=m", "datasets=d", "--configfile", "config/run.yaml"]
import runpy
runpy.run_path({str(SCRIPTS / "prompts.py")!r}, run_name="__main__")
loaded = {{"torch", "pandas", "datasets", "transformers"}} & set(sys.modules)
assert not loaded, loaded
"""
    (tmp_path / "config/run.yaml").write_text("run: test\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tokens for m" in done.stdout
    assert "about" not in done.stdout
