"""A model reasons as its file says: by its template's switch, within a budget, and with room beside its answers."""

import json
import resource
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_models
from asked import by_id, chat, choice, generate
from projects import dataset_record, model_record
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.reasoning import switch, variables_of
from shardmark.engine import generation
from shardmark.engine.stage import stage_model
from shardmark.engine.thoughts import ThoughtLimits, ThoughtWatch
from shardmark.engine.tokenization import Wording, WordingError
from shardmark.errors import UserError
from shardmark.lock.lock import Lock
from shardmark.plan.chats import wording_problems
from shardmark.plan.cost import prior_seconds, tokens_of
from shardmark.plan.reasoning import faults, reasoning_problems
from shardmark.records.model import Folder
from shardmark.records.request import ChatShape, GenerateRequest, Message
from shardmark.texts.thoughts import HARMONY_TAGS, known_tags

MARKS = ["<think>", "</think>"]
QWEN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


# What a file may say


def test_the_variables_of_a_template_are_found_without_evaluating_it() -> None:
    """A constant that fills the memory is none of the plan's business: rendering has bounds, finding names has none."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hostile = "{{ 'x' * 10**9 }}{{ 'x'.center(10**9) }}{% set y = 'x' * 10**9 %}{% break %}{{ enable_thinking }}"
    assert variables_of("{% for m in messages %}" + hostile + "{% endfor %}") == {"messages", "enable_thinking"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


def settings(**more: Any) -> TransformersConfig:
    return TransformersConfig(**{"path": "x", "num_gpus": 0, **more})


@pytest.mark.parametrize(
    ("text", "said"),
    [("off", "off"), ("on", "on"), ('"off"', "off"), ("true", "on"), ("low", "low"), ("{budget: 8}", {"budget": 8})],
)
def test_yaml_reads_on_and_off_as_booleans(text: str, said: Any) -> None:
    given = settings(reasoning=yaml.safe_load(text))
    assert given.model_dump()["reasoning"] == said
    assert TransformersConfig.as_written(json.loads(given.model_dump_json())) == given


@pytest.mark.parametrize(
    "wrong",
    [
        {"reasoning": "much"},
        {"reasoning": 1},
        {"reasoning": {"budget": 0}},
        {"reasoning_tags": ["<think>"]},
        {"reasoning_tags": ["<t>", "<t>"]},
        {"reasoning_tags": ["", "</t>"]},
        {"reasoning_tokens": 0},
        {"reasoning": "off", "reasoning_tokens": 8},
        {"reasoning": {"budget": 8}, "reasoning_tokens": 8},
        {"reasoning": "off", "chat_template_kwargs": {"enable_thinking": True}},
        {"reasoning": "none", "chat_template_kwargs": {"enable_thinking": True}},
        {"reasoning": "none", "reasoning_tokens": 8},
        {"reasoning": "on", "chat_template_kwargs": {"thinking": False}},
        {"reasoning": "off", "chat_template_kwargs": {"reasoning_effort": "low"}},
        {"reasoning": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
        {"reasoning": {"budget": 8}, "chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning": "high", "chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning": "low", "chat_template_kwargs": {"thinking_budget": 0}},
        {"reasoning": {"budget": 8}, "chat_template_kwargs": {"thinking_budget": 9}},
        {"chat_template_kwargs": {"enable_thinking": "False"}},
        {"chat_template_kwargs": {"enable_thinking": 0}},
        {"reasoning": "off", "meta_template": {"round": {"user": {}, "assistant": {}}}},
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"reasoning|budget|enable_thinking"):
        settings(**wrong)


def test_what_says_the_same_twice_is_fine() -> None:
    settings(reasoning="off", chat_template_kwargs={"enable_thinking": False, "other": 1})
    settings(reasoning="low", chat_template_kwargs={"reasoning_effort": "low", "enable_thinking": True})
    settings(reasoning={"budget": 8}, chat_template_kwargs={"thinking_budget": 8})


def test_only_what_is_said_is_part_of_the_models_digest() -> None:
    said: list[dict[str, Any]] = [
        {"reasoning": "off"},
        {"reasoning": "on"},
        {"reasoning": {"budget": 8}},
        {"reasoning_tags": MARKS},
        {"reasoning_tokens": 8},
        {"request_seconds": 8},
    ]
    usual = settings().identity()
    assert not {"reasoning", "reasoning_tags", "reasoning_tokens", "request_seconds"} & usual.keys()
    for each in said:
        identity = settings(**each).identity()
        (key,) = identity.keys() - usual.keys()
        assert usual.items() <= identity.items()
        assert key in each


# The template's switch


SMOLLM = "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{% endif %}{{ enable_thinking }}"
GPT_OSS = "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'low' %}{% endif %}{{ reasoning_effort }}"
BOTH = "{% if thinking %}{{ reasoning_effort }}{% endif %}"
TEMPLATES: list[tuple[str, str, Any]] = [
    (QWEN, "off", {"enable_thinking": False}),
    (QWEN, "on", {"enable_thinking": True}),
    (QWEN, "low", None),
    (SMOLLM, "off", {"enable_thinking": False}),
    ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}", "on", {"thinking": True}),
    ("{% generation %}{{ reasoning or reasoning is not defined }}{% endgeneration %}", "off", {"reasoning": False}),
    ("{% set thinking_budget = thinking_budget | default(-1) %}{{ thinking_budget }}", "off", {"thinking_budget": 0}),
    (GPT_OSS, "low", {"reasoning_effort": "low"}),
    ("{{ thinking }}{{ thinking_effort }}", "max", {"thinking": True, "thinking_effort": "max"}),
    ("{{ enable_thinking }}{{ low_effort }}", "low", {"enable_thinking": True, "low_effort": True}),
    ("{{ enable_thinking }}{{ low_effort }}", "high", None),
    ("{{ reasoning_effort }}", "off", None),
    ("{{ reasoning_effort or 'none' }}", "off", {"reasoning_effort": "none"}),
    ('{{ reasoning_effort == "no_think" }}', "none", {"reasoning_effort": "no_think"}),
    (BOTH, "high", {"reasoning_effort": "high", "thinking": True}),
    (BOTH, "none", {"thinking": False}),
    ("{{ reasoning_effort }}", "none", {"reasoning_effort": "none"}),
    ("{{ thinking_mode in ('disabled', 'enabled') }}", "on", {"thinking_mode": "enabled"}),
    ("{{ thinking_mode == 'off' }}", "none", {"thinking_mode": "off"}),
    (BOTH, "on", {"thinking": True}),
    (QWEN, "none", {"enable_thinking": False}),
    ("{% macro f(thinking) %}{{ thinking }}{% endmacro %}{{ f(1) }} enable_thinking", "on", None),
    ("{% for m in messages %}{% break %}{% endfor %}{{ m.reasoning }}", "on", None),
    ("{{ broken", "on", None),
    ("", "off", None),
]


@pytest.mark.parametrize(("template", "said", "arguments"), TEMPLATES)
def test_the_switch_is_the_variable_that_the_template_reads(template: str, said: Any, arguments: Any) -> None:
    assert switch(said, template) == arguments
    assert switch(None, template) == {}


FAMILIES = {
    "qwen_3": ({"enable_thinking": False}, "<think>"),
    "glm_4": ({"enable_thinking": False}, "<think>"),
    "smollm3": ({"enable_thinking": False}, "<think>"),
    "granite_3": ({"thinking": False}, None),
    "deepseek_r1": (None, "<think>"),
    "gpt_oss": (None, "<|channel|>analysis<|message|>"),
    "llama_3_1": (None, None),
}


EFFORT = {"gpt_oss": {"reasoning_effort": "high"}}


@pytest.mark.parametrize("family", FAMILIES)
def test_switches_and_marks_of_real_families_are_found(family: str) -> None:
    arguments, opening = FAMILIES[family]
    template = (Path(__file__).parents[1] / f"fixtures/chat_templates/{family}.jinja").read_text()
    assert switch("off", template) == arguments
    assert (switch("high", template), switch("max", template)) == (EFFORT.get(family), None)
    assert (known_tags([template]) or (None,))[0] == opening


def test_a_budget_turns_reasoning_on_where_that_can_be_said() -> None:
    budget = settings(reasoning={"budget": 8}).reasoning
    assert switch(budget, "{{ thinking }}") == {"thinking": True}
    assert switch(budget, "{{ thinking_budget }}") == {"thinking_budget": 8}
    assert switch(budget, "{{ reasoning_effort }}") == switch(budget, "") == {}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.save_tokenizer(tmp_path_factory.mktemp("tokenizer"), marks=MARKS)


def test_the_template_is_told(tokenizer: Any) -> None:
    def prompt(template: str = QWEN, **more: Any) -> str:
        tokenizer.chat_template = template
        words = Wording(tokenizer, settings(**more))
        return str(tokenizer.decode(words.prompt([Message(role="user", content="x")])))

    assert prompt() == prompt(reasoning="on") == prompt(reasoning={"budget": 1}) == "<user>x<assistant>"
    assert prompt(reasoning="off") == "<user>x<assistant><think>\n\n</think>\n\n"
    named = {"default": QWEN, "tool_use": ""}
    assert prompt(named, reasoning="off") == prompt(reasoning="off")  # type: ignore[arg-type]
    with pytest.raises(WordingError, match="reasoning is low, but the chat template has no such switch"):
        prompt(reasoning="low")


# What the plan refuses


def model(folder: Path, template: str = "", marks: list[str] | None = None, **more: Any) -> Any:
    tiny_models.save_tokenizer(folder, marks=marks or [])
    (folder / "chat_template.jinja").write_text(template)
    return model_record("m", "0" * 16, Folder(path=str(folder), identity={}), **more)


@pytest.mark.parametrize(
    ("template", "marks", "said", "key", "what"),
    [
        ("{{ messages }}", MARKS, {"reasoning": "off"}, "reasoning", "the chat template has no such switch"),
        (QWEN, MARKS, {"reasoning": "high"}, "reasoning", "the chat template has no such switch"),
        ("{{ messages }}", [], {"reasoning": {"budget": 8}}, "reasoning", "it is unknown how it marks"),
        ("{{ thinking }}", [], {"reasoning": "on"}, "reasoning", "it is unknown how it marks"),
        ("{{ messages }}", [], {"reasoning_tokens": 8}, "reasoning_tokens", "it is unknown how it marks"),
    ],
)
def test_a_model_that_cannot_reason_so_is_refused(
    tmp_path: Path, template: str, marks: list[str], said: dict[str, Any], key: str, what: str
) -> None:
    record = model(tmp_path, template, marks, **said)
    (problem,) = reasoning_problems([record], tmp_path)
    assert (problem.where, problem.key) == (record.file, key)
    assert what in problem.what
    assert problem.fix


@pytest.mark.parametrize(
    ("template", "marks", "said"),
    [
        ("{{ messages }}", [], {}),
        (QWEN, [], {"reasoning": "off"}),
        ("{{ thinking }}", [], {"reasoning": "off"}),
        (QWEN, [], {"reasoning": {"budget": 8}}),
        ("", MARKS, {"reasoning": {"budget": 8}}),
        ("", ["<|channel|>", "<|message|>"], {"reasoning_tokens": 8}),
        ("", [], {"reasoning_tokens": 8, "reasoning_tags": ["<a>", "</a>"]}),
    ],
)
def test_one_that_can_is_not(tmp_path: Path, template: str, marks: list[str], said: dict[str, Any]) -> None:
    assert list(faults(model(tmp_path, template, marks, **said), tmp_path)) == []


def test_templates_elsewhere_are_looked_at_where_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardmark.plan import reasoning

    found = {"default": QWEN}
    monkeypatch.setattr(reasoning, "templates_elsewhere", lambda words: (None, found))
    (problem,) = reasoning_problems([model_record(reasoning="low")], tmp_path)
    assert "the chat template has no such switch" in problem.what
    assert reasoning_problems([model_record(reasoning="off"), model_record(reasoning_tokens=8)], tmp_path) == []
    found.clear()
    assert reasoning_problems([model_record(reasoning="low")], tmp_path) == []


# What the engine writes


@pytest.fixture(scope="module", params=[True, False], ids=["special", "plain"])
def thinker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that writes <think>mnop</think>yz after Q, y after R, and the same letter again after x."""
    folder = tmp_path_factory.mktemp("thinker")
    texts = ("Q<think>mnop</think>yz<eos>", "Ry")
    tiny_models.chain_model(folder, *texts, marks=MARKS, special=request.param)
    return folder, tiny_models.load_backend(folder)


