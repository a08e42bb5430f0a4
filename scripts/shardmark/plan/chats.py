"""Whether models accept the chats that they are asked, checked with their templates before anything runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from shardmark.config.reasoning import EFFORTS, NO_THOUGHTS, ReasoningBudget, give_tags, variables_of
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem, nearest
from shardmark.files import read_object
from shardmark.lock.entries import ADD, chat_templates, given_template, no_template, tokenizer_here
from shardmark.lock.lock import Lock
from shardmark.plan.template_lookup import lacks_template, templates_elsewhere
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Folder, ModelRecord, Service
from shardmark.records.request import ChatShape
from shardmark.tasks.chat_templates import ChatTemplate, WordingError, by_meta_template, by_transformers
from shardmark.texts.thoughts import mark_left_open, tags_to_name

TOKENS = ("special_tokens_map.json", "tokenizer_config.json")
"Files that name a tokenizer's special tokens; later ones take precedence."

OWN_TOKENS = ("model_specific_special_tokens", "extra_special_tokens")
"Keys of these files under which a model names special tokens of its own."

CHOSEN = "chat_template"
"The argument that selects one of several templates."

SCORED = ("choice", "loglikelihood")
"Kinds of data sets whose choices are scored after the prompt."


def wording_problems(
    record: ModelRecord, datasets: Iterable[DatasetRecord], results: Path, lock: Lock
) -> tuple[list[Problem], list[Problem]]:
    """Problems with a model's chat template for the chats it is asked, and notes for the user on how it is asked.

    A model whose template is not here yet is skipped: its first job checks it before it takes a device.
    """
    asked = list(datasets)
    chats = [dataset for dataset in asked if dataset.is_chat]
    if not asked or isinstance(record.words, Service):
        return [], []
    if not chats:
        return [], list(_idle_in_texts(record))
    if lacks_template(record, results, lock):
        return [Problem(record.file, "meta_template", no_template(record.name, chats[0].name), ADD)], []
    template = known_chat_template(record, results)
    if template is None:
        return [], []
    problems = [p for d in chats for p in shape_problems(record, template, d.chats, f"{d.name} ({d.file})")]
    notes = [Problem(record.file, "", f"model {record.name}: {note}") for note in template.notes()]
    folder, _, templates = _tokenizer_files(record, results)
    problems += unread_arguments(record, folder, templates)
    notes += _idle_reasoning(record, template, chats, results)
    notes += _unmarked_thoughts(record, template, chats)
    return problems, notes + [note for dataset in chats if (note := _thought_note(record, template, dataset))]


def _idle_in_texts(record: ModelRecord) -> Iterator[Problem]:
    """A note on the settings for chats of a model that is only asked texts."""
    settings = record.wording
    given = {key: getattr(settings, key) for key in ("meta_template", "chat_template_kwargs", "reasoning")}
    keys = [key for key, value in given.items() if value and not isinstance(value, ReasoningBudget)]
    if keys:
        what = f"model {record.name} is asked texts, and its prompts do not depend on {' and '.join(keys)}"
        yield Problem(record.file, keys[0], what, "set apply_chat_template: auto in the run or the model's file")


def unread_arguments(
    record: ModelRecord, folder: Path | None, templates: dict[str, str] | None = None
) -> Iterator[Problem]:
    """A problem for each argument in the model's file that its chat template does not read.

    A model's own code may read others.
    """
    names: set[str] = set()
    if not record.wording.chat_template_kwargs or record.wording.trust_remote_code:
        return
    with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable files are reported elsewhere
        names = variables_of(record.wording.template_text(named_templates(folder, record.wording, templates)))
    if not names:
        return
    for key in record.wording.chat_template_kwargs.keys() - names - {CHOSEN}:
        what = f"model {record.name}: its chat template does not read {key}, so this argument has no effect"
        yield Problem(record.file, f"chat_template_kwargs.{key}", what, f"drop it; or {nearest(key, names)}")


def _idle_reasoning(
    record: ModelRecord, template: ChatTemplate, datasets: Iterable[DatasetRecord], results: Path
) -> Iterator[Problem]:
    """A note on each data set with chats whose prompts do not depend on `reasoning`.

    Granite 3.3's template leaves out the instruction to think where there is a system message, and others know only
    some of the efforts.
    """
    setting = record.wording.reasoning
    if setting is None or record.wording.meta_template:
        return
    word = "on" if isinstance(setting, ReasoningBudget) else setting
    levels = [effort for effort in EFFORTS if effort not in NO_THOUGHTS] if word not in ("on", *NO_THOUGHTS) else []
    folder, settings, templates = _tokenizer_files(record, results)
    others: dict[str, ChatTemplate] = {}
    for other in ("on" if word in NO_THOUGHTS else "off", *levels):
        changed = settings.model_copy(update={"reasoning": other})
        with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable files are reported elsewhere
            can = changed.switch(named_templates(folder, changed, templates))
            if can is not None and other != word and (another := template_of(folder, changed, templates)):
                others[other] = another

    @cache
    def same(shape: ChatShape) -> list[str]:
        mine = template.example(shape)
        return [other for other, another in others.items() if another.example(shape) == mine]

    for dataset in datasets if others else ():
        with suppress(WordingError):  # this is reported elsewhere
            if found := dict.fromkeys(other for shape in dataset.chats if shape.is_open for other in same(shape)):
                what = f"reasoning: {word} changes no prompt in some chats of {dataset.name}"
                what = f"model {record.name}: {what}: its chat template writes the same for {', '.join(found)}"
                yield Problem(record.file, "reasoning", what)


def _unmarked_thoughts(
    record: ModelRecord, template: ChatTemplate, datasets: Iterable[DatasetRecord]
) -> Iterator[Problem]:
    """A note on data sets with chats that ask for thoughts in a form that no filter knows."""
    for dataset in datasets if record.wording.reasoning_tags is None else ():
        with suppress(WordingError):  # this is reported elsewhere
            prompts = (template.example(shape) for shape in dataset.chats if dataset.kind == "generate")
            if tags := next(filter(None, map(tags_to_name, prompts)), None):
                what = f"model {record.name}: its thoughts would be read as a part of the answers to {dataset.name}"
                fix = f"as no filter knows their closing mark, {tags[1]!r}: {give_tags(tags[1])}"
                yield Problem(record.file, "reasoning_tags", what, fix)


def _thought_note(record: ModelRecord, template: ChatTemplate, dataset: DatasetRecord) -> Problem | None:
    """The note on choices that follow an open thought, or the assistant's header without all that precedes an answer.

    gpt-oss opens the channel of the answer itself, and templates of reasoning models may put an empty thought there.
    """
    shapes = [shape for shape in dataset.chats if shape.is_open] if dataset.kind in SCORED else []
    with suppress(WordingError):  # this is reported elsewhere
        tags = record.wording.reasoning_tags
        if any(mark_left_open(template.example(shape), shape.begun, tags) for shape in shapes):
            what = f"its chat template opens a thought, and the choices of {dataset.name} follow it"
            fix = "set reasoning: off if the template can close it, or use kind: generate"
            return Problem(record.file, "reasoning", f"model {record.name}: {what}", fix)
    header = template.unsaid_header() if any(shape.roles[-1] != "assistant" for shape in shapes) else ""
    if header:
        what = (
            f"its chat template writes {header!r} before an answer, and the choices of {dataset.name} do not follow it"
        )
        fix = "set reasoning: off if the template then writes it into the prompt, or use kind: generate"
        return Problem(record.file, "reasoning", f"model {record.name}: {what}", fix)
    return None


def shape_problems(
    record: ModelRecord, template: ChatTemplate, shapes: Iterable[ChatShape], dataset: str
) -> list[Problem]:
    """The problem of a model with the first of a data set's chats that its template does not accept."""
    for shape in shapes:
        try:
            template.check(shape)
        except WordingError as error:
            what = f"model {record.name} cannot be asked the chats of data set {dataset}: {error}"
            return [Problem(record.file, "meta_template", what, error.fix)]
    return []


