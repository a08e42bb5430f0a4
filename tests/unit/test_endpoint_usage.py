"""What answers of an endpoint took is summed up, and an answer whose tokens were not counted is told of."""

from typing import Any

import pytest

from fake_endpoint import record
from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.endpoints.answers import Reply, Usage
from shardmark.engine.endpoints.predictions import Predictions
from shardmark.engine.endpoints.questions import Question
from shardmark.engine.tokens import ScoredRow
from shardmark.records.prediction import Generated, Output, Sampled, Scored
from shardmark.records.request import ChoiceRequest, GenerateRequest
from shardmark.scoring.endpoint_usage import cut_prompts, same_samples, served_models, usage

MODEL = record("http://127.0.0.1:9/v1", price={"input": 1e6, "output": 2e6})


def answer(**facts: Any) -> Generated:
    return Generated(
        **({"id": "r", "text": "a", "tokens": 2, "end": "stop", "cut": 0, "read": 5, "served": "m"} | facts)
    )


def test_answers_without_counts_are_counted() -> None:
    samples = [Output(text="a", tokens=2, end="stop", cut=0, read=5), Output(text="a", tokens=0, end="stop", cut=0)]
    told = usage(
        MODEL,
        {
            "whole": answer(),
            "unread": answer(read=0),
            "unwritten": answer(tokens=0),
            "empty": answer(text="", tokens=0),
            "withheld": answer(text="", tokens=0, read=0, end="filter"),
            "samples": Sampled(id="r", samples=samples),
        },
    )
    assert told
    assert (told.read, told.written, told.money) == (20, 6, 32.0)
    assert told.uncounted == 3


def test_tokens_that_were_sent_as_such_need_no_count_of_the_endpoint() -> None:
    assert isinstance(MODEL.settings, OpenaiConfig)
    row = ScoredRow([5, 6], [6, 7], 0)
    question = Question("r", 0, {"prompt": [5, 6, 7]}, read=4, write=1, row=row)
    reply = Reply(Usage(), "m", score=(-1.0, True))
    request = ChoiceRequest(pairs=[("a", "b")])
    scored = Predictions(MODEL.settings, None).of("r", request, [(question, reply)])
    assert isinstance(scored, Scored)
    assert (scored.read, scored.written) == (3, 1)


def test_all_models_that_scored_the_choices_of_a_request_are_kept() -> None:
    assert isinstance(MODEL.settings, OpenaiConfig)
    row = ScoredRow([5, 6], [6, 7], 0)
    parts = [
        (Question("r", n, {"prompt": [5, 6, 7]}, read=4, write=1, row=row), Reply(Usage(), served, score=(-1.0, True)))
        for n, served in enumerate(["m fp_1", "m fp_2", "m fp_1"])
    ]
    scored = Predictions(MODEL.settings, None).of("r", ChoiceRequest(pairs=[("a", "b")] * 3), parts)
    told = usage(MODEL, {"r": scored})
    assert told
    assert told.served == {"m fp_1": 1, "m fp_2": 1}
    assert (told.read, told.written, told.money) == (9, 3, 15.0)
    assert served_models({"r": scored, "s": answer(served="m fp_3")}) == 1
    assert served_models({"r": scored, "s": answer(served="n fp_1"), "t": answer(served="")}) == 2


def test_of_a_fingerprint_for_each_answer_only_some_are_kept() -> None:
    answers = {str(n): answer(served=f"m fp_{n}") for n in range(100)} | {"x": answer(served="m fp_7")}
    told = usage(MODEL, answers)
    assert told
    assert (len(told.served), told.served["m fp_7"], told.served["and 80 other names"]) == (21, 2, 80)


@pytest.mark.parametrize(
    ("read", "cut"),
    [
        ([600, 4096, 4096, 4096], 3),
        ([600, 4096, 4096, 4097], 0),
        ([40, 40, 40, 40], 0),
        ([600, 2000, 500, 4096], 1),
    ],
)
def test_an_endpoint_that_reads_only_a_part_of_prompts_is_told_by_its_counts(read: list[int], cut: int) -> None:
    sizes = [200, 9_000, 16_000, 20_000] if read[0] > 40 else [100, 120, 140, 160]
    asked = {str(n): GenerateRequest(prompt="x" * size, max_new_tokens=8, stop=[]) for n, size in enumerate(sizes)}
    assert cut_prompts(asked, {str(n): answer(read=tokens) for n, tokens in enumerate(read)}) == cut
    assert cut_prompts(asked, {str(n): answer(read=tokens, cut=1) for n, tokens in enumerate(read)}) == 0


@pytest.mark.parametrize(
    ("texts", "temperature", "same"),
    [
        (["a" * 200, "a" * 200], 0.5, 1),
        (["a" * 200, "a" * 200], 0.0, 0),
        (["a" * 200, "b" * 200], 0.5, 0),
        (["a", "a"], 0.5, 0),
        (["a" * 200], 0.5, 0),
    ],
)
def test_samples_that_a_cache_may_have_given_are_told(texts: list[str], temperature: float, same: int) -> None:
    asked = GenerateRequest(prompt="q", max_new_tokens=8, stop=[], temperature=temperature, samples=len(texts))
    samples = [Output(text=text, tokens=9, end="stop", cut=0) for text in texts]
    assert same_samples({"r": asked}, {"r": Sampled(id="r", samples=samples)}) == same
