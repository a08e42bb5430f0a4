"""Chats in the templates of real families become the tokens that transformers makes of them, or a stated deviation.

Each template in tests/fixtures/chat_templates reproduces what a family's own does with roles, tools, dates, white space
and thoughts. The truth is the tokenizer's apply_chat_template.
"""

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from answered import wrote
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.engine.tokenization import Wording
from shardmark.plan.chats import chat_applier, template_of
from shardmark.records.base import to_json
from shardmark.records.request import GenerateRequest, Message
from shardmark.tasks.chat_templates import NO_SYSTEM, ONE_SYSTEM, WordingError, today_is
from shardmark.tasks.frames import as_sent

TEMPLATES = Path(__file__).parents[1] / "fixtures/chat_templates"
FAMILIES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
SPECIAL = re.compile(r"<\|?[A-Za-z_]+\|?>|<｜[^｜]+｜>|\[/?[A-Z_]+\]")
"What looks like a special token in a template."


def said(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]


SYSTEM, USER, ANSWER = ("system", "Be brief."), ("user", " What is 1 + 1? "), ("assistant", "2")
CHATS = {
    "user": said(USER),
    "system": said(SYSTEM, USER),
    "turns": said(USER, ANSWER, ("user", "And 2 + 2?")),
    "system and turns": said(SYSTEM, USER, ANSWER, ("user", "And 2 + 2?")),
    "begun": said(USER, ("assistant", "The answer is")),
    "begun with a space": said(USER, ("assistant", "The answer is ")),
    "system and begun": said(SYSTEM, USER, ANSWER, ("user", "And 2 + 2?"), ("assistant", "It is:\n")),
}
MERGED = {
    "gemma_2": {"system", "system and turns", "system and begun"},
    "phi_3_mini": {"system", "system and turns", "system and begun"},
    "mistral_v0_3": {"system and begun"},
}
"Where a template refuses or drops the system message, so that it begins the first user's."
KWARGS: dict[str, list[dict[str, Any]]] = {
    "qwen_3": [{"enable_thinking": False}, {"enable_thinking": True}],
    "smollm3": [{"enable_thinking": False}, {"enable_thinking": True}],
    "glm_4": [{"enable_thinking": False}],
    "granite_3": [{"thinking": True}, {"controls": {"length": "short"}}],
    "gpt_oss": [{"reasoning_effort": "high"}, {"model_identity": "You are Tiny."}],
    "command_r": [{"documents": [{"title": "Sums", "text": "1 + 1 = 2"}]}],
    "llama_3_1": [{"date_string": "1 Jan 2020"}, {"tools": [{"name": "add"}], "tools_in_user_message": False}],
    "qwen_2_5": [{"tools": [{"name": "add"}]}],
    "falcon_3": [{"tools": [{"name": "add"}]}],
}


@cache
def tokenizer_folder(root: Path, family: str) -> Path:
    """A byte-level tokenizer that writes BOS, with the family's template and what looks special in it as tokens."""
    folder = root / family
    tokenizer = tiny_models.save_tokenizer(folder)
    template = (TEMPLATES / f"{family}.jinja").read_text("utf-8")
    tokenizer.add_tokens(sorted(set(SPECIAL.findall(template))), special_tokens=True)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@cache
def tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def by_transformers(tokenizer: Any, messages: list[Message], **kwargs: Any) -> list[int]:
    """What transformers makes of a chat on the day that templates are told."""
    begun = messages[-1].role == "assistant"
    how = {"add_generation_prompt": not begun, "continue_final_message": begun, "return_dict": False}
    with today_is(datetime(2024, 7, 26)):
        return list(tokenizer.apply_chat_template(to_json(messages), tokenize=True, **how, **kwargs))