def known_chat_template(record: ModelRecord, results: Path) -> ChatTemplate | None:
    """The chat template of a model; None if it has none, or none that is known on this machine."""
    return None if isinstance(record.words, Service) else template_of(*_tokenizer_files(record, results))


def _tokenizer_files(record: ModelRecord, results: Path) -> tuple[Path | None, WordedConfig, dict[str, str] | None]:
    """The folder of a model's tokenizer, its settings, and its templates by name if they are not in the folder."""
    words, settings = record.words, record.wording
    here = tokenizer_here(record, results)
    if here or isinstance(words, Folder | Service) or given_template(settings):
        return here, settings, None
    folder, templates = templates_elsewhere(words)
    return folder, settings, templates


def template_of(
    folder: Path | None, settings: WordedConfig, templates: dict[str, str] | None = None
) -> ChatTemplate | None:
    """The chat template of the tokenizer in a folder, or the meta template in its place; None if there is neither.

    `templates` are the tokenizer's own by name, if they are not in the folder.
    """
    if meta := settings.meta_template:
        return ChatTemplate(partial(by_meta_template, meta))
    with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable files are reported elsewhere
        if apply := chat_applier(folder, settings, templates):
            spoken = settings.spoken_switch(named_templates(folder, settings, templates))
            return ChatTemplate(by_transformers(apply, settings.template_date, spoken))
    return None


