"""A chat that a model's template does not take is refused before anything runs; what it does otherwise is told."""

import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest

from asked import by_id, chat, choice, lines, said
from projects import GENERATE, model_record, plan, problems, write_dataset, write_model, write_record, write_weights
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.engine.infer import LoadedModel, answer_shard
from shardmark.files import digest
from shardmark.lock.lock import Lock
from shardmark.plan.chats import template_of, wording_problems
from shardmark.records.model import Folder, Staged
from shardmark.records.request import ChatShape, Message
from shardmark.tasks.chat_templates import NO_SYSTEM, ChatTemplate, WordingError
from shardmark.tasks.requests import chats_of

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
OPENED = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + OPENED
)
NO_BEGINNING = OPENED.replace("{{ m.content }}", "{{ m.content if m.role == 'user' else '' }}")
META = {"round": {"user": {"end": "\n"}, "assistant": {"begin": "A: ", "end": "\n"}}}
SYSTEM, USER, ANSWER = ("system", "Be brief."), ("user", "{{ question }}"), ("assistant", "It is")


def chats_dataset(root: Path, *turns: tuple[str, str], **keys: Any) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    rest = {key: value for key, value in GENERATE.items() if key != "prompt"}
    write_dataset(root, "talk", messages=messages, **rest | keys)


def model(root: Path, template: str, **keys: Any) -> None:
    folder = write_weights(root / "weights/m")
    (folder / "chat_template.jinja").write_text(template)
    write_model(root, "m", path=str(folder), **keys)


@pytest.mark.parametrize(
    ("template", "turns", "what"),
    [
        (ALTERNATE, [USER, USER], "refuses its messages: roles must alternate (of user, user)"),
        (ALTERNATE, [ANSWER, USER], "refuses its messages: roles must alternate (of assistant, user)"),
        (ALTERNATE, [SYSTEM, USER, USER], "roles must alternate (of system, user, user)"),
        (NO_BEGINNING, [USER, ANSWER], "drops the beginning of the answer, 'It is'"),
        (OPENED.replace("{{ m.content }}", "{{ m.content[:9] }}"), [USER, ANSWER], "drops the beginning"),
        ("{{ messages[-1].content }}", [USER, ANSWER, USER], "drops the message of the user"),
        ("{{ messages[0].name.first }}", [USER], "refuses its messages: "),
        ("{{ turn_token }}" + OPENED + "{{ turn_token + '' }}", [USER], "'turn_token' is undefined"),
        ("{% for %}", [USER], "the chat template is not valid: line 1"),
    ],
)
def test_a_chat_that_the_template_does_not_take_is_refused_by_the_plan(
    tmp_path: Path, template: str, turns: list[tuple[str, str]], what: str
) -> None:
    model(tmp_path, template)
    chats_dataset(tmp_path, *turns)
    (problem,) = problems(plan, tmp_path)
    assert (problem.where, problem.key) == ("config/models/m.yaml", "meta_template")
    start = "model m cannot be asked the chats of data set talk (config/datasets/talk.yaml): "
    assert problem.what.startswith(start)
    assert what in problem.what
    assert "meta_template" in problem.fix


@pytest.mark.parametrize("key", ["extra_special_tokens", "model_specific_special_tokens"])
def test_a_template_reads_special_tokens_that_only_its_model_has(tmp_path: Path, key: str) -> None:
    model(tmp_path, OPENED + "{{ turn_token + bos_token }}")
    config = tmp_path / "weights/m/tokenizer_config.json"
    config.write_text(json.dumps({key: {"turn_token": "<turn>"}}))
    chats_dataset(tmp_path, USER)
    assert plan(tmp_path).warnings == []
    config.write_text(json.dumps({key: {"turn_token": "<turn>"}, "bos_token": None}))
    (problem,) = problems(plan, tmp_path)
    assert "'bos_token' is undefined" in problem.what