def write(thinker: Any, request: GenerateRequest, **said: Any) -> Any:
    folder, loaded = thinker
    backend = tiny_models.local_backend(folder, loaded, **said)
    (prediction,) = [p for predictions in backend.answer(by_id([request])) for p in predictions]
    return prediction


def test_a_budget_ends_the_thought_with_its_mark(thinker: Any) -> None:
    def written(budget: int, prompt: str = "Q", new: int = 3, **more: Any) -> tuple[str, int, str]:
        found = write(thinker, generate(prompt, new, **more), reasoning={"budget": budget})
        return found.marked, found.thought, found.end

    assert written(2) == ("<think>mn</think>yz", 4, "eos")
    assert written(1) == ("<think>m</think>yz", 3, "eos")
    assert written(4) == written(30) == ("<think>mnop</think>yz", 6, "eos")
    assert written(2, prompt="Q<think>") == ("mn</think>yz", 3, "eos")
    assert written(2, new=1) == ("<think>mn</think>y", 4, "length")
    assert written(2, prompt="R") == ("yz", 0, "eos")


def test_tokens_of_thoughts_do_not_count_towards_the_limit(thinker: Any) -> None:
    def written(prompt: str = "Q", new: int = 2, **said: Any) -> tuple[str, str]:
        found = write(thinker, generate(prompt, new), **said)
        return found.marked, found.end

    assert written() == ("<think>m", "length")
    assert written(reasoning_tokens=6) == ("<think>mnop</think>yz", "length")
    assert written(reasoning_tokens=6, new=1) == ("<think>mnop</think>y", "length")
    assert written(reasoning_tokens=4) == ("<think>mnop</think>", "length")
    assert written(reasoning_tokens=30, max_out_len=1) == ("<think>mnop</think>y", "length")
    assert written("x", reasoning_tokens=6) == written("x") == ("xx", "length")
    assert written("x", max_out_len=4) == ("xx", "length")
    assert written("x", max_out_len=4, long_answers=True) == ("xxxx", "length")


