"""Answers of earlier versions are kept, but for those that only this version gives rightly."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from answered import made, wrote
from asked import chat, choice, generate, line, rolling, said
from projects import COMMIT, model_record, write_record
from shardmark.files import digest, json_line, write_whole
from shardmark.plan.outdated_answers import OutdatedAnswers
from shardmark.records.base import to_json
from shardmark.records.model import Folder, HubRepository, ModelRecord, Staged
from shardmark.records.request import Request
from shardmark.store.partials import append_partial, partial_file, partial_files, read_partial
from shardmark.store.predictions import _trailer, read_predictions, read_trailer, write_predictions
from shardmark.tasks.requests import request_id

NAME = "m@0123456789abcdef"
GENERATE = generate("a", 2, ["\n", "Q:"])
STOPPED = generate("a", 2, ["\n", "<|im_end|>"])
CHOICE = choice(("a", "b"))
CHAT = chat(("user", "a"), new=2)
SCORED = choice((said(("user", "a")), "b"))


def model(folder: Path, append: bool = False, eos: str = "</s>", **config: Any) -> ModelRecord:
    """A model's record: its tokenizer has <s> 1, </s> 2 and <|im_end|> 3, and its generation config ends with </s>."""
    from tokenizers import AddedToken, Tokenizer, models, processors

    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>", "<|im_end|>")])
    after = " </s>" if append else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A{after}", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 2} | config))
    name, _, number = NAME.partition("@")
    return model_record(name, number, Folder(path=str(folder), identity={}))


def answered(results: Path, request: Request, old: bool = True, version: int = 1) -> Path:
    """A file with the answer to a request, of an earlier version or of this one."""
    key = request_id(request)
    shard = digest([key])
    write_whole(results / f"requests/d/{shard}.jsonl", line(key, request))
    out = results / f"predictions/{NAME}/d/{shard}.jsonl"
    write_predictions(out, [wrote(key)], made())
    if old:
        *lines, last = out.read_bytes().splitlines(keepends=True)
        facts = {key: value for key, value in json.loads(last)["complete"].items() if key != "sha256"}
        out.write_bytes(b"".join(lines) + _trailer(b"".join(lines), facts | {"answers": version}))
    return out


MODELS: dict[str, tuple[dict[str, Any], list[Request]]] = {
    "no fault": ({}, []),
    "the tokenizer's EOS": ({"eos": "<|im_end|>"}, [GENERATE, STOPPED, CHAT]),
    "config's EOS": ({"eos_token_id": [2, 3]}, [GENERATE, STOPPED, CHAT]),
    "its text part's EOS": ({"text_config": {"eos_token_id": 3}}, [GENERATE, STOPPED, CHAT]),
    "EOS appended": ({"append": True}, [GENERATE, STOPPED, CHOICE]),
}


@pytest.mark.parametrize("name", MODELS)
def test_only_answers_that_were_wrong_are_given_up(tmp_path: Path, name: str) -> None:
    settings, spoilt = MODELS[name]
    former = OutdatedAnswers(model(tmp_path / "model", **settings), tmp_path)
    for request in (GENERATE, CHOICE, CHAT, STOPPED):
        assert former.spoils(answered(tmp_path, request)) == (request in spoilt or request is STOPPED)
        assert not former.spoils(answered(tmp_path, request, old=False))


@pytest.mark.parametrize("bos", ["<s>", {"content": "<s>"}])
def test_answers_to_texts_that_got_bos_twice_are_given_up(tmp_path: Path, bos: Any) -> None:
    record = model(tmp_path / "model")
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": bos}))
    doubled = [generate("<s>a"), choice(("a", "b"), ("<s>a", "c")), rolling("<s>a")]
    for request in (*doubled, GENERATE, CHOICE, choice(("", "<s>a")), chat(("user", "<s>a"))):
        spoilt = OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, request, version=4))
        assert spoilt == (request in doubled)


@pytest.mark.parametrize(("kind", "wrong"), [("gpt_neo", [CHOICE]), ("rwkv", [GENERATE]), ("llama", [])])
def test_answers_of_models_that_saw_other_tokens_are_given_up(tmp_path: Path, kind: str, wrong: list[Request]) -> None:
    record = model(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"model_type": kind}))
    for request in (GENERATE, CHOICE):
        spoilt = OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, request, version=5))
        assert spoilt == (request in wrong)


@pytest.mark.parametrize("version", [1, 2])
def test_chats_whose_template_read_the_clock_are_given_up(tmp_path: Path, version: int) -> None:
    record = model(tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}")
    for request in (GENERATE, CHOICE, CHAT):
        answers = answered(tmp_path, request, version=version)
        assert OutdatedAnswers(record, tmp_path).spoils(answers) == (request is CHAT)
    assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, CHAT, old=False))
    (tmp_path / "model/chat_template.jinja").write_text("{{ messages[0].content }}")
    assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, CHAT, version=version))