def test_a_part_of_a_message_that_a_template_drops_is_told() -> None:
    def render(messages: list[Message], is_open: bool) -> str:
        return "".join(f"<{m.role}>{m.content.rpartition('</think>')[2].strip()} " for m in messages)

    template = ChatTemplate(render)
    kept = said(("user", " a  b\n"), ("assistant", "2"), ("user", "c"))
    assert template.text(kept, is_open=True) == "<user>a  b <assistant>2 <user>c "
    thought = "<think>so</think>2"
    for lost in (said(("user", thought), ("assistant", "2")), said(("user", "a"), ("assistant", thought))):
        with pytest.raises(WordingError, match="drops a part of a message of the"):
            template.text(lost, is_open=False)


@pytest.mark.parametrize(
    ("turn", "token"),
    [
        ("{{ m.content }}<end>", "<end>"),
        ("{{ m.content }}\n<end>", "<end>"),
        ("<{{ m.role }}>{{ m.content }}", "<user>"),
        ("{{ m.content }}{{ '<last>' if loop.last else '<end>' }}", ""),
        ("{{ m.content }}{{ '<end>' if not loop.last }}", "<end>"),
        ("{{ m.content }}<end><eos>", ""),
        ("{{ m.content }}.<end>", ""),
        ("{{ m.content }}", ""),
    ],
)
def test_the_token_that_ends_a_turn_is_found_in_the_template(tmp_path: Path, turn: str, token: str) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}" + turn + "{% endfor %}")
    template = template_of(tmp_path, model_record().weights)
    assert template
    assert template.turn_end(["<en", "<end>", "<user>", "<last>"], ["<eos>"]) == token


PARTS = OPENED.replace("{{ m.content }}", "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}")


@pytest.mark.parametrize("roles", [("user",), ("system", "user"), ("user", "assistant"), ("user", "assistant", "user")])
def test_a_template_may_take_lists_of_parts_only(roles: tuple[str, ...]) -> None:
    texts = []
    for template in (OPENED, PARTS):
        settings = TransformersConfig(path="x", tokenizer_kwargs={"chat_template": template})
        rendered = template_of(None, settings)
        assert rendered
        texts.append(rendered.text(said(*((role, f" {role} ") for role in roles)), is_open=True))
    assert texts[0] == texts[1]
    assert "user" in texts[0]


NEMOTRON = (
    "{% set ns = namespace(off=false) %}{% for m in messages if m.role == 'system' %}{% set ns.off = '/no_think' in "
    "m.content %}{{ m.content.replace('/no_think', '').replace('/think', '').strip() }}{% endfor %}{{ messages[-1]."
    "content }}{% if add_generation_prompt %}<assistant>{{ '<think></think>' if ns.off else '<think>' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("system", "reasoning", "prompt"),
    [
        ((), None, "x<assistant><think>"),
        ((), "off", "x<assistant><think></think>"),
        ((), {"budget": 8}, "x<assistant><think>"),
        (("Be brief. ",), "none", "Be brief.x<assistant><think></think>"),
        (("Be brief.\n/no_think",), None, "Be brief.x<assistant><think></think>"),
        (("/think",), "on", "x<assistant><think>"),
    ],
)
def test_a_system_message_may_be_the_switch(system: tuple[str], reasoning: Any, prompt: str) -> None:
    settings = TransformersConfig(path="x", tokenizer_kwargs={"chat_template": NEMOTRON}, reasoning=reasoning)
    template = template_of(None, settings)
    assert template
    chat = said(*(("system", text) for text in system), ("user", "x"))
    assert template.text(chat, is_open=True) == prompt
    assert settings.model_copy(update={"reasoning": "low"}).switch(NEMOTRON) is None
    kept = ChatTemplate(lambda messages, is_open: "".join(m.content.replace("/think", "") for m in messages))
    with pytest.raises(WordingError, match="drops a part of a message of the user"):
        kept.text(said(("user", "ls /think")), is_open=True)


def test_thoughts_in_earlier_answers_are_left_out_where_the_template_does_so() -> None:
    def render(messages: list[Message], is_open: bool) -> str:
        return "".join(f"<{m.role}>{m.content.rpartition('</think>')[2].strip()[:9]} " for m in messages)

    template = ChatTemplate(render)
    chats = [said(("user", "a"), ("assistant", f"<think>so</think> {two}"), ("user", "c")) for two in ("2", "2" * 10)]
    assert template.text(chats[0], is_open=True) == "<user>a <assistant>2 <user>c "
    with pytest.raises(WordingError, match="drops a part of a message of the assistant"):
        template.text(chats[1], is_open=True)