def chat_applier(
    folder: Path | None, settings: WordedConfig, own: dict[str, str] | None = None
) -> Callable[..., str] | None:
    """apply_chat_template of the tokenizer in a folder, for texts, without loading it; None if it has no template.

    Special tokens that only the tokenizer's class defines are empty in it.
    """
    templates = named_templates(folder, settings, own)
    if not templates and not given_template(settings):
        return None
    tokens = special_tokens(folder, settings.tokenizer_kwargs)

    def apply(
        messages: list[dict[str, str]], chat_template: str | None = None, tools: Any = None, **kwargs: Any
    ) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        name = chat_template or ("tool_use" if tools and "tool_use" in templates else "default")
        if chat_template is None and name not in templates:
            raise ValueError(f"several chat templates ({', '.join(templates)}), but none is called default")
        text = templates.get(name, name)
        if text == name and "{" not in name:
            raise ValueError(f"no chat template is called {name!r} (there are {', '.join(templates) or 'none'})")
        texts, _ = render_jinja_template([messages], tools=tools, chat_template=text, **(tokens | kwargs))
        return str(texts[0])

    return partial(apply, **settings.template_arguments(templates))


def named_templates(folder: Path | None, settings: WordedConfig, own: dict[str, str] | None = None) -> dict[str, str]:
    """The chat templates of a tokenizer by name, for a model with these settings."""
    given = settings.tokenizer_kwargs.get("chat_template")
    if not given:
        return own or (chat_templates(folder) if folder else {})
    return given if isinstance(given, dict) else {"default": given}


def special_tokens(folder: Path | None, tokenizer_kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a tokenizer's special tokens by name, such as bos_token, from its files.

    Those that only the tokenizer's class defines, and the files do not name, are empty. Models may have tokens of their
    own, for which transformers has two keys.
    """
    named: dict[str, Any] = {"bos_token": "", "eos_token": ""}
    for part in [*(read_object(folder / name) for name in TOKENS if folder), tokenizer_kwargs]:
        named |= {key: value for key, value in part.items() if key.endswith("_token")}
        for key in OWN_TOKENS:
            named |= own if isinstance(own := part.get(key), dict) else {}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}
