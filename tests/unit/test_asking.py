"""What a run says over the files of data sets, and what becomes of a prompt in a chat."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from projects import choice_settings, dataset_settings, plan, problems, write_dataset, write_model
from shardmark.config.asking import as_asked, chat_wanted, literal
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.base import validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.run import RunConfig
from shardmark.errors import Problem
from shardmark.plan.gguf import UNREADABLE, gguf_template
from shardmark.records.request import Context
from shardmark.tasks import render
from shardmark.untrusted.templates import Template

ROWS = [{"q": f"{n} + {n}?", "answer": str(2 * n), "options": ["yes", "no"], "label": n % 2} for n in range(4)]
QUESTION = {"prompt": "Q: {{ q }}\nA:", "target": "answer"}
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
SHOTS = {"examples": [{"q": "1 + 1?", "target": "2"}, {"q": "2 + 2?", "target": "4"}]}


def settings(**keys: Any) -> DatasetConfig:
    return dataset_settings(**QUESTION, **keys)


def first(dataset: DatasetConfig, chat: bool, **run: Any) -> Any:
    """The request of the first row."""
    asked = as_asked(dataset, RunConfig(**run), chat, "f.yaml")
    return next(render(asked, ROWS, "f.yaml")).request


def said(context: Context) -> Any:
    return context if isinstance(context, str) else [(message.role, message.content) for message in context]


def asked(dataset: DatasetConfig, chat: bool, **run: Any) -> Any:
    request = first(dataset, chat, **run)
    return said(request.pairs[0][0] if dataset.kind == "choice" else request.context)


def test_a_prompt_is_the_users_message_and_the_preamble_the_systems() -> None:
    dataset = settings(preamble="Add.\n\n")
    assert asked(dataset, chat=False) == "Add.\n\nQ: 0 + 0?\nA:"
    assert asked(dataset, chat=True) == [("system", "Add."), ("user", "Q: 0 + 0?\nA:")]


def test_examples_are_turns_or_stand_in_the_users_message() -> None:
    dataset = settings(few_shot=SHOTS | {"answer": "\n{{ target }}\n", "separator": "--\n"})
    text = "Q: 1 + 1?\nA:\n2\n--\nQ: 2 + 2?\nA:\n4\n--\nQ: 0 + 0?\nA:"
    assert asked(dataset, chat=False) == text
    assert asked(dataset, chat=True, fewshot_as_multiturn=False) == [("user", text)]
    turns = [("user", "Q: 1 + 1?\nA:"), ("assistant", "2"), ("user", "Q: 2 + 2?\nA:"), ("assistant", "4")]
    assert asked(dataset, chat=True) == [*turns, ("user", "Q: 0 + 0?\nA:")]


@pytest.mark.parametrize("turns", [True, False])
def test_the_answer_of_an_example_has_its_space_only_behind_a_prompt(turns: bool) -> None:
    found = asked(settings(few_shot=SHOTS), chat=True, fewshot_as_multiturn=turns)
    assert found[1] == ("assistant", "2") if turns else found[0][1].startswith("Q: 1 + 1?\nA: 2\n\n")


def test_an_example_completes_the_beginning_of_an_answer_with_one_space() -> None:
    chat = [{"role": "user", "content": "{{ q }}"}, {"role": "assistant", "content": "It is "}]
    found = asked(settings(messages=chat, few_shot=SHOTS), chat=True, fewshot_as_multiturn=False)
    assert found == [
        ("user", "1 + 1?\nIt is 2\n\n2 + 2?\nIt is 4\n\n0 + 0?"),
        ("assistant", "It is "),
    ]


def test_examples_are_not_put_into_the_assistants_mouth() -> None:
    chat = [{"role": role, "content": "{{ q }}"} for role in ("system", "assistant", "user")]
    dataset = settings(messages=chat, few_shot=SHOTS)
    (problem,) = problems(as_asked, dataset, RunConfig(fewshot_as_multiturn=False), True, "f.yaml")
    assert (problem.where, problem.key) == ("f.yaml", "fewshot_as_multiturn")
    assert asked(dataset, chat=True)[1] == ("assistant", "1 + 1?")


def test_a_choice_is_what_the_assistant_says() -> None:
    own = {"continuation": " {{ choice }}."}
    for keys, text, chat in (({}, " yes", "yes"), (own, " yes.", "yes.")):
        dataset = choice_settings(**keys)
        assert first(dataset, chat=False).pairs[0] == ("0 + 0?", text)
        context, continuation = first(dataset, chat=True).pairs[0]
        assert (said(context), continuation) == ([("user", "0 + 0?")], chat)


def test_a_chat_beside_the_prompt_is_asked_in_a_chat_alone() -> None:
    chat = [{"role": "user", "content": "{{ q }}"}, {"role": "assistant", "content": "It is "}]
    dataset = settings(messages=chat, preamble="Add.\n")
    assert asked(dataset, chat=False) == "Add.\nQ: 0 + 0?\nA:"
    assert asked(dataset, chat=True) == [("user", "0 + 0?"), ("assistant", "It is ")]


def test_a_perplexity_needs_messages_that_say_what_the_answer_is() -> None:
    keys: dict[str, Any] = {"prompt": "Q: {{ q }} {{ choice }}", "scoring": "perplexity"}
    (problem,) = problems(as_asked, choice_settings(**keys), RunConfig(), True, "f.yaml")
    assert (problem.where, problem.key) == ("f.yaml", "messages")
    answer = [{"role": "user", "content": "{{ q }}"}, {"role": "assistant", "content": "{{ choice }}"}]
    whole = first(choice_settings(**keys, messages=answer), chat=True).pairs[1]
    assert (whole[0], said(whole[1])) == ("", [("user", "0 + 0?"), ("assistant", "no")])


def test_an_instruction_stands_before_all_else_and_is_no_template() -> None:
    hostile = 'Say {{ "x" }}, {% raw %} or \\n "it"'
    assert asked(settings(preamble="Add.\n"), False, system_instruction=hostile).startswith(f"{hostile}\n\nAdd.\nQ:")
    assert asked(settings(preamble="Add.\n"), True, system_instruction=hostile)[0] == ("system", f"{hostile}\n\nAdd.")
    assert asked(settings(system_instruction="Of the file."), True)[0] == ("system", "Of the file.")
    assert asked(settings(system_instruction="Of the file."), True, system_instruction="Run's.")[0][1] == "Run's."


@pytest.mark.parametrize("text", ["", "plain", "{{ a }}", "{%", '"', "\\", "a\nb\n", "{ü🎉\u2028\\u0041}", "{'#}"])
def test_a_literal_renders_to_its_text(text: str) -> None:
    assert Template(literal(text))({"a": 1}) == text


def test_examples_are_counted_and_drawn_as_the_run_says() -> None:
    drawn = settings(few_shot={"pick": "random", "count": 1, "where": "true"})
    assert asked(settings(few_shot=SHOTS), False, num_fewshot=0) == "Q: 0 + 0?\nA:"
    assert asked(settings(few_shot=SHOTS), False, num_fewshot=1) == "Q: 1 + 1?\nA: 2\n\nQ: 0 + 0?\nA:"
    assert asked(drawn, False, num_fewshot=3).count("Q: ") == 4
    assert len({asked(drawn, False, fewshot_seed=seed) for seed in range(8)}) > 1
    assert asked(settings(), False, num_fewshot=3) == "Q: 0 + 0?\nA:"
    (problem,) = problems(as_asked, settings(few_shot=SHOTS), RunConfig(num_fewshot=3), False, "f.yaml")
    assert (problem.key, "there are only 2" in problem.what) == ("few_shot.examples", True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"until": ["\n", "#", " ", "null", "5", "yes"]}, {"until": ["\n", "#", " ", "null", "5", "yes"]}),
        ({"until": "\n\n", "max_gen_toks": "9"}, {"until": "\n\n", "max_gen_toks": 9}),
        ("stop=# temperature=0.5", {"stop": "#", "temperature": 0.5}),
        ("stop=[Q,no] top_k=4", {"stop": ["Q", "no"], "top_k": 4}),
        ("temperature=0.7,top_p=0.9,do_sample=true", {"temperature": 0.7, "top_p": 0.9, "do_sample": True}),
    ],
)
def test_stop_strings_are_texts_as_they_stand(given: Any, expected: dict[str, Any]) -> None:
    assert RunConfig(gen_kwargs=given).gen_kwargs == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stop": [5]}, "stop: input should be a valid string (found 5): put it in quotes"),
        ({"until": None}, "until: "),
        ({"until": [r"\n\nQ:"]}, "double quotes"),
        (r"until=\n", "a backslash has no meaning"),
        ({"max_gen_toks": -5}, "max_gen_toks: input should be greater than 0 (found -5)"),
        ({"max_gen_toks": None}, "max_gen_toks: "),
        ({"temperature": "warm"}, "temperature: "),
        ({"temperature": True}, "temperature: expected a number"),
        ({"temperature": 0.5, "top_p": 7}, "top_p: input should be less than or equal to 1"),
        ({"do_sample": 0, "temperature": 0.5}, "do_sample: write true or false"),
        ("stop=[a", "not valid YAML"),
        ("temperature=0.5 temperature=0.6", "temperature occurs twice"),
    ],
)
def test_values_that_no_setting_of_generation_has_are_refused(given: Any, told: str) -> None:
    found: list[Problem] = []
    assert validate(RunConfig, {"gen_kwargs": given}, "run.yaml", found) is None
    assert [problem.key for problem in found] == ["gen_kwargs"]
    assert told in found[0].what


def test_how_answers_are_generated_is_nothing_to_data_sets_that_choose() -> None:
    assert asked(choice_settings(), True, gen_kwargs={"max_new_tokens": 9}) == asked(choice_settings(), True)


@pytest.mark.parametrize(("key", "value"), [("fewshot_seed", 3), ("fewshot_as_multiturn", False)])
def test_without_examples_nothing_can_be_said_of_them(tmp_path: Path, key: str, value: Any) -> None:
    shots = {"pick": "random", "count": 1, "where": "true"}
    write_model(tmp_path, "m", meta_template={"round": {"user": {"end": "\n"}, "assistant": {"end": "\n"}}})
    write_dataset(tmp_path, "one", ROWS, kind="generate", metrics=["exact_match"], **QUESTION, few_shot=shots)
    run = {"apply_chat_template": True, "num_fewshot": 0, key: value}
    assert key in [problem.key for problem in problems(plan, tmp_path, **run)]


@pytest.mark.parametrize("key", ["num_fewshot", "fewshot_seed"])
def test_true_is_no_number_of_examples(key: str) -> None:
    found: list[Problem] = []
    assert validate(RunConfig, {key: True}, "run.yaml", found) is None
    assert found[0].key == key


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_new_tokens": 9, "stop": ["x"]}, {"max_new_tokens": 9, "stop": ["x"]}),
        ({"max_gen_toks": 9, "until": "x"}, {"max_new_tokens": 9, "stop": ["x"]}),
        ({"temperature": 0.5, "top_p": 0.9, "do_sample": True}, {"temperature": 0.5, "top_p": 0.9}),
        ({"do_sample": False}, {"temperature": 0.0, "top_k": 0, "samples": 1}),
    ],
)
def test_settings_of_generation_go_before_those_of_the_file(given: Any, expected: Any) -> None:
    dataset = settings(generation={"max_new_tokens": 4, "temperature": 1.0, "top_k": 5})
    request = first(dataset, chat=False, gen_kwargs=given)
    assert {key: getattr(request, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"temprature": 1}, "temprature is not a setting of generation"),
        ({"until": "x", "stop": ["y"]}, "until and stop are the same"),
        ({"do_sample": False, "temperature": 1}, "keep one"),
        ({"do_sample": True}, "set a temperature above 0"),
    ],
)
def test_a_wrong_setting_of_generation_is_refused(given: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        RunConfig(gen_kwargs=given)


def test_what_a_metric_needs_is_not_taken_away() -> None:
    dataset = settings(
        generation={"samples": 4, "temperature": 1.0}, metrics=[{"name": "exact_match", "repeats": "maj"}]
    )
    (problem,) = problems(as_asked, dataset, RunConfig(gen_kwargs={"samples": 1}), False, "f.yaml")
    assert (problem.where, problem.key) == ("f.yaml", "metrics.0.repeats")
    assert "gen_kwargs" in problem.what
    as_asked(dataset, RunConfig(gen_kwargs={"samples": 8}), False, "f.yaml")


def test_a_text_that_is_scored_as_a_whole_has_no_instruction() -> None:
    whole = dataset_settings(kind="rolling", prompt="{{ q }}", target=None, metrics=["byte_perplexity"])
    for chat in (None, True, "auto"):
        assert chat_wanted(RunConfig(apply_chat_template=chat), whole, None) is False
    asked_whole = as_asked(whole, RunConfig(system_instruction="Be brief.", apply_chat_template=True), False, "f.yaml")
    assert next(render(asked_whole, ROWS, "f.yaml")).request.text == "0 + 0?"


def test_a_value_that_does_not_fit_a_data_set_names_its_file() -> None:
    (problem,) = problems(as_asked, settings(), RunConfig(gen_kwargs={"samples": 2}), False, "f.yaml")
    assert (problem.where, problem.key) == ("f.yaml", "gen_kwargs")
    assert "temperature" in problem.what


@pytest.mark.parametrize("kind", [DatasetConfig, LmEvalConfig])
def test_the_first_that_says_whether_to_chat_counts(kind: type) -> None:
    def wanted(run: Any, dataset: Any, model: Any) -> object:
        own: Any = {"apply_chat_template": dataset}
        given = settings(**own) if kind is DatasetConfig else LmEvalConfig(lm_eval="t", **own)
        config = TransformersConfig(path="m", backend="transformers", apply_chat_template=model)
        return chat_wanted(RunConfig(apply_chat_template=run), given, config)

    assert wanted(None, None, None) is False
    assert wanted(None, None, "auto") == "auto"
    assert wanted(None, False, True) is False
    assert wanted("auto", False, True) == "auto"
    assert wanted(False, True, True) is False


def test_messages_alone_are_a_chat_which_a_run_can_not_unsay() -> None:
    alone = settings(messages=[{"role": "user", "content": "{{ q }}"}]).model_copy(update={"prompt": None})
    assert chat_wanted(RunConfig(), alone, None) is True
    (problem,) = problems(as_asked, alone, RunConfig(apply_chat_template=False), False, "f.yaml")
    assert problem.key == "prompt"


def test_a_chat_by_switch_is_the_chat_that_is_written_out(tmp_path: Path) -> None:
    write_model(tmp_path, "m", meta_template={"round": {"user": {"end": "\n"}, "assistant": {"end": "\n"}}})
    write_dataset(tmp_path, "one")
    (switched,) = plan(tmp_path, apply_chat_template=True).datasets
    chat = [{"role": "user", "content": "Q: {{ question }}\nA:"}]
    write_dataset(tmp_path, "one", kind="generate", messages=chat, target="answer", metrics=["exact_match"])
    (written,) = plan(tmp_path).datasets
    assert (switched.digest, switched.is_chat) == (written.digest, True)


def with_template(root: Path, name: str, template: str | None) -> None:
    folder = root / "weights" / name
    write_model(root, name)
    if template:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))


def test_auto_asks_the_models_with_a_template_in_chats_and_the_others_as_texts(tmp_path: Path) -> None:
    with_template(tmp_path, "base", None)
    with_template(tmp_path, "chat", TEMPLATE)
    write_dataset(tmp_path, "one")
    found = plan(tmp_path, apply_chat_template="auto")
    assert {(p.model.name, p.dataset.name, p.dataset.is_chat) for p in found.pairs} == {
        ("base", "one", False),
        ("chat", "one", True),
    }
    assert len({pair.dataset.digest for pair in found.pairs}) == 2


def test_a_model_s_own_switch_concerns_it_alone(tmp_path: Path) -> None:
    write_model(tmp_path, "a")
    write_model(tmp_path, "b", apply_chat_template=True)
    write_dataset(tmp_path, "one")
    (problem,) = problems(plan, tmp_path)
    assert (problem.where, problem.key) == ("config/models/b.yaml", "meta_template")
    assert {pair.dataset.is_chat for pair in plan(tmp_path, apply_chat_template=False).pairs} == {False}


def test_no_digest_changes_for_a_switch_that_is_off(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "one")
    (before,) = plan(tmp_path).pairs
    (after,) = plan(tmp_path, apply_chat_template=False).pairs
    assert (before.model.digest, before.dataset.digest) == (after.model.digest, after.dataset.digest)


def gguf(*pairs: tuple[str, int, bytes]) -> bytes:
    """The header of a GGUF file with these keys, types and values."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + keys