def test_an_argument_that_a_template_does_not_read_is_refused(tmp_path: Path) -> None:
    model(tmp_path, OPENED + "{{ enable_thinking }}", chat_template_kwargs={"enable_thinkin": False})
    chats_dataset(tmp_path, USER)
    (problem,) = problems(plan, tmp_path)
    assert problem.key == "chat_template_kwargs.enable_thinkin"
    assert "does not read enable_thinkin, so this argument has no effect" in problem.what
    assert "drop it; or did you mean 'enable_thinking'?" in problem.fix
    model(tmp_path, OPENED, chat_template_kwargs={"own": False}, trust_remote_code=True)
    assert plan(tmp_path).warnings == []
    model(tmp_path, OPENED, chat_template_kwargs={"tools": [{"name": "add"}]})
    named = tmp_path / "weights/m/additional_chat_templates"
    named.mkdir()
    (named / "tool_use.jinja").write_text(OPENED + "{{ tools }}")
    assert plan(tmp_path).warnings == []


def test_settings_for_chats_are_told_to_be_idle_in_texts(tmp_path: Path) -> None:
    write_dataset(tmp_path, "plain")
    for keys in ({"reasoning": {"budget": 8}, "reasoning_tags": ["<a>", "</a>"]}, {}):
        model(tmp_path, OPENED, **keys)
        assert plan(tmp_path).warnings == []
    model(tmp_path, OPENED + "{{ thinking }}", reasoning="off", reasoning_tags=["<a>", "</a>"])
    (note,) = plan(tmp_path).warnings
    assert (note.key, note.what) == ("reasoning", "model m is asked texts, and its prompts do not depend on reasoning")
    chats_dataset(tmp_path, USER)
    assert plan(tmp_path).warnings == []


def test_a_template_of_an_unknown_name_is_refused(tmp_path: Path) -> None:
    model(tmp_path, OPENED, chat_template_kwargs={"chat_template": "ragg"})
    chats_dataset(tmp_path, USER)
    (problem,) = problems(plan, tmp_path)
    assert "no chat template is called 'ragg' (there are default)" in problem.what


def test_a_system_message_without_a_place_is_told_once_for_a_model(tmp_path: Path) -> None:
    model(tmp_path, ALTERNATE)
    chats_dataset(tmp_path, SYSTEM, USER)
    write_dataset(tmp_path, "plain")
    assert [str(w.what) for w in plan(tmp_path).warnings] == [f"model m: {NO_SYSTEM}"]


def test_a_template_that_takes_all_needs_no_note(tmp_path: Path) -> None:
    model(tmp_path, OPENED)
    chats_dataset(tmp_path, SYSTEM, USER, ANSWER)
    assert plan(tmp_path).warnings == []


def test_a_template_that_opens_no_answer_is_told(tmp_path: Path) -> None:
    model(tmp_path, TURNS)
    chats_dataset(tmp_path, USER)
    (warning,) = plan(tmp_path).warnings
    assert "prompts end with '</>', and the model must write '<assistant>' itself" in warning.what


def test_a_meta_template_takes_a_system_message_without_a_turn_for_it(tmp_path: Path) -> None:
    write_model(tmp_path, "m", meta_template=META)
    chats_dataset(tmp_path, SYSTEM, USER)
    assert [w.what for w in plan(tmp_path).warnings] == [f"model m: {NO_SYSTEM}"]


def test_a_template_of_the_models_file_counts(tmp_path: Path) -> None:
    chats_dataset(tmp_path, USER)
    for keys in ({"tokenizer_kwargs": {"chat_template": OPENED}}, {"chat_template_kwargs": {"chat_template": OPENED}}):
        write_model(tmp_path, "m", **keys)
        assert plan(tmp_path).warnings == []


def test_chats_have_the_shapes_that_templates_tell_apart() -> None:
    begun = chat(("user", "a"), ("assistant", "b"))
    scored = choice(
        (said(("user", "a")), "x"), (said(("user", "c")), "x"), ("", said(("user", "a"), ("assistant", "b")))
    )
    shapes = [each.shape for each in (*chats_of(begun), *chats_of(scored))]
    asked = ChatShape(roles=("user",), is_open=True)
    talk = ("user", "assistant")
    assert shapes == [
        ChatShape(roles=talk, is_open=True, begun="b"),
        asked,
        asked,
        ChatShape(roles=talk, is_open=False),
    ]