def with_system_merged(messages: list[Message]) -> list[Message]:
    system, user, *rest = messages
    return [Message(role="user", content=f"{system.content}\n\n{user.content}"), *rest]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_becomes_the_tokens_that_transformers_makes(root: Path, family: str, chat: str) -> None:
    folder, messages = tokenizer_folder(root, family), CHATS[chat]
    truth = with_system_merged(messages) if chat in MERGED.get(family, ()) else messages
    for kwargs in ({}, *KWARGS.get(family, ())):
        config = TransformersConfig(path=str(folder), chat_template_kwargs=kwargs)
        expected = by_transformers(tokenizer(folder), truth, **kwargs)
        wording = Wording(tokenizer(folder), config)
        assert wording.prompt(messages) == expected
        assert expected.count(tokenizer(folder).bos_token_id) <= 1 + (family == "llama_2")
        template = template_of(folder, config)
        assert template
        text = template.text(messages, is_open=True)
        assert tokenizer(folder).encode(text, add_special_tokens=False) == expected, "without the tokenizer"
        asked = GenerateRequest(max_new_tokens=1, stop=[], messages=messages)
        assert as_sent(messages, wrote("a", sent=wording.sent(asked))) == text
        assert (NO_SYSTEM in template.notes()) == (chat in MERGED.get(family, ()))


@pytest.mark.parametrize("family", ["deepseek_r1", "qwen_3"])
def test_a_text_without_earlier_thoughts_is_kept_as_it_was_sent(root: Path, family: str) -> None:
    folder = tokenizer_folder(root, family)
    wording = Wording(tokenizer(folder), TransformersConfig(path=str(folder)))
    messages = said(USER, ("assistant", "<think>\nEasy.\n</think>\n\n2"), ("user", "And 2 + 2?"))
    prediction = wrote("a", sent=wording.sent(GenerateRequest(max_new_tokens=1, stop=[], messages=messages)))
    text = as_sent(messages, prediction)
    assert "Easy" not in str(text)
    assert tokenizer(folder).encode(text, add_special_tokens=False) == by_transformers(tokenizer(folder), messages)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_that_is_scored_as_a_whole_is_closed(root: Path, family: str) -> None:
    folder = tokenizer_folder(root, family)
    wording = Wording(tokenizer(folder), TransformersConfig(path=str(folder)))
    messages = CHATS["turns"][:2]
    how = {"tokenize": True, "return_dict": False}
    with today_is(datetime(2024, 7, 26)):
        expected = list(tokenizer(folder).apply_chat_template(to_json(messages), **how))
    bos, whole = wording.pair("", messages)
    assert bos == [tokenizer(folder).bos_token_id]
    assert bos + whole in (expected, bos + expected)


def test_most_families_are_there() -> None:
    assert len(FAMILIES) >= 20
    constructs = " ".join((TEMPLATES / f"{family}.jinja").read_text("utf-8") for family in FAMILIES)
    for construct in ("macro", "namespace", "strftime_now", "raise_exception", "generation %}", "tojson", "documents"):
        assert construct in constructs


@pytest.mark.parametrize("family", ["yi_1_5", "phi_3_mini", "mistral_v0_3", "llama_2"])
def test_an_answer_that_is_opened_by_the_users_end_needs_no_note(root: Path, family: str) -> None:
    template = template_of(tokenizer_folder(root, family), TransformersConfig(path="x"))
    assert template
    template.text(CHATS["user"], is_open=True)
    assert template.notes() == []


def test_several_system_messages_are_one_where_a_template_takes_one(root: Path) -> None:
    several, one = said(SYSTEM, ("system", "Be kind. "), USER), said(("system", "Be brief.\n\nBe kind. "), USER)
    for family, note in [("command_r", [ONE_SYSTEM]), ("deepseek_r1", [ONE_SYSTEM]), ("gemma_2", [NO_SYSTEM])]:
        template = template_of(tokenizer_folder(root, family), TransformersConfig(path="x"))
        assert template
        text = template.text(several, is_open=True)
        assert template.notes() == note
        assert text == template.text(one, is_open=True).replace("kind. \n", "kind.\n")
    template = template_of(tokenizer_folder(root, "qwen_2_5"), TransformersConfig(path="x"))
    assert template
    assert template.text(several, is_open=True).count("<|im_start|>system") == 2
    assert template.notes() == []


REFUSED = {
    "two users": said(USER, USER),
    "the assistant first": said(ANSWER, USER),
    "a system message in the middle": said(USER, ANSWER, SYSTEM, USER),
}


