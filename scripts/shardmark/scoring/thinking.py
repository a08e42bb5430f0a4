"""How the thoughts of a model are told from its answers, and how many there are."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from shardmark.config.weights import WeightsConfig
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Generated, Output, Prediction, Sampled, Scored, Written
from shardmark.records.sample import Sample
from shardmark.records.score import Reasoning
from shardmark.texts.thoughts import Tags, Thoughts, thoughts_in, without_thoughts


class Thinking(NamedTuple):
    """How a model thinks, as its file tells."""

    apart: bool = False
    "Whether its thoughts are taken off before any filter."
    tags: Tags | None = None
    "How it marks them; None for all marks that are known."

    def texts(self, prediction: Written, marked: bool) -> list[str | None]:
        """What filters are given, `marked` for those that want special tokens; None for a thought that does not end."""
        if self.apart:
            return [without_thoughts(text, tags=self.tags) for text in _whole(prediction)]
        return [output.marked if marked else output.text for output in prediction.outputs]

    def answers(self, predictions: Mapping[str, Prediction]) -> dict[str, Prediction]:
        """Predictions of lm-eval's tasks, which know no answer that is None: an empty one for a thought without end.

        As in lm-eval with `think_end_token`, white space after the thought goes, and that at the end stays.
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
        return text[found.end : found.stop].lstrip() if found.end else text

    def thoughts(self, prediction: Written) -> Iterator[tuple[Output | Generated, Thoughts]]:
        """Each output with its thoughts."""
        outputs: Iterable[Output | Generated] = prediction.outputs
        for output, text in zip(outputs, _whole(prediction), strict=True):
            yield output, thoughts_in(text, tags=self.tags)


def thinking(record: ModelRecord) -> Thinking:
    """How a model thinks."""
    settings = record.settings
    if not isinstance(settings, WeightsConfig) or not settings.tells_of_reasoning:
        return Thinking()
    return Thinking(True, settings.reasoning_tags)


def reasoning(how: Thinking, predictions: Iterable[Prediction], stripped: bool) -> Reasoning | None:
    """How much was thought for the answers to all requests; None if nothing was.

    `stripped` says whether the data set's filters take thoughts off.
    """
    found = [pair for each in predictions if not isinstance(each, Scored) for pair in how.thoughts(each)]
    thoughtful = [(output, thoughts) for output, thoughts in found if thoughts.end or thoughts.unfinished]
    if not thoughtful:
        return None
    counted = all(output.thought for output, _ in thoughtful)  # earlier versions did not
    tokens, thought = (sum(getattr(output, name) for output, _ in found) for name in ("tokens", "thought"))
    return Reasoning(
        answers=len(found),
        reasoned=len(thoughtful),
        cut=sum(thoughts.unfinished for _, thoughts in thoughtful),
        thought_tokens=thought if counted else None,
        answer_tokens=tokens - thought if counted else None,
        seen=not (how.apart or stripped),
    )


def with_facts(how: Thinking, sample: Sample, prediction: Prediction) -> Sample:
    """A sample with the whole of what was written and what is thought in it, if anything is."""
    if isinstance(prediction, Scored):
        return replace(sample, within_thought=True) if prediction.opened else sample
    output, thoughts = next(how.thoughts(prediction))
    if not (thoughts.end or thoughts.unfinished):
        return sample
    facts: dict[str, Any] = {"output": output.marked, "thought_cut": thoughts.unfinished}
    if output.thought:
        facts |= {"thought_tokens": output.thought, "answer_tokens": output.tokens - output.thought}
    if sample.outputs:
        facts["outputs"] = [each.marked for each in prediction.outputs]
    return replace(sample, **facts)


def _whole(prediction: Written) -> Iterator[str]:
    """The texts with their marks, each behind the mark that its prompt ends with."""
    return ((output.opened or prediction.opened) + output.marked for output in prediction.outputs)
