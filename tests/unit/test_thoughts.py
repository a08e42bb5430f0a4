"""Thoughts are told from answers, however a model marks them: in its text, or with special tokens that texts lack."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from asked import by_id, generate
from shardmark.engine.thoughts import ThoughtLimits, ThoughtWatch, marks_in, thought_tokens
from shardmark.records.prediction import Generated
from shardmark.texts.thoughts import TO_NAME, known_tags, marks_among, opened_mark, thoughts_in, without_thoughts

TAGS = ("<|im_start|>think", "<|im_start|>answer")
PAIRS = [
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:6124c78e>", "</think:6124c78e>"),
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]
SPECIAL = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|im_start|>", "<|other|>")


def tokens_of(*pairs: tuple[str, str]) -> list[str]:
    """The tokens that tokenizers have for marks."""
    return [token for pair in pairs for mark in pair for token in ([] if "channel" in mark else [mark])]


@pytest.fixture(scope="module", params=[True, False], ids=["special", "plain"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    marks = [*SPECIAL, *tokens_of(*PAIRS)]
    return tiny_models.save_tokenizer(folder, marks=marks, special=request.param)


def written(tokenizer: Any, text: str, opened: str = "", tags: Any = None) -> Generated:
    """What the engine keeps of a text that a model wrote."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    clean = tokenizer.decode(tokens, skip_special_tokens=True)
    thought = thought_tokens(tokenizer, tokens, opened, tags)
    marks = marks_in(tokenizer, tokens, tags)
    return Generated(id="a", text=clean, tokens=len(tokens), end="eos", cut=0, thought=thought, marks=marks)


@pytest.mark.parametrize(("opens", "closes"), PAIRS)
def test_thoughts_are_told_from_the_answer_and_counted(tokenizer: Any, opens: str, closes: str) -> None:
    head = f"{opens} 3, é 4?\n{closes}"
    tokens = len(tokenizer.encode(head, add_special_tokens=False))
    whole = written(tokenizer, f"{head}\n\n5<|other|>")
    assert (without_thoughts(whole.marked.replace("<|other|>", "")), whole.thought) == ("5", tokens)
    cut = written(tokenizer, f"{opens} 3, é 4?")
    assert (without_thoughts(cut.marked), cut.thought) == (None, cut.tokens)
    none = written(tokenizer, "5")
    assert (none.marked, none.thought, none.marks) == ("5", 0, [])


@pytest.mark.parametrize(("opens", "closes"), PAIRS[:-1])
def test_a_thought_that_the_prompt_has_opened_ends_in_the_text_or_never(
    tokenizer: Any, opens: str, closes: str
) -> None:
    whole, cut = written(tokenizer, f"3?{closes}5", opens), written(tokenizer, "3? 5", opens)
    assert (without_thoughts(opens + whole.marked), whole.thought) == ("5", whole.tokens - 1)
    assert (without_thoughts(opens + cut.marked), cut.thought) == (None, cut.tokens)


def test_a_model_may_have_marks_of_its_own(tokenizer: Any) -> None:
    whole = written(tokenizer, f"{TAGS[0]} <think>3?{TAGS[1]} 5", tags=TAGS)
    assert without_thoughts(whole.marked, tags=TAGS) == "5"
    assert whole.thought == whole.tokens - 2
    assert without_thoughts(written(tokenizer, f"{TAGS[0]} 3", tags=TAGS).marked, tags=TAGS) is None


WORDS = st.lists(st.sampled_from(["a", "é", " ", "\n", "😀", "<bos>", "<|other|>", *SPECIAL, *PAIRS[0]]), max_size=12)


@pytest.mark.parametrize("tags", [*TO_NAME, ("<think>", "</think>\n<answer>", "</answer>")])
def test_a_model_may_mark_the_end_of_its_answer(tags: Any) -> None:
    text = f"{tags[0]}so\n{tags[1]}\n4\n"
    assert without_thoughts(text, tags=tags) == "4"
    assert without_thoughts(text + "".join(tags[2:]) + " " * len(tags[2:]), tags=tags) == "4"
    assert without_thoughts(f"{tags[0]}so", tags=tags) is None
    assert without_thoughts(" 4 " + "".join(tags[2:]), tags=tags) == " 4 "
    assert opened_mark(f"<assistant>{tags[0]}\n", tags) == tags[0]


