"""lm-eval's requests converted to our own."""

import math
from typing import Any

import msgspec

from shardmark.records.request import ChoiceRequest, Context, GenerateRequest, Request, RollingRequest
from shardmark.tasks.lm_eval.settings import LENGTHS, TaskSettings

KINDS = {
    "multiple_choice": "choice",
    "loglikelihood": "choice",
    "generate_until": "generate",
    "loglikelihood_rolling": "rolling",
}
DEFAULT_LENGTH = 256
NO_EFFECT = {"num_beams": 1}
"Settings of generation that may be given with these values, because they change nothing."


def request_of(settings: TaskSettings, arguments: list[tuple[Any, ...]]) -> Request:
    """The request for lm-eval's arguments. Raises ValueError for anything that an engine cannot do."""
    kind = KINDS[settings.output_type]
    if kind == "generate":
        prompt, generation = arguments[0]
        return _generate(settings, prompt, generation)
    if kind == "rolling":
        return RollingRequest(text=_text(arguments[0][0]))
    return ChoiceRequest(pairs=[(_context(context), _text(continuation)) for context, continuation in arguments])


def _context(value: Any) -> Context:
    return value if isinstance(value, list) else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is to be scored, but is not a text")
    return value


def _generate(settings: TaskSettings, prompt: Context, given: dict[str, Any]) -> GenerateRequest:
    """A request with generation settings read as in lm-eval: without sampling, the temperature has no effect."""
    generation = dict(given)
    until = generation.pop("until", None) or []
    lengths = [generation.pop(key) for key in LENGTHS if key in generation]
    temperature = float(generation.pop("temperature", 0.0))
    samples = generation.pop("do_sample", None)
    drawn = {key: generation.pop(key, None) for key in ("top_k", "top_p")}
    for key, value in generation.items():
        if NO_EFFECT.get(key, value is None) != value:
            raise ValueError(f"generation_kwargs.{key}: {value!r} is not supported")
    stop = [str(text) for text in (until if isinstance(until, list) else [until]) if text]
    length = int(next((value for value in lengths if value is not None), DEFAULT_LENGTH))
    if length < 1:
        raise ValueError(f"generation_kwargs: {length} new tokens are no answer")
    said: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}
    request = GenerateRequest(**said, max_new_tokens=length, stop=stop)
    if samples is False or not temperature:
        return request
    top_k, top_p = int(drawn["top_k"] or 0), 1.0 if drawn["top_p"] is None else float(drawn["top_p"])
    if not (0 < temperature < math.inf and top_k >= 0 and 0 < top_p <= 1):
        what = f"temperature {temperature:g}, top_k {top_k}, top_p {top_p:g}"
        raise ValueError(f"generation_kwargs: nothing can be sampled with {what}")
    return msgspec.structs.replace(
        request, temperature=temperature, top_k=top_k, top_p=top_p, samples=max(1, settings.repeats)
    )