def gguf_text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


BEFORE = [
    ("general.alignment", 4, struct.pack("<I", 32)),
    ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + gguf_text("a") + gguf_text("bb")),
    ("tokenizer.ggml.scores", 9, struct.pack("<IQ2f", 6, 2, 0.5, 1.5)),
    ("general.flag", 7, b"\x01"),
]


@pytest.mark.parametrize(
    "header",
    [
        gguf(("tokenizer.chat_template", 8, struct.pack("<Q", 2**62) + b"{{")),
        gguf(("tokenizer.chat_template", 8, struct.pack("<Q", 9) + b"{{")),
        gguf((2**9 * "a", 9, struct.pack("<IQ", 9, 1) * 5000)),
        gguf(("a", 9, struct.pack("<IQ", 8, 2**63))),
    ],
)
def test_a_header_that_is_broken_is_said_to_be(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(header)
    with pytest.raises(UNREADABLE):
        gguf_template(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("content", "has"),
    [
        (gguf(*BEFORE, ("tokenizer.chat_template", 8, gguf_text("{{ messages }}"))), True),
        (gguf(*BEFORE), False),
        (gguf(*BEFORE)[:-3], None),
        (b"GGML" + gguf(*BEFORE)[4:], None),
    ],
)
def test_the_header_of_a_gguf_file_tells_whether_it_has_a_template(
    tmp_path: Path, content: bytes, has: bool | None
) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    write_model(tmp_path, "m", path=None, gguf_file=str(tmp_path / "m.gguf"))
    write_dataset(tmp_path, "one")
    if has is None:
        (problem,) = problems(plan, tmp_path, apply_chat_template="auto")
        assert (problem.where, problem.key) == ("config/models/m.yaml", "gguf_file")
    else:
        (dataset,) = plan(tmp_path, apply_chat_template="auto").datasets
        assert dataset.is_chat is has