@pytest.mark.parametrize("chat", REFUSED)
def test_an_order_of_roles_that_a_template_refuses_is_an_error(root: Path, chat: str) -> None:
    folder = tokenizer_folder(root, "gemma_3")
    wording = Wording(tokenizer(folder), TransformersConfig(path=str(folder)))
    with pytest.raises(WordingError, match="refuses its messages: Conversation roles must alternate") as raised:
        wording.prompt(REFUSED[chat])
    assert "data set's messages" in raised.value.fix


@pytest.mark.parametrize(
    ("family", "messages", "what"),
    [
        ("deepseek_r1", said(USER, ("assistant", "<think>\nEasy.\n</think>\nIt is")), "drops the beginning"),
        ("gpt_oss", said(USER, ("assistant", "<|channel|>final<|message|>It is")), "refuses its messages: You have"),
        ("phi_3_mini", said(("tool", "2"), USER), "drops the message of the tool"),
        ("olmo_2", said(USER, ANSWER, ("tool", "2")), "drops the message of the tool"),
    ],
)
def test_nothing_that_a_chat_says_is_dropped_without_a_word(
    root: Path, family: str, messages: list[Message], what: str
) -> None:
    folder = tokenizer_folder(root, family)
    config = TransformersConfig(path=str(folder))
    with pytest.raises(WordingError, match=what):
        Wording(tokenizer(folder), config).prompt(messages)


ROLES = st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(family=st.sampled_from(FAMILIES), roles=ROLES, is_open=st.booleans())
def test_whatever_a_chat_says_is_in_its_text_or_it_is_refused(
    root: Path, family: str, roles: list[str], is_open: bool
) -> None:
    messages = said(*((role, f"message {number}.") for number, role in enumerate(roles)))
    plain = chat_applier(tokenizer_folder(root, family), TransformersConfig(path="x"))
    template = template_of(tokenizer_folder(root, family), TransformersConfig(path="x"))
    assert plain
    assert template
    begun = is_open and roles[-1] == "assistant"
    how = {"add_generation_prompt": is_open and not begun, "continue_final_message": begun}
    try:
        with today_is(datetime(2024, 7, 26)):
            alone = plain(to_json(messages), **how)
    except Exception:
        alone = ""
    whole = all(message.content in alone for message in messages)
    try:
        text = template.text(messages, is_open)
    except WordingError:
        assert not whole
        return
    assert all(message.content in text for message in messages)
    assert not begun or text.rstrip().endswith(messages[-1].content)
    assert whole or roles[0] == "system"
    assert (text == alone) == whole


def test_a_beginning_that_says_nothing_is_none(root: Path) -> None:
    """transformers would cut the end of the assistant's header off with it, where the template trims."""
    for family in FAMILIES:
        folder = tokenizer_folder(root, family)
        wording = Wording(tokenizer(folder), TransformersConfig(path=str(folder)))
        assert wording.prompt(said(USER, ("assistant", " "))) == wording.prompt(said(USER)), family


def test_named_templates_are_chosen_as_transformers_does(root: Path, tmp_path: Path) -> None:
    named = tiny_models.save_tokenizer(tmp_path)
    texts = {name: f"{name}: {{{{ messages[0].content }}}}" for name in ("default", "tool_use", "rag")}
    named.chat_template = texts
    named.save_pretrained(tmp_path)
    for kwargs in ({}, {"chat_template": "rag"}, {"tools": [{"name": "add"}]}):
        config = TransformersConfig(path=str(tmp_path), chat_template_kwargs=kwargs)
        template = template_of(tmp_path, config)
        assert template
        truth = named.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, **kwargs)
        assert template.text(said(("user", "a")), is_open=True) == truth
        assert Wording(named, config).prompt(said(("user", "a"))) == named.encode(truth, add_special_tokens=False)


def test_special_tokens_in_any_of_a_tokenizers_files_reach_its_template(root: Path, tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": "x"}))
    own = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"
    config = TransformersConfig(path="x", tokenizer_kwargs={"chat_template": own, "pad_token": "<pad>"})
    template = template_of(tmp_path, config)
    assert template
    assert template.text(said(("user", "a")), is_open=True) == "<s>a</s><pad>"
