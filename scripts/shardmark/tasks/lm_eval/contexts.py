"""Contexts of documents: description, examples and question, joined by lm-eval's rules."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from shardmark.records.request import Context
from shardmark.tasks.lm_eval.fewshot import Doc, Sampler
from shardmark.tasks.lm_eval.files import functions
from shardmark.tasks.lm_eval.prompts import Prompts
from shardmark.tasks.lm_eval.style import Message, Style
from shardmark.tasks.requests import as_text


def _joined(prefix: str | None, suffix: str, delimiter: str = " ") -> str:
    """Prefix and suffix, with the delimiter between them unless one has white space there."""
    if not prefix or not suffix:
        return (prefix or "") + suffix
    apart = "" if prefix[-1].isspace() or suffix[0].isspace() else delimiter
    return prefix + apart + suffix


def turn(
    question: object, choices: Sequence[object] | None, answer: object, prefix: str | None, delimiter: str, ending: str
) -> list[Message]:
    """A question, with its answer if it is an example. Raises TypeError for values that are not text."""
    if not isinstance(question, str):
        raise TypeError(f"the question is not a text, but {question!r}")
    answered = answer is not None and answer != ""
    apart = not (question == "" or question[-1].isspace() or prefix[0].isspace()) if prefix else answered
    messages = [Message("user", question, delimiter if apart else "")]
    if answered:
        if choices and isinstance(answer, int):
            answer = choices[answer]
        elif isinstance(answer, list):
            answer = answer[0]
        if not isinstance(answer, str):
            raise TypeError(f"the answer of an example is not a text, but {answer!r}")
        messages.append(Message("assistant", _joined(prefix, answer), ending))
    elif prefix:
        messages.append(Message("assistant", prefix))
    return messages


class Contexts:
    """Makes the contexts of a task's documents, which must come in order."""

    def __init__(
        self, prompts: Prompts, pool: Sequence[Doc], sampler: Sampler | None, several_inputs: bool, style: Style
    ) -> None:
        """`several_inputs` says that the choices are contexts, and `doc_to_text` gives the right one."""
        self.prompts, self.settings, self.style = prompts, prompts.settings, style
        self.pool, self.sampler, self.several_inputs = pool, sampler, several_inputs
        self.shots = self.settings.shots
        self._kept: dict[int, list[Message]] | None = None if any(functions(self.shots.model_dump())) else {}
        "Examples by their number, unless Python makes them, which may make them differently each time."
        self._drawn: Sequence[int | Doc] = ()
        self._excludes = self.shots.split == self.settings.test_split
        keys = ("doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix")
        self._alike = all(getattr(self.shots, key) == getattr(self.settings, key) for key in keys)
        "Whether an example is written in the same way as the question."

    def head(self, doc: Doc) -> list[Message]:
        """The messages before the question."""
        description = str(self.prompts.field(doc, self.settings.description) or "")
        system = _joined(self.style.system_instruction, description, self.settings.fewshot_delimiter)
        messages = [Message("system", system)] if system else []
        count = self.settings.num_fewshot or 0
        if not count or self.sampler is None:
            return messages
        drawn = self._drawn = self.sampler.draw(count, doc if self._excludes else None)
        examples = (self._numbered(one) if isinstance(one, int) else self._example(one) for one in drawn)
        return messages + [message for example in examples for message in example]

    def common(self, head: list[Message]) -> int:
        """The number of characters of a head that all documents share; 0 if examples are drawn for each."""
        fixed = not self.settings.num_fewshot or (self.shots.sampler == "first_n" and not self._excludes)
        return len(as_text(self.style.context(head))) if fixed and head else 0

    def _numbered(self, number: int) -> list[Message]:
        if self._kept is None:
            return self._example(self.pool[number])
        if number not in self._kept:
            self._kept[number] = self._example(self.pool[number])
        return self._kept[number]

    def _example(self, doc: Doc) -> list[Message]:
        prompts, shots = self.prompts, self.shots
        question = prompts.text(doc, shots.doc_to_text)
        choices: Any = prompts.choices(doc, shots.doc_to_choice) if shots.doc_to_choice else None
        answer = prompts.target(doc, shots.doc_to_target)
        prefix = prompts.field(doc, shots.gen_prefix)
        if self.several_inputs:
            question, choices = choices[question], None
        return turn(question, choices, answer, prefix, shots.target_delimiter, shots.fewshot_delimiter)

    def holds_answer(self, doc: Doc, head: list[Message], text: Any, choices: Any, target: Any) -> bool:
        """Whether an example in a document's head is its own question with its answer, from any row."""
        if not self.settings.num_fewshot or target in (None, ""):
            return False
        shots = self.shots
        try:
            if self._alike:
                question, own = (choices[text], None) if self.several_inputs else (text, choices)
                prefix = self.prompts.field(doc, shots.gen_prefix)
                turns = turn(question, own, target, prefix, shots.target_delimiter, shots.fewshot_delimiter)
            elif self._kept is not None:
                turns = self._example(doc)
            else:  # another call of the task's own Python might change its later results
                return any((self.pool[one] if isinstance(one, int) else one) == doc for one in self._drawn)
        except (TemplateError, TypeError, LookupError, ValueError):  # it cannot be made an example, so it is none
            return False
        wanted = [message.content for message in turns]
        said = [message.content for message in head]
        return any(said[place : place + 2] == wanted for place in range(len(said) - 1))

    def contexts(self, doc: Doc, head: list[Message], text: Any, choices: Any) -> list[Context]:
        """The contexts of a document after its head: one, or one for each choice."""
        prefix, delimiter = self.prompts.prefix(doc), self.settings.target_delimiter
        if self.several_inputs:
            turns = [turn(choice, None, None, prefix, "", "\n\n") for choice in choices]
        else:
            turns = [turn(text, choices, None, prefix, delimiter, "")]
        return [self.style.context([*head, *messages]) for messages in turns]