def test_stop_strings_end_answers_and_not_thoughts(thinker: Any) -> None:
    def written(stop: str, prompt: str = "Q", **said: Any) -> tuple[str, str]:
        found = write(thinker, generate(prompt, 9, [stop]), **said)
        return found.marked, found.end

    assert written("o") == ("<think>mn", "stop")
    for said in ({"reasoning_tokens": 9}, {"reasoning": {"budget": 9}}, {"reasoning_tags": MARKS}):
        assert written("o", **said) == ("<think>mnop</think>yz", "eos")
        assert written("z", **said) == ("<think>mnop</think>y", "stop")
        assert written("o", "Q<think>", **said) == ("mnop</think>yz", "eos")


def test_marks_may_be_any_text(thinker: Any) -> None:
    found = write(thinker, generate("Q", 2), reasoning={"budget": 2}, reasoning_tags=["<think>m", "yz"])
    assert (found.marked, found.thought) == ("<think>mnoyz", 6)


@pytest.mark.parametrize("architecture", ["llama", "mamba", "bloom"])
def test_what_ends_a_thought_does_not_depend_on_what_stands_beside_it(tmp_path: Path, architecture: str) -> None:
    folder = tiny_models.random_model(tmp_path, architecture, marks=MARKS)
    loaded = tiny_models.load_backend(folder)
    drawn = {"temperature": 1.0, "samples": 2}
    requests = by_id(
        [generate(f"{n}{'<think>' * (n % 2)}", 3 + n % 3, **(drawn if n % 3 else {})) for n in range(8)]
        + [generate("a longer prompt<think>", 5)]
    )

    def answers(size: Any, order: int = 1) -> dict[str, Any]:
        backend = tiny_models.local_backend(folder, loaded, size, reasoning={"budget": 4})
        asked = dict(list(requests.items())[::order])
        return {p.id: p for predictions in backend.answer(asked) for p in predictions}

    alone = answers(1)
    texts = [output.marked for each in alone.values() for output in each.outputs]
    assert sum("</think>" in text for text in texts) >= 5
    assert answers(3) == answers("auto", -1) == alone