@pytest.mark.parametrize("version", [1, 2, 3, 5])
def test_texts_that_lost_the_marks_of_thoughts_are_given_up(tmp_path: Path, version: int) -> None:
    def spoilt(*tokens: str, special: bool = True) -> list[Request]:
        from tokenizers import AddedToken, Tokenizer

        record = model(tmp_path / "model")
        tokenizer = Tokenizer.from_file(file := str(tmp_path / "model/tokenizer.json"))
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([AddedToken(text) for text in tokens])
        tokenizer.save(file)
        former = OutdatedAnswers(record, tmp_path)
        asked = [GENERATE, CHOICE, CHAT]
        assert not any(former.spoils(answered(tmp_path, request, old=False)) for request in asked)
        return [request for request in asked if former.spoils(answered(tmp_path, request, version=version))]

    for tokens in (["<think>", "</think>"], ["[THINK]"], ["<|channel|>", "<|message|>"], ["<|END_THINKING|>"]):
        assert spoilt(*tokens) == ([GENERATE, CHAT] if version < 4 else [])
    assert spoilt("<|channel>", "<channel|>") == spoilt("<|inner_suffix|>") == [GENERATE, CHAT]
    assert spoilt("<think:6124c78e>") == spoilt("<ifm|think>") == [GENERATE, CHAT]
    assert spoilt("<think>", "</think>", special=False) == spoilt("<|message|>", "<thin>") == []


DROPS = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>\n{{ m.content | trim }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
SYSTEM, BLANK = chat(("system", "s"), ("user", "a"), new=2), chat(("user", "a"), ("assistant", " "), new=2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_chats_whose_system_message_was_dropped_are_given_up(tmp_path: Path, version: int) -> None:
    record = model(tmp_path / "model")
    template = tmp_path / "model/chat_template.jinja"
    template.write_text(DROPS)
    for request in (GENERATE, CHOICE, CHAT, SYSTEM, BLANK):
        answers = answered(tmp_path, request, version=version)
        assert OutdatedAnswers(record, tmp_path).spoils(answers) == (request in (SYSTEM, BLANK))
    assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, SYSTEM, old=False))
    template.write_text(DROPS.replace("m.role != 'system'", "true").replace(" | trim", ""))
    for request in (CHAT, SYSTEM, chat(("user", "a"), ("assistant", ""), new=2)):
        assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, request, version=version))


def test_chats_whose_answers_did_not_end_with_the_turn_are_given_up(tmp_path: Path) -> None:
    def spoilt(template: str, **keys: Any) -> list[Request]:
        record = model(tmp_path / "model", **keys)
        (tmp_path / "model/chat_template.jinja").write_text(template)
        former = OutdatedAnswers(record, tmp_path)
        assert not former.spoils(answered(tmp_path, CHAT, old=False))
        asked = (GENERATE, CHOICE, CHAT, SCORED)
        return [request for request in asked if former.spoils(answered(tmp_path, request, version=5))]

    turns = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    assert spoilt(turns) == [CHAT]
    ended = [spoilt(turns, eos_token_id=[2, 3]), spoilt(turns.replace("<|im_end|>", "<|im_end|></s>"))]
    assert [*ended, spoilt("{{ messages[-1].content }}")] == [[], [], []]


def test_chats_that_an_effort_did_not_turn_on_are_given_up(tmp_path: Path) -> None:
    def spoilt(template: str, **settings: Any) -> list[Request]:
        record = model(tmp_path / "model")
        (tmp_path / "model/chat_template.jinja").write_text(template)
        record = model_record("m", NAME.partition("@")[2], record.source, **settings)
        former = OutdatedAnswers(record, tmp_path)
        asked = (GENERATE, CHOICE, CHAT, SCORED)
        return [request for request in asked if former.spoils(answered(tmp_path, request, version=5))]

    both = "{{ messages[0].content }}{{ thinking }}{{ reasoning_effort }}"
    assert spoilt(both, reasoning="high") == [CHAT, SCORED]
    assert spoilt(both, reasoning="on") == spoilt(both) == []
    assert spoilt("{{ messages[0].content }}{{ reasoning_effort }}", reasoning="high") == []
    assert spoilt("{{ messages[0].content }}{{ thinking_budget }}", reasoning={"budget": 8}) == [CHAT, SCORED]
    assert spoilt(both, reasoning={"budget": 8}) == []


def test_a_stop_string_that_ended_texts_anyway_changes_nothing(tmp_path: Path) -> None:
    record = model(tmp_path / "model", eos="<|im_end|>", eos_token_id=3)
    (tmp_path / "model/generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, STOPPED))


def test_partial_answers_are_told_apart_too(tmp_path: Path) -> None:
    former = OutdatedAnswers(model(tmp_path / "model", eos="<|im_end|>"), tmp_path)
    out = answered(tmp_path, GENERATE)
    append_partial(out, [wrote("a")])
    (partial,) = partial_files(out)
    assert read_partial(partial) == [wrote("a")]
    assert not former.spoils(partial)
    with partial_file(out).open("a") as file:
        file.write(json_line((unmarked := to_json(wrote("b"))) | {"check": digest(unmarked)}))
    assert read_partial(partial) == [wrote("a"), wrote("b")]
    assert former.spoils(partial)


def test_of_a_model_on_the_hub_its_staged_files_tell(tmp_path: Path) -> None:
    record = model(tmp_path / "model", eos="<|im_end|>")
    record = replace(record, source=HubRepository(path="org/model", identity=COMMIT))
    assert not OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, GENERATE))
    staged = Staged(model=str(tmp_path / "model"), tokenizer=str(tmp_path / "model"))
    write_record(tmp_path / f"staged/{NAME}.json", staged)
    assert OutdatedAnswers(record, tmp_path).spoils(answered(tmp_path, GENERATE))


def test_a_trailer_says_which_version_answered(tmp_path: Path) -> None:
    out = answered(tmp_path, GENERATE, old=False)
    trailer = read_trailer(out)
    assert trailer
    assert trailer.answers == 6
    assert read_predictions(out)[1] == trailer
