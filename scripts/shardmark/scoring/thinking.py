"""Tell a model's thoughts from its answers, and count them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from shardmark.config.wording import WordedConfig
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Generated, Output, Prediction, Sampled, Scored, Written
from shardmark.records.sample import Sample
from shardmark.records.score import Reasoning
from shardmark.scoring.filter_steps import told_steps
from shardmark.texts.thoughts import Tags, Thoughts, thoughts_in, without_thoughts


class Thinking(NamedTuple):
    """How a model thinks, according to its file."""

    apart: bool = False
    "Whether its thoughts are removed before any filter."
    tags: Tags | None = None
    "The marks around thoughts; None for all known marks."

    def texts(self, prediction: Written, marked: bool) -> list[str | None]:
        """The texts for filters, `marked` for those that need special tokens; None for a thought that does not end."""
        if self.apart:
            return [without_thoughts(text, tags=self.tags) for text in _whole(prediction)]
        return [output.marked if marked else output.text for output in prediction.outputs]

    def answers(self, predictions: Mapping[str, Prediction]) -> dict[str, Prediction]:
        """Predictions for lm-eval's tasks, which cannot take None: an unfinished thought becomes an empty answer.

        As in lm-eval with `think_end_token`, white space after the thought is removed, and that at the end stays.
        """
        if not self.apart:
            return dict(predictions)
        return {key: self._answer(prediction) for key, prediction in predictions.items()}

    def _answer(self, prediction: Prediction) -> Prediction:
        match prediction:
            case Generated():
                return replace(prediction, text=self._lstripped(next(_whole(prediction))), marks=[])
            case Sampled():
                pairs = zip(prediction.samples, _whole(prediction), strict=True)
                samples = [replace(output, text=self._lstripped(text), marks=[]) for output, text in pairs]
                return replace(prediction, samples=samples)
        return prediction

    def _lstripped(self, text: str) -> str:
        found = thoughts_in(text, tags=self.tags)
        if found.unfinished:
            return ""
        answer = text[found.end : found.stop]
        return answer.lstrip() if found.end else answer

    def thoughts(self, prediction: Written) -> Iterator[tuple[Output | Generated, Thoughts]]:
        """Each output with its thoughts."""
        outputs: Iterable[Output | Generated] = prediction.outputs
        for output, text in zip(outputs, _whole(prediction), strict=True):
            yield output, thoughts_in(text, tags=self.tags)


def thinking(record: ModelRecord) -> Thinking:
    """How a model thinks."""
    settings = record.settings
    if not isinstance(settings, WordedConfig) or not settings.tells_of_reasoning:
        return Thinking()
    return Thinking(True, settings.reasoning_tags)


def reasoning(how: Thinking, predictions: Iterable[Prediction], stripped: bool) -> Reasoning | None:
    """The amount of thinking in the answers to all requests; None if there was none.

    `stripped` says whether the data set's filters remove thoughts.
    """
    found = [pair for each in predictions if not isinstance(each, Scored) for pair in how.thoughts(each)]
    thoughtful = [pair for pair in found if pair[1].end or pair[1].unfinished or _apart(pair[0])]
    if not thoughtful:
        return None
    counted = all(output.thought for output, _ in thoughtful)  # earlier versions did not
    tokens, thought = (sum(getattr(output, name) for output, _ in found) for name in ("tokens", "thought"))
    return Reasoning(
        answers=len(found),
        reasoned=len(thoughtful),
        cut=sum(thoughts.unfinished or _cut(output) for output, thoughts in thoughtful),
        thought_tokens=thought if counted else None,
        answer_tokens=tokens - thought if counted else None,
        seen=not (how.apart or stripped or all(_apart(output) for output, _ in thoughtful)),
    )


def with_facts(how: Thinking, sample: Sample, prediction: Prediction) -> Sample:
    """A sample with the complete output and the facts about the thoughts in it, if there are any."""
    if isinstance(prediction, Scored):
        return replace(sample, within_thought=True) if prediction.opened else sample
    output, thoughts = next(how.thoughts(prediction))
    if not (thoughts.end or thoughts.unfinished or _apart(output)):
        return sample
    facts: dict[str, Any] = {"output": output.marked, "thought_cut": thoughts.unfinished or _cut(output)}
    if output.reasoning:
        facts["reasoning"] = output.reasoning
    if output.thought:
        facts |= {"thought_tokens": output.thought, "answer_tokens": output.tokens - output.thought}
    if sample.steps and output.marked != sample.output:  # lm-eval's tasks are given only what follows the thoughts
        chains = {name: told_steps([output.marked], [[sample.output]]) | told for name, told in sample.steps.items()}
        facts["steps"] = None if any("0" in told for told in sample.steps.values()) else chains
    if sample.outputs:
        facts["outputs"] = [each.marked for each in prediction.outputs]
    return replace(sample, **facts)


def _apart(output: Output | Generated) -> bool:
    """Whether an endpoint returned or counted thoughts separately from the text."""
    return bool(output.reasoning or (output.served and output.thought))


def _cut(output: Output | Generated) -> bool:
    """Whether there are only such thoughts: the limit ended them, or the endpoint takes answers for thoughts."""
    return _apart(output) and output.end in ("length", "stop") and not output.text


def _whole(prediction: Written) -> Iterator[str]:
    """The texts with their marks, each after the mark that its prompt ends with."""
    return ((output.opened or prediction.opened) + output.marked for output in prediction.outputs)
