"""An endpoint's usage for a model's answers, the models that it served, and what is suspicious about the answers."""

from collections import Counter
from collections.abc import Mapping

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Generated, Output, Prediction, Sampled, Scored
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.timings import Usage
from shardmark.tasks.requests import texts_of

MOST_NAMES = 20
LEAST_WINDOW, ALIKE, STRETCH = 500, 3, 1.1
"""The least tokens of a window, the least prompts that fill it exactly, and how many times as long as the shortest of
them the longest must be: this does not happen by chance."""
DENSEST, SOME = 10, 1000
"The most characters that a token has on average, and how many a prompt may have beyond that."
LONG = 200
"The characters from which on a text is not drawn twice by chance."


def usage(record: ModelRecord, answers: Mapping[str, Prediction]) -> Usage | None:
    """Tokens, money and served models' names over all answers; None for a model that is not behind an endpoint."""
    settings = record.settings
    if not isinstance(settings, OpenaiConfig):
        return None
    read, written, uncounted, served = 0, 0, 0, Counter[str]()
    for answer in answers.values():
        served.update(_served(answer))
        if isinstance(answer, Scored):
            read, written = read + answer.read, written + answer.written
        else:
            read += sum(output.read for output in answer.outputs)
            written += sum(output.tokens for output in answer.outputs)
            uncounted += sum(map(_is_uncounted, answer.outputs))
    found = Usage(read=read, written=written, served=_commonest(served), uncounted=uncounted)
    return found.priced((settings.price.input, settings.price.output)) if settings.price else found


def _served(answer: Prediction) -> list[str]:
    """The models that gave an answer, as an endpoint names them."""
    return answer.served.split("\n") if isinstance(answer, Scored) else [output.served for output in answer.outputs]


def served_models(answers: Mapping[str, Prediction]) -> int:
    """How many models answered by the names that an endpoint gave: it may change what it serves during a run."""
    return len({name.partition(" ")[0] for answer in answers.values() for name in _served(answer)} - {""})


def cut_prompts(asked: Mapping[str, Request], answers: Mapping[str, Prediction]) -> int:
    """How many prompts an endpoint seems to have cut without a word, as Ollama's and LM Studio's servers do.

    Its counts of their tokens tell: the largest is that of prompts of quite different lengths, or one is far too small.
    Prompts that were cut here are counted elsewhere.
    """
    found = [
        (answer.outputs[0].read, len(texts_of(asked[key])[0]))
        for key, answer in answers.items()
        if not isinstance(answer, Scored) and answer.outputs[0].read and not answer.outputs[0].cut
    ]
    window = max((read for read, _ in found), default=0)
    sizes = [size for read, size in found if read == window]
    is_full = window >= LEAST_WINDOW and len(sizes) >= ALIKE and max(sizes) >= STRETCH * min(sizes)
    return sum((is_full and read == window) or size > DENSEST * read + SOME for read, size in found)


def empty_answers(answers: Mapping[str, Prediction]) -> int:
    """How many answers of an endpoint ended by themselves with nothing in them: some send such ones when overloaded."""
    written = (output for each in answers.values() if not isinstance(each, Scored) for output in each.outputs)
    return sum(
        bool(output.served) and output.end == "stop" and not (output.text or output.reasoning or output.thought)
        for output in written
    )


def same_samples(asked: Mapping[str, Request], answers: Mapping[str, Prediction]) -> int:
    """How many requests have samples, drawn at a temperature, that are all the same long text.

    An endpoint may ignore temperature and seeds, or answer from a cache: then more samples tell no more than one.
    """
    return sum(isinstance(each, Sampled) and _are_same(asked[key], each) for key, each in answers.items())


def _are_same(request: Request, answer: Sampled) -> bool:
    texts = {output.reasoning + output.text for output in answer.samples}
    is_drawn = isinstance(request, GenerateRequest) and request.temperature > 0
    return is_drawn and len(answer.samples) > 1 and len(texts) == 1 and len(texts.pop()) >= LONG


def _commonest(served: Counter[str]) -> dict[str, int]:
    """The commonest names; the others, as of an endpoint with a fingerprint for each answer, count as one."""
    kept = dict(served.most_common(MOST_NAMES))
    others = len(served) - len(kept)
    return kept | ({f"and {others:,} other names": served.total() - sum(kept.values())} if others else {})


def _is_uncounted(output: Output | Generated) -> bool:
    """Whether an answer lacks its token counts. A prompt that was refused at once has none to count."""
    if output.end == "filter" and not output.text:
        return False
    return not output.read or (not output.tokens and bool(output.text or output.reasoning))