@given(words=WORDS)
def test_a_text_with_its_marks_is_all_but_other_special_tokens(tokenizer: Any, words: list[str]) -> None:
    found = written(tokenizer, "".join(words))
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    left_out = special & {"<bos>", "<|other|>", "<|im_start|>"}
    assert found.marked == "".join(word for word in words if word not in left_out)
    assert 0 <= found.thought <= found.tokens


def test_a_word_that_names_a_channel_is_none_where_channels_keep_their_tokens(tokenizer: Any) -> None:
    text = "analysis: 3"
    assert written(tokenizer, text).thought == 0
    assert without_thoughts(text) == text
    assert without_thoughts(text, bare=True) is None


@pytest.mark.parametrize(("opens", "closes"), PAIRS[:-1])
def test_a_template_tells_the_marks(opens: str, closes: str) -> None:
    assert known_tags([f"{opens}{{{{ content }}}}{closes}"]) == (opens, closes)


def test_only_marks_of_thoughts_are_kept() -> None:
    assert marks_among(["<s>", "<think>", "<|im_end|>", "<|message|>", "</think>"]) == {"<think>", "</think>"}
    assert marks_among(SPECIAL) == {"<|channel|>", "<|message|>", "<|start|>", "<|end|>"}
    assert marks_among(["<think>", "<|im_start|>", ""], TAGS) == {"<|im_start|>"}


@pytest.mark.parametrize("special", [True, False])
def test_an_answer_keeps_the_marks_of_its_thoughts(tmp_path: Path, special: bool) -> None:
    """The output once was `x?yz`, with nothing to tell thought and answer apart."""
    text = "Q<think>x?</think>yz<eos>"
    folder = tiny_models.chain_model(tmp_path, text, marks=["<think>", "</think>"], special=special)
    backend = tiny_models.local_backend(folder, tiny_models.load_backend(folder))
    requests = by_id([generate("Q", 9), generate("Q", 3), generate("Q", 9, ["y"]), generate("Q<think>", 9)])
    found = {p.id: p for predictions in backend.answer(requests) for p in predictions}
    whole, cut, stopped, opened = (found[key] for key in requests)
    assert (whole.text, whole.marked) == ("x?yz" if special else "<think>x?</think>yz", "<think>x?</think>yz")
    assert (whole.tokens, whole.thought) == (6, 4)
    assert (cut.marked, cut.tokens, cut.thought, cut.end) == ("<think>x?", 3, 3, "length")
    assert (stopped.marked, stopped.end) == ("<think>x?</think>", "stop")
    assert (opened.opened, opened.marked, opened.thought) == ("<think>", "x?</think>yz", 3)


PIECES = ["<think>", "</think>", "`", '"', "a", " ", "\n", "\n```\n", "é"]


@given(words=st.lists(st.sampled_from(PIECES), max_size=14), opened=st.booleans())
@pytest.mark.parametrize("tokenizer", [True], indirect=True)
def test_a_watch_says_of_each_beginning_what_is_said_of_it_as_an_answer(
    tokenizer: Any, words: list[str], opened: bool
) -> None:
    tags = ("<think>", "</think>")
    watch = ThoughtWatch(tokenizer, ThoughtLimits(tags, ()), opened)
    text = "<think>" if opened else ""
    for token in tokenizer.encode("".join(words), add_special_tokens=False):
        watch.push(token)
        text += tokenizer.decode([token])
    if text.endswith(tags) and len(text) > len(tags[1]) and re.search(r"[`\"]</?think>$", text):
        return  # the next character decides
    assert watch.thinking == thoughts_in(text, tags=tags).unfinished


@pytest.mark.parametrize(
    ("prompt", "tags", "mark"),
    [
        ("<|assistant|><think>\n", ("<think>\n", "</think>\n\n"), "<think>"),
        ("<|assistant|><think>", ("<think>\n", "</think>"), "<think>"),
        ("<|assistant|><think>\n\n", None, "<think>"),
        ("<|start|>assistant<|channel|>analysis<|message|>", None, "<|channel|>analysis<|message|>"),
        ("<|start|>assistant<|channel|>final<|message|>", None, ""),
        ("<think>\n\n</think>\n\n", ("<think>\n", "\n</think>"), ""),
        ("Write <think>, then", None, ""),
    ],
)
def test_a_prompt_may_end_with_the_mark_of_a_thought(prompt: str, tags: Any, mark: str) -> None:
    assert opened_mark(prompt, tags) == mark
