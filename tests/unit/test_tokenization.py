"""A chat in the words of a model: its chat template or a meta template, and never two BOS tokens."""

import inspect
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.wording import SET_HERE, MetaTemplate
from shardmark.engine.tokenization import Wording
from shardmark.engine.tokens import encode
from shardmark.records.request import Message
from shardmark.tasks.chat_templates import WordingError, by_meta_template
from shardmark.untrusted import limits

CHAT = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="1+1?"),
    Message(role="assistant", content="2"),
    Message(role="user", content="2+2?"),
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
META = {
    "begin": "<bos>",
    "round": {
        "system": {"begin": "", "end": "\n"},
        "user": {"begin": "Human: ", "end": "\n"},
        "assistant": {"begin": "Bot: ", "end": "\n"},
    },
    "end": "(end)",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def wording(tokenizer: Any, template: str | None = TEMPLATE, **settings: Any) -> Wording:
    tokenizer.chat_template = template
    return Wording(tokenizer, TransformersConfig(path="x", **settings))


def shown(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens))


def test_a_chat_template_opens_the_answer_and_adds_nothing(tokenizer: Any) -> None:
    tokens = wording(tokenizer).prompt(CHAT)
    text = "<bos><system>Be brief.</><user>1+1?</><assistant>2</><user>2+2?</><assistant>"
    assert shown(tokenizer, tokens) == text
    assert tokens.count(tokenizer.bos_token_id) == 1


def test_a_begun_answer_is_continued(tokenizer: Any) -> None:
    begun = [*CHAT[1:2], Message(role="assistant", content="It is")]
    assert shown(tokenizer, wording(tokenizer).prompt(begun)) == "<bos><user>1+1?</><assistant>It is"
    assert by_meta_template(MetaTemplate.model_validate(META), begun, True) == "<bos>Human: 1+1?\nBot: It is"


def test_a_meta_template_takes_the_place_of_a_chat_template(tokenizer: Any) -> None:
    tokens = wording(tokenizer, meta_template=META).prompt(CHAT)
    assert shown(tokenizer, tokens) == "<bos>Be brief.\nHuman: 1+1?\nBot: 2\nHuman: 2+2?\nBot: "
    assert tokens.count(tokenizer.bos_token_id) == 1


def test_a_meta_template_without_bos_gets_the_tokenizers(tokenizer: Any) -> None:
    words = wording(tokenizer, None, meta_template=META | {"begin": ""})
    assert words.prompt(CHAT)[0] == tokenizer.bos_token_id
    assert words.prompt(CHAT) == encode(tokenizer, "Be brief.\nHuman: 1+1?\nBot: 2\nHuman: 2+2?\nBot: ")


def test_a_choice_follows_the_opened_answer(tokenizer: Any) -> None:
    context, choice = wording(tokenizer).pair(CHAT[1:2], "two")
    assert shown(tokenizer, context) == "<bos><user>1+1?</><assistant>"
    assert shown(tokenizer, choice) == "two"


def test_a_whole_chat_is_scored_after_its_bos(tokenizer: Any) -> None:
    context, whole = wording(tokenizer).pair("", CHAT[1:3])
    assert context == [tokenizer.bos_token_id]
    assert shown(tokenizer, whole) == "<user>1+1?</><assistant>2</>"
    _, whole = wording(tokenizer, meta_template=META).pair("", CHAT[1:3])
    assert shown(tokenizer, whole) == "Human: 1+1?\nBot: 2\n(end)"


def test_arguments_reach_the_chat_template(tokenizer: Any) -> None:
    words = wording(tokenizer, "{{ mood }}{{ messages[0].content }}", chat_template_kwargs={"mood": "Kindly: "})
    assert shown(tokenizer, words.prompt(CHAT[:1])) == "Kindly: Be brief."


def test_arguments_that_are_not_the_templates_are_refused() -> None:
    from transformers import PreTrainedTokenizerBase

    own = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters.keys()
    assert own - {"self", "kwargs", "tools", "documents", "chat_template"} == SET_HERE - {"messages"}
    for key in SET_HERE:
        with pytest.raises(ValueError, match=f"chat_template_kwargs: {key}: cannot be set"):
            TransformersConfig(path="x", chat_template_kwargs={key: True})