def test_choices_follow_a_closed_thought_or_it_is_said_that_they_do_not(tmp_path: Path) -> None:
    """The closed thought is the template's own: its white space is scored with the choice, as in lm-eval."""
    folder = tiny_models.random_model(tmp_path, marks=MARKS)
    loaded = tiny_models.load_backend(folder)
    user = [Message(role="user", content="x")]

    def scored(template: str, *pair: Any, **said: Any) -> Any:
        loaded.tokenizer.chat_template = template
        backend = tiny_models.local_backend(folder, loaded, **said)
        (prediction,) = [p for predictions in backend.answer(by_id([choice(pair)])) for p in predictions]
        return prediction

    closed = scored(QWEN, user, "A", reasoning="off")
    plain = scored(QWEN, "<bos><user>x<assistant><think>\n\n</think>\n\n".removeprefix("<bos>"), "A")
    assert not closed.opened
    assert closed.tokens == plain.tokens == [3]
    assert closed.logprobs != scored(QWEN, user, "A").logprobs
    opens = QWEN.replace("<assistant>", "<assistant><think>\n")
    assert scored(opens, user, "A").opened
    assert scored(opens.replace("<think>", "<r>"), user, "A", reasoning_tags=["<r>", "</r>"]).opened
    assert not scored(opens, "", user).opened


