"""`prompts` shows exactly what a model is asked, with what a terminal hides, and real counts of tokens."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from asked import said
from projects import GENERATE, problems, write_dataset, write_model
from shardmark import command
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.merge import Merged
from shardmark.engine.tokenization import Wording
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


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
META = {"begin": "<bos>", "round": {"user": {"end": "\n"}, "assistant": {"begin": "A: "}}}
CHAT = said(("system", "Be brief."), ("user", " 1 + 1? "), ("assistant", "It is "))


@pytest.mark.parametrize(("context", "continuation"), [(CHAT[:2], None), (CHAT, None), (CHAT[:2], "2"), ("", CHAT)])
@pytest.mark.parametrize("settings", [{"tokenizer_kwargs": {"chat_template": TEMPLATE}}, {"meta_template": META}])
def test_a_chat_is_read_as_by_the_engine(folder: Path, context: Any, continuation: Any, settings: Any) -> None:
    from transformers import AutoTokenizer

    config = TransformersConfig(path=str(folder), **settings)
    counts = Counter(Named("m", "config/models/m.yaml", config), folder / "results", {})
    tokenizer = AutoTokenizer.from_pretrained(folder, **config.tokenizer_kwargs)
    wording = Wording(tokenizer, config)
    expected = (wording.prompt(context), []) if continuation is None else wording.pair(context, continuation)
    read = counts.read(context, continuation)
    assert read == expected
    assert counts.tokenizer
    whole = read.context + read.scored
    assert counts.tokenizer.text([], whole) == tokenizer.decode(whole)
    assert "".join(map(counts.tokenizer.piece, whole)) == tokenizer.decode(whole)


def test_a_tokenizer_that_is_elsewhere_is_estimated_and_never_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    guess = counter(folder, "org/model").prompt("x" * 400)
    assert guess == Count(100, False)
    assert str(guess) == "about 100"


TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ question }}"}]


def chat_model(root: Path, folder: Path, template: str | None = TEMPLATE, **keys: Any) -> None:
    kwargs = {"tokenizer_kwargs": {"chat_template": template}} if template else {}
    write_model(root, "m", path=str(folder), **kwargs, **keys)


def chats_dataset(root: Path, **keys: Any) -> None:
    rest = {key: value for key, value in GENERATE.items() if key != "prompt"}
    write_dataset(root, "d", **rest | {"messages": TALK, "generation": {"max_new_tokens": 8}} | keys)


def test_a_chat_is_shown_in_the_words_of_the_models_template(tmp_path: Path, folder: Path) -> None:
    chat_model(tmp_path, folder, max_seq_len=256)
    chats_dataset(tmp_path)
    shown = lines(tmp_path)
    text = "<bos><system>Be brief.<eos><user>What is 0 + 1?<eos><assistant>"
    assert shown[3:] == [
        "prompt: 40 characters; 51 tokens for m",
        "  | [system]",
        "  | Be brief.",
        "  | [user]",
        "  | What is 0 + 1?",
        "as m reads it:",
        f"    | {text}",
        "  special tokens: <bos>, <eos> (2 times); the first token is '<bos>'",
        "at most 8 new tokens; stops before: nothing else",
        "target: '1'",
        "",
    ]


def test_what_the_window_cuts_is_told_and_all_tokens_if_wanted(tmp_path: Path, folder: Path) -> None:
    chat_model(tmp_path, folder, max_seq_len=30)
    chats_dataset(tmp_path)
    shown = list(show_prompts(run_of(tmp_path), tmp_path, [], 1, ["m"], tokens=True))
    cut = "cut: the window of 30 tokens, 8 of them for the answer, leaves out its first 29 tokens; it begins with "
    assert f"  {cut}' is 0 + 1?<eos><assistant>'" in shown
    (first,) = (line for line in shown if line.startswith("  cut:    "))
    assert first.startswith("  cut:    261 '<bos>', 27 '<', 82 's'")
    (number,) = (number for number, line in enumerate(shown) if line.startswith("  read:   220 ' ', 72 'i'"))
    assert shown[number + 1].endswith("83 't', 29 '>'")


def test_where_the_scored_continuation_begins_is_told(tmp_path: Path, folder: Path) -> None:
    chat_model(tmp_path, folder, template=None)
    keys = {"kind": "choice", "prompt": "{{ q }} ", "choices": "o", "target": "l", "metrics": ["accuracy"]}
    write_dataset(tmp_path, "d", [{"q": "a", "o": ["b", "c"], "l": 1}], continuation="{{ choice }}", **keys)
    shown = list(show_prompts(run_of(tmp_path), tmp_path, [], 1, tokens=True))
    assert [line for line in shown if line.startswith("  scored:")] == [
        "  scored: ' b' (2 tokens)",
        "  scored: 220 ' ', 65 'b'",
        "  scored: ' c' (2 tokens)",
        "  scored: 220 ' ', 66 'c'",
    ]
    assert shown.count("  after:  261 '<bos>', 64 'a'") == 2


def test_how_a_model_reasons_is_in_what_it_reads(tmp_path: Path, folder: Path) -> None:
    thinks = TEMPLATE.replace("<assistant>", "<assistant>{% if not enable_thinking %}<think></think>{% endif %}")
    chat_model(tmp_path, folder, template=thinks, max_seq_len=256, reasoning="off")
    chats_dataset(tmp_path)
    (text,) = (line for line in lines(tmp_path) if "<assistant>" in line)
    assert text.endswith("<assistant><think></think>")
    chat_model(tmp_path, folder, max_seq_len=256, reasoning="off")
    assert any("not at all: reasoning is off, but the chat template has no such switch" in x for x in lines(tmp_path))


def test_thoughts_have_room_in_the_window(tmp_path: Path, folder: Path) -> None:
    chats_dataset(tmp_path)
    for settings, tokens in [({"reasoning_tokens": 4}, 8 + 4), ({"reasoning": {"budget": 4}}, 8 + 4 + 15)]:
        chat_model(tmp_path, folder, max_seq_len=40, reasoning_tags=["<think>", "</think>"], **settings)
        shown = lines(tmp_path)
        assert any(f"the window of 40 tokens, {tokens} of them for the answer" in line for line in shown)


def test_a_model_that_cannot_be_asked_is_told_why(tmp_path: Path, folder: Path) -> None:
    chat_model(tmp_path, folder, template=None)
    chats_dataset(tmp_path)
    (said,) = (line for line in lines(tmp_path) if "not at all" in line)
    assert said.startswith("  not at all: it is a chat, but the tokenizer has no chat template; fix: add meta_template")


def test_only_the_models_that_are_wanted(tmp_path: Path, folder: Path) -> None:
    for name in ("one", "two"):
        write_model(tmp_path, name, path=str(folder))
    write_dataset(tmp_path, "d")
    shown = "\n".join(show_models(tmp_path, ["tw*"]))
    assert "; 21 tokens for two\n" in shown
    assert (
        "as two reads it:\n  not at all: 256 new tokens leave no room for a prompt in the window of 64; fix:" in shown
    )
    (found,) = problems(show_models, tmp_path, ["ones"])
    assert (found.where, found.fix) == ("--models", "did you mean 'one'?")


def show_models(root: Path, models: list[str]) -> list[str]:
    return list(show_prompts(run_of(root), root, [], 1, models))


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