def test_a_beginning_of_the_answer_that_says_nothing_has_no_shape() -> None:
    (blank,), (asked,) = (chats_of(chat(*turns)) for turns in ([("user", "a"), ("assistant", " ")], [("user", "a")]))
    assert blank.shape == asked.shape


def test_nothing_is_said_of_a_template_that_is_not_here(tmp_path: Path) -> None:
    chats_dataset(tmp_path, USER)
    write_model(tmp_path, "m", meta_template=META)
    datasets = plan(tmp_path).datasets
    assert wording_problems(model_record(), datasets, tmp_path, Lock(tmp_path / "no.lock")) == ([], [])


def test_the_template_in_a_gguf_file_is_asked_before_it_is_dequantised(tmp_path: Path) -> None:
    write_model(tmp_path, "m", path=None, gguf_file=str(tmp_path / "m.gguf"))
    chats_dataset(tmp_path, SYSTEM, USER)

    def with_header(*pairs: tuple[str, str]) -> None:
        def text(value: str) -> bytes:
            return struct.pack("<Q", len(value)) + value.encode()

        keys = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in pairs)
        (tmp_path / "m.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + keys)

    with_header(("general.name", "m"), ("tokenizer.chat_template", ALTERNATE))
    assert [w.what for w in plan(tmp_path).warnings] == [f"model m: {NO_SYSTEM}"]
    with_header(("tokenizer.chat_template", ALTERNATE.replace("m.role == 'user'", "false")))
    (problem,) = problems(plan, tmp_path)
    assert "refuses its messages: roles must alternate (of system, user)" in problem.what
    with_header(("general.name", "m"))
    (problem,) = problems(plan, tmp_path)
    assert problem.what == "data set talk asks in chats, but model m has neither a chat template nor a meta_template"
    write_model(tmp_path, "m", path=None, gguf_file=str(tmp_path / "m.gguf"), meta_template=META)
    assert len(plan(tmp_path).warnings) == 1


def loaded(folder: Path, template: str) -> LoadedModel:
    """A model whose files have been staged, and which cannot be loaded."""
    folder = write_weights(folder)
    (folder / "chat_template.jinja").write_text(template)
    record = model_record(source=Folder(path=str(folder), identity={}))
    staged = write_record(folder / "results/staged/m@0.json", Staged(model=str(folder), tokenizer=str(folder)))
    return LoadedModel(write_record(folder / "results/models/m@0.json", record), staged)


def test_a_job_looks_at_its_chats_before_it_takes_a_device(tmp_path: Path) -> None:
    asked = by_id([chat(("user", "a"), ("user", "b"))])
    ready = loaded(tmp_path / "refuses", ALTERNATE)
    requests = tmp_path / f"{digest(list(asked))}.jsonl"
    requests.write_text(lines(asked), "utf-8")
    out = tmp_path / "refuses/results/predictions/m@0/talk/a.jsonl"
    (problem,) = problems(answer_shard, ready, requests, out, 1, lambda done, total: None)
    assert "cannot be asked the chats of data set talk: the chat template refuses" in problem.what
    (tmp_path / "refuses/chat_template.jinja").write_text(OPENED)
    ready.record.wording.chat_template_kwargs["thinkin"] = True
    (problem,) = problems(answer_shard, ready, requests, out, 1, lambda done, total: None)
    assert "does not read thinkin" in problem.what


def test_a_job_logs_what_its_template_has_no_place_for(tmp_path: Path, caplog: Any) -> None:
    from shardmark.engine.infer import _check_chats

    ready = loaded(tmp_path / "merges", ALTERNATE)
    with caplog.at_level(logging.WARNING):
        _check_chats(ready, by_id([chat(("system", "s"), ("user", "b"))]), "talk")
    assert caplog.messages == [f"model m: {NO_SYSTEM}"]


def test_a_folder_without_a_template_has_none(tmp_path: Path) -> None:
    assert template_of(write_weights(tmp_path), model_record().weights) is None