@pytest.mark.parametrize("meta", [None, {"round": {role: {"end": "\n<end>"} for role in ("user", "assistant")}}])
def test_an_answer_in_a_chat_ends_with_the_turn(tmp_path: Path, meta: Any) -> None:
    """Gemma 1.1's configs name only <eos>, those of many GGUF files no more."""
    folder = tiny_models.chain_model(tmp_path, "xyz<end>qr<eos>", marks=["<end>", "<other>"])
    loaded = tiny_models.load_backend(folder)
    loaded.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"

    def written(request: GenerateRequest, **said: Any) -> tuple[str, str]:
        found = write((folder, loaded), request, meta_template=meta, **said)
        return found.text, found.end

    begun = (("user", "k"), ("assistant", "x"))
    assert written(chat(*begun, new=9)) == ("yz", "eos")
    assert written(generate("x", 9)) == ("yzqr", "eos")
    assert written(chat(*begun, new=9), reasoning_tags=["<end>", "q"]) == ("yzqr", "eos"), "a mark of thoughts"


def test_the_plan_tells_of_choices_within_a_thought(tmp_path: Path) -> None:
    chats = [ChatShape(roles=("user",), is_open=True)]

    def notes(template: str, kind: str = "choice", **said: Any) -> list[str]:
        dataset = dataset_record(kind=kind, is_chat=True, chats=chats)
        lock = Lock(tmp_path / "no.lock")
        problems, notes = wording_problems(model(tmp_path, template, MARKS, **said), [dataset], tmp_path, lock)
        assert problems == []
        return [note.what for note in notes if note.key == "reasoning"]

    opens = QWEN.replace("<assistant>", "<assistant>{% if not (enable_thinking is false) %}<think>\n{% endif %}")
    (note,) = notes(opens)
    assert "its chat template opens a thought, and the choices of" in note
    assert notes(opens, reasoning="off") == notes(opens, kind="generate") == notes(QWEN) == []
    final = QWEN.replace("{{ m.content }}", "{{ '<final>' if m.role == 'assistant' }}{{ m.content }}")
    (note,) = notes(final)
    assert "its chat template writes '<final>' before an answer, and the choices of" in note
    assert notes(final, kind="generate") == []


def test_the_plan_tells_of_reasoning_that_no_prompt_shows(tmp_path: Path) -> None:
    def notes(template: str, *roles: str, **said: Any) -> list[str]:
        dataset = dataset_record(is_chat=True, chats=[ChatShape(roles=roles or ("user",), is_open=True)])
        lock = Lock(tmp_path / "no.lock")
        problems, notes = wording_problems(model(tmp_path, template, MARKS, **said), [dataset], tmp_path, lock)
        assert problems == []
        return [note.what.partition("writes ")[2] for note in notes if note.key == "reasoning"]

    granite = QWEN.partition("{% if add")[0] + "{{ 'Think.' if thinking and messages[0].role == 'user' }}"
    for setting in ("on", {"budget": 8}):
        assert notes(granite, "system", "user", reasoning=setting) == ["the same for off"]
        assert notes(granite, reasoning=setting) == []
    assert notes(granite, "system", "user") == notes(QWEN, reasoning="off") == notes(QWEN, reasoning="on") == []
    high = granite + "{{ 'Think hard.' if reasoning_effort == 'high' }}"
    assert notes(high, reasoning="high") == notes(high, reasoning="none") == []
    assert notes(high, reasoning="low") == ["the same for minimal, medium, xhigh, max"]
    assert notes(granite + "{{ reasoning_effort }}", reasoning="low") == []