def test_a_template_that_asks_for_the_date_is_told_one_day(tokenizer: Any) -> None:
    dated = "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}"
    assert shown(tokenizer, wording(tokenizer, dated).prompt(CHAT[:1])) == "26 Jul 2024 Be brief."
    later = wording(tokenizer, dated, template_date="2026-11-28")
    assert shown(tokenizer, later.prompt(CHAT[:1])) == "28 Nov 2026 Be brief."


def test_a_text_is_encoded_as_before(tokenizer: Any) -> None:
    assert wording(tokenizer).prompt("abc") == encode(tokenizer, "abc")


@pytest.mark.parametrize(
    ("template", "meta", "what", "fix"),
    [
        (None, None, "no chat template", "add meta_template"),
        (TEMPLATE, None, "refuses its messages: no tools", "give it a meta_template"),
        (None, META, "has no role tool", "add tool to meta_template.round"),
    ],
)
def test_what_cannot_be_worded_is_told_with_the_fix(
    tokenizer: Any, template: Any, meta: Any, what: str, fix: str
) -> None:
    words = wording(tokenizer, template, meta_template=meta)
    with pytest.raises(WordingError, match=what) as caught:
        words.prompt([Message(role="tool", content="x")])
    assert fix in caught.value.fix


def test_meta_template_and_arguments_are_part_of_the_models_digest_only_where_they_are(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path)
    settings: list[dict[str, Any]] = [{}, {"meta_template": META}, {"chat_template_kwargs": {"a": 1}}]
    digests = [tiny_models.model_record(folder, **given).digest for given in settings]
    assert len(set(digests)) == 3
    same = {"meta_template": None, "chat_template_kwargs": {}, "description": "x"}
    assert tiny_models.model_record(folder, **same).digest == digests[0]


def test_a_template_that_opens_a_thought_is_noticed(tokenizer: Any) -> None:
    opens = TEMPLATE.replace("<assistant>", "<assistant><think>\n")
    assert wording(tokenizer, opens).opened(CHAT) == "<think>"
    assert wording(tokenizer, opens.replace("<think>\n", "<think>\n\n</think>\n\n")).opened(CHAT) == ""
    assert wording(tokenizer).opened(CHAT) == ""
    before = wording(tokenizer, TEMPLATE.replace("{{ m.content", "{{ '<think>\n' if loop.last }}{{ m.content"))
    for begun, mark in [("It is ", "<think>"), ("So</think>It is", ""), ("<think>So", "<think>")]:
        assert before.opened([*CHAT, Message(role="assistant", content=begun)]) == mark
    assert wording(tokenizer).opened("Explain <think>") == "<think>"
    assert wording(tokenizer).opened("Explain <think> tags") == ""


@pytest.mark.parametrize(
    ("begun", "mark"),
    [("<think>First,", "<think>"), ("<think>a</think> So", ""), ("It is", ""), ("a <r> b", "<r>"), ("`<r>` b", "")],
)
def test_a_beginning_of_the_answer_may_leave_a_thought_open(tokenizer: Any, begun: str, mark: str) -> None:
    tags = {"reasoning_tags": ["<r>", "</r>"]} if "<r>" in begun else {}
    words = wording(tokenizer, **tags)
    assert (
        words.opened([Message(role="user", content="What is <think>?"), Message(role="assistant", content=begun)])
        == mark
    )
    assert words.opened([Message(role="user", content="What is <think>?")]) == ""


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ ([1]|slice(100000000)|sum(start=[])) ~ '' }}",
        "{{ 'x' * 10**11 }}",
    ],
)
def test_a_chat_template_without_end_is_an_error(
    tokenizer: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.bounded_steps.__wrapped__, "__defaults__", (limits.MEMORY_BYTES, 0.3))
    with pytest.raises(WordingError, match="cannot be rendered: it took") as raised:
        wording(tokenizer, template).prompt(CHAT)
    assert "meta_template" in raised.value.fix