APRIEL = "Use <thinking>, then [BEGIN FINAL RESPONSE].{{ messages[0].content }}"
TAGS = '["Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"]'


def test_marks_that_others_may_write_are_named_by_the_models_file(tmp_path: Path) -> None:
    def told(kind: str = "generate", **said: Any) -> list[str]:
        dataset = dataset_record(is_chat=True, chats=[ChatShape(roles=("user",), is_open=True)], kind=kind)
        record = model(tmp_path, APRIEL, MARKS, **said)
        _, notes = wording_problems(record, [dataset], tmp_path, Lock(tmp_path / "no.lock"))
        found = [*faults(record, tmp_path), *(note for note in notes if note.key == "reasoning_tags")]
        return [problem.fix.partition("reasoning_tags: ")[2] for problem in found]

    assert told() == [TAGS]
    assert told(reasoning={"budget": 8}) == [TAGS, TAGS]
    assert told(reasoning_tags=json.loads(TAGS)) == told(kind="choice") == []


def test_a_request_that_takes_too_long_ends_there(thinker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(generation.time, "monotonic", lambda: next(clock))
    found = write(thinker, generate("x", 20), request_seconds=3)
    assert (found.text, found.end) == ("xxxxx", "time")
    assert write(thinker, generate("x", 3), request_seconds=3).end == "length"


def test_channels_are_watched(tmp_path: Path) -> None:
    marks = ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"]
    tokenizer = tiny_models.save_tokenizer(tmp_path, marks=marks)
    closing = tokenizer.encode(HARMONY_TAGS[1], add_special_tokens=False)
    watch = ThoughtWatch(tokenizer, ThoughtLimits(HARMONY_TAGS, tuple(closing), budget=2), opened=False)
    text = f"{HARMONY_TAGS[0]}xy"
    for token in tokenizer.encode(text, add_special_tokens=False):
        assert not watch.exhausted
        watch.push(token)
    assert watch.exhausted
    for token in closing:
        watch.push(token)
    assert (watch.thinking, watch.length) == (False, len(tokenizer.encode(text + HARMONY_TAGS[1])) - 1)  # BOS


def test_a_model_on_the_hub_is_looked_at_when_it_is_staged(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path / "model")
    with pytest.raises(UserError, match="the chat template has no such switch"):
        stage_model(tiny_models.model_record(folder, reasoning="off"), tmp_path)
    stage_model(tiny_models.model_record(folder, reasoning_tags=MARKS), tmp_path)


def test_marks_that_nobody_knows_are_an_error(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "ab")
    loaded = tiny_models.load_backend(folder)
    with pytest.raises(Exception, match="it is unknown how it marks its thoughts"):
        write((folder, loaded), generate("a"), reasoning_tokens=8)


def test_thoughts_take_time() -> None:
    tokens = tokens_of(10, [8, 8])
    short, long = (prior_seconds(model_record(**more), tokens, 2) for more in ({}, {"reasoning_tokens": 4000}))
    assert long > 20 * short
    assert prior_seconds(model_record(reasoning_tokens=9), tokens_of(10, []), 2) == prior_seconds(
        model_record(), tokens_of(10, []), 2
    )


def test_a_chat_is_answered_in_one_way_whether_its_thought_is_opened(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "><think>mnop</think>yz<eos>", marks=MARKS)
    loaded = tiny_models.load_backend(folder)
    loaded.tokenizer.chat_template = QWEN
    asked = chat(("user", "k"), new=2)
    assert write((folder, loaded), asked, reasoning={"budget": 2}).marked == "<think>mn</think>yz"
