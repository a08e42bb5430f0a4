"""The backend `openai` against an endpoint on loopback: what it is asked, and what becomes of its answers."""

import json
import logging
import os
import random
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from asked import by_id, chat, generate
from fake_endpoint import Fault, choices, record, serving
from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.endpoints import asking, client
from shardmark.engine.endpoints import backend as backends
from shardmark.engine.endpoints.backend import MAX_COST, EndpointBackend, open_backend
from shardmark.engine.endpoints.dialect import Dialect
from shardmark.engine.endpoints.failures import Failure
from shardmark.engine.endpoints.questions import Questions
from shardmark.errors import UserError
from shardmark.plan.endpoint_access import read_secrets
from shardmark.records.model import Staged
from shardmark.records.prediction import Generated, Part, Prediction, Sampled
from shardmark.store.partials import PartialStore, partial_files, read_partial
from shardmark.tasks.frames import as_sent

pytestmark = pytest.mark.usefixtures("one_authority")
NOTHING = Staged(model="", tokenizer="")
KEY = "sk-not-to-be-seen-anywhere"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One results folder, so that one limiter serves all tests here."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 0.02)


Open = Callable[..., EndpointBackend]


@pytest.fixture
def opened(results: Path) -> Iterator[Open]:
    """A function that opens the backend of a model at an address."""
    held: list[EndpointBackend] = []

    def open_one(url: str, **settings: Any) -> EndpointBackend:
        backend = open_backend(record(url, **settings), NOTHING, lambda: None)
        backend.join(results, os.getpid())
        held.append(backend)
        return backend

    yield open_one
    for backend in held:
        backend.close()


def answers(backend: EndpointBackend, requests: dict[str, Any]) -> dict[str, Any]:
    """All predictions, each of which comes once."""
    found = [prediction for batch in backend.answer(requests) for prediction in batch]
    assert len({prediction.id for prediction in found}) == len(found)
    return {prediction.id: prediction for prediction in found}


def broken_off(backend: EndpointBackend, requests: dict[str, Any], error: Any = UserError) -> tuple[list[Any], Any]:
    """What is answered all the same, and the error that ends it."""
    found: list[Prediction] = []
    try:
        for batch in backend.answer(requests):
            found += batch
    except error as caught:
        return found, caught
    pytest.fail("no error")


def some(count: int, **more: Any) -> dict[str, Any]:
    return by_id([chat(("user", f"hello {n}"), **more) for n in range(count)])


def test_each_request_is_asked_once_and_its_answer_filed_under_it(opened: Open) -> None:
    requests = some(50)
    with serving() as endpoint:
        found = answers(opened(endpoint.url), requests)
        assert {key: found[key].text for key in requests} == {
            key: f"re: {request.messages[0].content}" for key, request in requests.items()
        }
        assert set(endpoint.asked.values()) == {1}
    first = next(iter(found.values()))
    assert isinstance(first, Generated)
    assert (first.tokens, first.read, first.served, first.end) == (3, 7, "fake-1 fp_1", "stop")


def test_a_chat_is_sent_with_its_decoding_and_nothing_more(opened: Open) -> None:
    with serving() as endpoint:
        answers(opened(endpoint.url), by_id([chat(("system", "Be brief."), ("user", "2 + 2?"), new=5, stop=["\n"])]))
        (body,) = endpoint.bodies
        assert endpoint.paths == {"/v1/chat/completions"}
    assert body == {
        "model": "fake",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": ["\n"],
    }


def test_the_limit_of_an_answer_is_the_lower_one_unless_the_model_answers_at_length(opened: Open) -> None:
    with serving() as endpoint:
        for more in ({}, {"max_out_len": 3}, {"max_out_len": 9}, {"max_out_len": 9, "long_answers": True}):
            answers(opened(endpoint.url, **more), by_id([chat(("user", "2 + 2?"), new=5)]))
        assert [body["max_tokens"] for body in endpoint.bodies] == [5, 3, 5, 9]


def test_a_text_is_sent_as_it_is_if_there_is_no_tokenizer(opened: Open) -> None:
    with serving() as endpoint:
        found = answers(opened(endpoint.url, api="completions"), by_id([generate("Once \ud83d", new=4)]))
        (body,) = endpoint.bodies
        assert endpoint.paths == {"/v1/completions"}
    assert body == {"model": "fake", "prompt": "Once \ufffd", "max_tokens": 4, "temperature": 0.0}
    assert next(iter(found.values())).text == "re: Once \ufffd"


def test_a_chat_that_is_rendered_here_is_kept_as_the_text_that_was_sent(opened: Open) -> None:
    meta = {"round": {"user": {"begin": "Q: ", "end": "\n"}, "assistant": {"begin": "A:", "end": "\n"}}}
    request = chat(("user", "2 + 2?"), new=4)
    with serving() as endpoint:
        rendered = answers(opened(endpoint.url, api="completions", meta_template=meta), by_id([request]))
        as_messages = answers(opened(endpoint.url), by_id([request]))
        prompt = endpoint.bodies[0]["prompt"]
    assert [as_sent(request.context, found) for found in rendered.values()] == [prompt] == ["Q: 2 + 2?\nA:"]
    assert [as_sent(request.context, found) for found in as_messages.values()] == [None]


def test_samples_are_asked_one_by_one_each_with_a_seed_of_its_own(opened: Open) -> None:
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_new_tokens": 1, "samples": 5}
    with serving() as endpoint:
        backend = opened(endpoint.url, api="completions")
        (prediction,) = answers(backend, by_id([generate("a", **drawn)])).values()
        bodies = list(endpoint.bodies)
        answers(backend, by_id([generate("a", **drawn)]))
        assert {body["seed"] for body in bodies} == {body["seed"] for body in endpoint.bodies[5:]}
    assert isinstance(prediction, Sampled)
    assert len(prediction.samples) == 5
    assert len({body["seed"] for body in bodies}) == 5
    (rest,) = {json.dumps({key: value for key, value in body.items() if key != "seed"}) for body in bodies}
    assert json.loads(rest) == {
        "model": "fake",
        "prompt": "a",
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_tokens": 1,
    }


def test_the_models_file_says_more(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    monkeypatch.setenv("TEAM", "blue")
    fields = {"top_a": 1, "team": ["${TEAM}", "not ${TEAM}"]}
    settings = {"api_key_env": "FAR_KEY", "headers": {"X-Team": "team ${TEAM}"}, "extra_body": fields}
    settings |= {"answer_headers": {"X-Beta": "b"}, "reasoning": "low", "reasoning_tokens": 100, "max_out_len": 6}
    with serving() as endpoint:
        answers(opened(f"{endpoint.url}?api-version=1", **settings), some(1))
        (body,), (headers,) = endpoint.bodies, endpoint.headers
    assert endpoint.paths == {"/v1/chat/completions?api-version=1"}
    assert (body["top_a"], body["reasoning_effort"], body["max_tokens"]) == (1, "low", 106)
    assert (headers["authorization"], headers["x-team"], headers["x-beta"]) == (f"bearer {KEY}", "team blue", "b")
    assert body["team"] == ["blue", "not ${TEAM}"]


def test_no_key_is_sent_where_none_is_named(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {KEY}\nauthorization: {KEY}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving() as endpoint:
        answers(opened(endpoint.url), some(1))
        (headers,) = endpoint.headers
    assert KEY not in str(headers)
    assert "authorization" not in headers


def test_no_header_of_the_environment_replaces_the_key_or_a_header_of_the_file(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", "far")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: other\nX-Team: other")
    with serving() as endpoint:
        answers(opened(endpoint.url, api_key_env="FAR_KEY", headers={"x-team": "mine"}), some(1))
        (headers,) = endpoint.headers
    assert (headers["authorization"], headers["x-team"]) == ("bearer far", "mine")


def test_variables_that_are_missing_are_named_together(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", f"{KEY}\n")
    settings = {"api_key_env": "NO_SUCH_KEY", "headers": {"X-A": "${NO_SUCH_A}", "X-B": "${BROKEN}"}}
    with pytest.raises(UserError) as caught:
        opened("http://127.0.0.1:9/v1", **settings)
    assert [problem.key for problem in caught.value.problems] == ["api_key_env", "headers.X-A", "headers.X-B"]
    assert KEY not in str(caught.value)


def test_an_answer_that_was_begun_is_gone_on_with_where_the_endpoint_can(opened: Open) -> None:
    begun = by_id([chat(("user", "2 + 2?"), ("assistant", "It is"))])
    with serving() as endpoint:
        with pytest.raises(UserError, match="continue_final_message: true"):
            answers(opened(endpoint.url), begun)
        assert not endpoint.bodies
        answers(opened(endpoint.url, continue_final_message=True), begun)
        assert endpoint.bodies[0]["continue_final_message"] is True
        assert endpoint.bodies[0]["add_generation_prompt"] is False


def test_requests_that_cannot_be_asked_are_refused_together_before_any_is(opened: Open) -> None:
    with serving() as endpoint:
        with pytest.raises(UserError) as caught:
            answers(opened(endpoint.url), some(3) | by_id([generate("a"), generate("b")]))
        assert not endpoint.bodies
    (problem,) = caught.value.problems
    assert "2 and" not in problem.what
    assert "requests" in problem.what
    assert "api: completions" in problem.fix


def refused(endpoint_body: Any, status: int) -> Callable[[str, int], Fault]:
    return lambda *_: Fault("status", status, body=endpoint_body)


@pytest.mark.parametrize(
    ("status", "message", "key", "fix"),
    [
        (401, "Incorrect API key", "api_key_env", "api_key_env"),
        (400, "API key not valid. Please pass a valid API key.", "api_key_env", "api_key_env"),
        (403, "no access", "api_key_env", "api_key_env"),
        (404, "The model `fake` does not exist", "model", "model"),
        (404, "Not Found", "base_url", "address"),
        (402, "Payment required", "api_key_env", "top up the account"),
        (308, "moved", "base_url", "address"),
    ],
)
def test_an_error_that_holds_for_all_ends_the_job_at_once(
    opened: Open, status: int, message: str, key: str, fix: str
) -> None:
    with serving(fault=refused({"error": {"message": message}}, status)) as endpoint:
        with pytest.raises(UserError) as caught:
            answers(opened(endpoint.url, concurrency=4), some(200))
        assert len(endpoint.bodies) <= 8
    (problem,) = caught.value.problems
    assert (problem.where, problem.key) == ("config/models/far.yaml", key)
    assert f"HTTP {status}: {message}" in problem.what
    assert fix in problem.fix


def test_a_request_that_is_refused_is_named_and_the_others_are_answered(opened: Open) -> None:
    def fault(text: str, _: int) -> Fault | None:
        told = {"error": {"message": f"{text[:5]} is beyond the maximum context length", "code": "context_length"}}
        return Fault("status", 400, body=told) if text in ("hello 3", "hello 4") else None

    with serving(fault=fault) as endpoint:
        found, caught = broken_off(opened(endpoint.url), some(100))
        assert endpoint.asked["hello 3"] == 1
    assert len(found) == 98
    (problem,) = caught.problems
    assert re.search(r"model far, requests \w{16}, \w{16}: HTTP 400", problem.what)
    assert "max_seq_len" in problem.fix


def test_a_prompt_that_is_withheld_is_an_answer_that_says_so(opened: Open) -> None:
    told = {"error": {"message": "flagged", "code": "content_filter"}}
    with serving(fault=refused(told, 400)) as endpoint:
        (prediction,) = answers(opened(endpoint.url), some(1)).values()
    assert (prediction.text, prediction.end) == ("", "filter")


def test_fields_that_an_endpoint_refuses_are_sent_otherwise_where_that_changes_nothing(opened: Open) -> None:
    """As OpenAI's reasoning models, and with more stop strings than OpenAI takes."""
    stop = ["\n", "h", "b", "c", "d"]

    def strict(body: dict[str, Any]) -> str:
        if "max_tokens" in body:
            return "max_tokens"
        if "stop" in body:
            return "stop"
        return ""

    def fault(*_: Any) -> Fault | None:
        name = strict(endpoint.bodies[-1])
        told = {"message": f"Bad {name}. Use max_completion_tokens.", "param": name}
        return Fault("status", 400, body={"error": told}) if name else None

    with serving(fault=fault) as endpoint:
        found = answers(opened(endpoint.url, concurrency=1), some(10, stop=stop))
        assert len(endpoint.bodies) == 13
        assert endpoint.bodies[2]["stop"] == stop[:4]
        assert endpoint.bodies[-1]["max_completion_tokens"] == 8
    assert {prediction.text for prediction in found.values()} == {"re: hello "[:4]}


def test_an_effort_that_the_model_refuses_ends_the_job_before_requests_are_burnt(opened: Open) -> None:
    told = {"error": {"message": "Unsupported value: 'xhigh'", "param": "reasoning_effort"}}
    with serving(fault=refused(told, 400)) as endpoint:
        with pytest.raises(UserError) as caught:
            answers(opened(endpoint.url, reasoning="xhigh", concurrency=2), some(200))
        assert len(endpoint.bodies) <= 4
        told["error"] |= {"message": "Unknown field 'top_a'", "param": None}
        with pytest.raises(UserError, match=re.escape("extra_body.top_a: model far, request")):
            answers(opened(endpoint.url, extra_body={"top_a": 1}, concurrency=2), some(200))
    (problem,) = caught.value.problems
    assert problem.key == "reasoning"


def test_only_the_field_that_an_error_of_vllm_locates_is_sent_otherwise(opened: Open) -> None:
    """The error also repeats the whole request."""

    def fault(*_: Any) -> Fault | None:
        body = endpoint.bodies[-1]
        told = {"message": f"[{{'type': 'extra', 'loc': ('body', 'top_p'), 'input': {body}}}]", "param": None}
        return Fault("status", 400, body={"error": told}) if "top_p" in body else None

    requests = by_id([generate(text, temperature=1.0, stop=["x"]) for text in "ab"])
    with serving(fault=fault) as endpoint:
        answers(opened(endpoint.url, api="completions", concurrency=1), requests)
        assert len(endpoint.bodies) == 3
        assert endpoint.bodies[-1].keys() >= {"stop", "seed", "temperature", "max_tokens"}
        endpoint.fault = refused({"error": {"message": "x", "param": "body.seed"}}, 400)
        endpoint.bodies.clear()
        broken_off(opened(endpoint.url, api="completions", concurrency=1), requests)
        assert ["seed" in body for body in endpoint.bodies][:2] == [True, False]


def test_of_several_fields_in_an_error_the_first_is_at_fault() -> None:
    dialect, body = Dialect(), {"seed": 1, "top_p": 1, "temperature": 1}
    refused = client.Refused(400, Failure("'temperature' is not supported; top_p and seed are"))
    refused.body = body
    assert dialect.learns(refused)
    assert dialect.adapted(body).keys() == {"seed", "top_p"}


def test_a_limit_that_is_too_high_is_not_sent_under_a_name_that_the_endpoint_may_ignore() -> None:
    refused = client.Refused(422, Failure("max_tokens: must be at most 4096", parameter="max_tokens"))
    refused.body = {"max_tokens": 5000}
    assert not Dialect().learns(refused)


def test_fields_of_a_models_file_may_be_read_with_each_prompt() -> None:
    def most(**more: Any) -> int:
        config = OpenaiConfig.model_validate({"base_url": "http://127.0.0.1:9/v1", "model": "m"} | more)
        return Questions(config, None).of("r", chat(("user", "a")))[0].read

    assert most(extra_body={"tools": ["é" * 1000]}) - most() >= 2000


def test_a_slow_pace_is_no_silence(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SILENCE_SECONDS", 0.2)
    busy = Fault("status", 503)
    with serving(fault=lambda text, nth: busy if text == "hello 1" and nth == 1 else None) as endpoint:
        found = answers(opened(endpoint.url, requests_per_minute=120), some(2))
    assert len(found) == 2
    tries = asking.Tries()
    for _ in range(2):
        tries.pause(client.Again("busy", "503"), silent=3600)
    with pytest.raises(asking.Unanswered, match="has answered nothing"):
        tries.pause(client.Again("busy", "503"), silent=7200)


def test_stop_strings_that_are_special_tokens_are_noted_once(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as endpoint:
        for more in ({}, {"extra_body": {"skip_special_tokens": False}}):
            backend = opened(endpoint.url, **more)
            for _ in range(2):
                answers(backend, some(1, stop=["<|im_end|>", "</answer>", "\n"]))
    (note,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert note.startswith("the stop strings '<|im_end|>' seem to be special tokens")


def test_a_field_that_matters_is_an_error_that_names_it(opened: Open) -> None:
    told = {"error": {"message": "Unsupported value: 'temperature' does not support 0", "param": "temperature"}}
    with serving(fault=refused(told, 400)) as endpoint, pytest.raises(UserError) as caught:
        answers(opened(endpoint.url), some(1))
    (problem,) = caught.value.problems
    assert "generation.temperature" in problem.fix


FAULTS = {
    "limited": Fault("status", 429),
    "later": Fault("status", 429, {"retry-after": "0.1"}),
    "busy": Fault("status", 503, {"retry-after-ms": "50"}),
    "failed": Fault("status", 500, body="oops"),
    "gateway": Fault("status", 502, body="<html>"),
    "reset": Fault("reset"),
    "half": Fault("half"),
    "broken": Fault("broken"),
    "none": Fault("answer", body=choices()),
    "two": Fault("answer", body=choices("a", "b")),
    "in_200": Fault("answer", body={"error": {"message": "overloaded", "code": 503}}),
    "silent": Fault("silent"),
    "endless": Fault("endless"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_passes_is_asked_again_until_it_is_answered(opened: Open, kind: str) -> None:
    with serving(fault=lambda text, nth: FAULTS[kind] if nth <= 2 and text.endswith("1") else None) as endpoint:
        found = answers(opened(endpoint.url, timeout=0.5, concurrency=8), some(12))
        assert {text: count for text, count in endpoint.asked.items() if count > 1} == {"hello 1": 3, "hello 11": 3}
        assert set(endpoint.answered.values()) == {1}
    assert {prediction.text for prediction in found.values()} == {f"re: hello {n}" for n in range(12)}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        (lambda: {"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}, 3600.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:30 GMT"}, 7.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_an_endpoint_asks_for_is_read_in_all_forms(
    headers: dict[str, str] | Callable[[], dict[str, str]], seconds: float
) -> None:
    given = headers() if callable(headers) else headers  # a date is an hour from the test, not from its collection
    found = client.retry_after(client.httpx2.Headers(given))
    assert found == pytest.approx(seconds, abs=120 if seconds == 3600 else 0)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please retry in 2.5s.", 2.5),
        ("Please try again in 7m12s. Visit ...", 432.0),
        ("Please try again in 500ms.", 0.5),
        ("try again in 1h2m", 3720.0),
        ("Try again in a while", None),
    ],
)
def test_so_is_one_in_a_message(message: str, seconds: float | None) -> None:
    again = client.judged(429, Failure(message))
    assert isinstance(again, client.Again)
    assert again.after == seconds


def test_pauses_grow_with_jitter_and_are_never_shorter_than_the_endpoint_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 4.0)
    for before, longest in enumerate((1, 2, 4, 4)):
        every = [asking.Tries(asking.Counter(limited=before)) for _ in range(50)]
        pauses = {tries.pause(client.Again("limited", "429"), silent=0) for tries in every}
        assert len(pauses) > 40
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert asking.Tries().pause(client.Again("limited", "429", after=30), silent=0) >= 30


def test_an_answer_larger_than_any_should_be_is_no_answer(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 1000)
    with serving(fault=lambda _, nth: Fault("answer", body=choices("x" * 2000)) if nth == 1 else None) as endpoint:
        (prediction,) = answers(opened(endpoint.url), some(1)).values()
    assert prediction.text == "re: hello 0"


def test_a_question_that_always_fails_is_named_and_the_others_are_answered(opened: Open) -> None:
    with serving(fault=lambda text, _: FAULTS["two"] if text == "hello 7" else None) as endpoint:
        found, caught = broken_off(opened(endpoint.url), some(20))
    assert len(found) == 19
    assert re.search(r"asked 12 times.*2 choices instead of one", str(caught))


@pytest.mark.parametrize("status", [408, 409, 504, 524])
def test_so_is_one_for_which_a_gateway_never_waits(opened: Open, status: int) -> None:
    with serving(fault=lambda text, _: Fault("status", status) if text == "hello 1" else None) as endpoint:
        found, caught = broken_off(opened(endpoint.url), some(3))
    assert len(found) == 2
    assert re.search(rf"asked 12 times.*HTTP {status}", str(caught))


def test_moderation_of_a_prompt_is_an_answer_that_says_so(opened: Open) -> None:
    told = {"error": {"code": 403, "message": "the input was flagged", "metadata": {"reasons": ["violence"]}}}
    fault = Fault("status", 403, body=told)
    with serving(fault=lambda text, _: fault if text == "hello 1" else None) as endpoint:
        found = answers(opened(endpoint.url), some(3))
    assert sorted(prediction.end for prediction in found.values()) == ["filter", "stop", "stop"]


def test_an_endpoint_that_is_down_is_waited_for(opened: Open) -> None:
    with serving() as endpoint:
        backend = opened(endpoint.url, concurrency=4)
        endpoint.seconds = 0.01
        found: list[Prediction] = []
        for batch in backend.answer(some(60)):
            if len(found) < 20 <= len(found) + len(batch):
                endpoint.down()
                endpoint.up()
            found += batch
        assert len({prediction.id for prediction in found}) == 60
        assert set(endpoint.answered.values()) <= {1, 2}


def test_one_that_stays_away_is_given_up(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SILENCE_SECONDS", 0.3)
    with pytest.raises(UserError, match="has answered nothing for") as caught:
        answers(opened("http://127.0.0.1:9/v1"), some(5))
    assert caught.value.problems[0].key == "base_url"


def test_an_endpoint_that_asks_for_hours_is_not_waited_for(opened: Open) -> None:
    with serving(fault=lambda *_: Fault("status", 429, {"retry-after": "86400"})) as endpoint:
        _, caught = broken_off(opened(endpoint.url), some(5))
    assert "asks to wait for 86,400 s" in str(caught)


def test_a_request_that_no_minute_has_room_for_is_not_repeated(opened: Open) -> None:
    told = {"message": "Request too large for gpt-x on tokens per min (TPM): Limit 10", "code": "rate_limit_exceeded"}
    fault = Fault("status", 429, body={"error": told})
    with serving(fault=lambda text, _: fault if text == "hello 1" else None) as endpoint:
        found, caught = broken_off(opened(endpoint.url), some(3))
        assert endpoint.asked["hello 1"] == 1
    assert len(found) == 2
    assert "lower max_new_tokens" in caught.problems[0].fix


@pytest.mark.parametrize(
    "place",
    [
        {"api_key_env": "FAR_KEY"},
        {"headers": {"X-Key": "Bearer ${FAR_KEY}"}},
        {"extra_body": {"a": [{"token": "${FAR_KEY}"}]}},
    ],
    ids=str,
)
def test_a_key_is_nowhere_even_if_the_endpoint_repeats_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: dict[str, Any]
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return choices(f"your key is {KEY}", model=KEY)

    def fault(text: str, nth: int) -> Fault | None:
        if text == "hello 1":
            return Fault("status", 400, body={"error": {"message": "x" * 490 + KEY}})
        return Fault("status", 500, body={"error": {"message": KEY}}) if nth == 1 else None

    with serving(answer, fault) as endpoint:
        found, caught = broken_off(opened(endpoint.url, **place), some(3))
    seen = f"{found} {caught} {caplog.text}"
    assert "your key is ***" in seen
    assert KEY[:12] not in seen


@pytest.mark.parametrize("slash", ["/", "\\/", "\\u002F", "\\u002f"])
def test_a_key_is_hidden_however_json_writes_it(monkeypatch: pytest.MonkeyPatch, slash: str) -> None:
    monkeypatch.setenv("FAR_KEY", "ab/cd+ef/gh==")
    secrets = read_secrets(record("http://127.0.0.1:9/v1", api_key_env="FAR_KEY").settings, "far.yaml")  # type: ignore[arg-type]
    body = f'{{"model": "ab/c ab{slash}cd+ef{slash}gh=="}}'
    assert secrets.hidden_in(body.encode()) == b'{"model": "ab/c ***"}'
    assert secrets.address("https://x/ab%2Fcd%2Bef%2Fgh%3D%3D/y?key=ab%2Fcd") == "https://x/***/y"


def test_no_key_follows_a_redirect(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with serving() as other, serving() as endpoint:
        endpoint.fault = lambda *_: Fault("status", 307, headers={"location": f"{other.url}/chat/completions"})
        with pytest.raises(UserError, match=f"base_url.*it redirects to {other.url}"):
            answers(opened(endpoint.url, api_key_env="FAR_KEY"), some(1))
        assert not other.headers


@pytest.mark.parametrize("cut", range(1, len(KEY), 4))
def test_no_part_of_a_key_is_left_where_what_repeats_it_is_cut(
    opened: Open, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with serving(lambda _: choices("a", model="x" * (200 - cut) + KEY)) as endpoint:
        (prediction,) = answers(opened(endpoint.url, api_key_env="FAR_KEY"), some(1)).values()
        endpoint.answer = lambda _: choices("a", reason="x" * (100 - cut) + KEY)
        _, caught = broken_off(opened(endpoint.url, api_key_env="FAR_KEY"), some(1))
    for said in (prediction.served, str(caught)):
        assert "xxx" in said
        assert KEY[0] not in said.rpartition("xxx")[2][:4]


@pytest.mark.parametrize("key", ["ollama", "lm-studio", "not needed", "secret"])
def test_a_word_in_the_place_of_a_key_changes_no_answer(
    opened: Open, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("FAR_KEY", key)
    with serving(lambda _: choices(f"I like {key}.")) as endpoint:
        (prediction,) = answers(opened(endpoint.url, api_key_env="FAR_KEY"), some(1)).values()
    assert prediction.text == f"I like {key}."


def test_a_process_may_have_as_many_files_open_as_requests_in_flight(opened: Open) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        backend = opened("http://127.0.0.1:9/v1", concurrency=500)
        backend.asker()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_money_is_spent_up_to_max_cost_and_what_is_answered_is_kept(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_COST, "0.000200")
    with serving(
        lambda body: choices("a" * 8, usage=None) | {"usage": {"prompt_tokens": 7, "completion_tokens": 8}}
    ) as endpoint:
        backend = opened(endpoint.url, price={"input": 0, "output": 1}, concurrency=4)
        found, caught = broken_off(backend, some(100))
        assert len(found) == len(endpoint.bodies) == 25
    (problem,) = caught.problems
    assert problem.key == "max_cost"
    assert "0.0002 of 0.0002 has been spent" in problem.what
    assert "25 of the 100 requests" in problem.what


@pytest.mark.parametrize("price", [{"input": 0, "output": 1}, {"input": 1, "output": 0}])
def test_answers_that_cost_more_than_was_thought_possible_exceed_no_max_cost(
    opened: Open, monkeypatch: pytest.MonkeyPatch, price: dict[str, int]
) -> None:
    """An endpoint that ignores the limit of an answer, or reads a long prompt of its own."""
    monkeypatch.setenv(MAX_COST, "0.100")
    monkeypatch.setattr(backends, "LEDGER", f"money for {min(price, key=price.__getitem__)}")
    usage = {"prompt_tokens": 20_000, "completion_tokens": 20_000}
    with serving(lambda _: choices("a", usage=usage)) as endpoint:
        found, caught = broken_off(opened(endpoint.url, price=price, concurrency=2), some(100))
        assert len(found) == len(endpoint.bodies) == 5
    assert [(one.read, one.tokens) for one in found] == [(20_000, 20_000)] * 5
    assert "0.1 of 0.1 has been spent, and the next request may cost up to 0.02" in str(caught)


def test_hostile_answers_are_kept_as_they_are(opened: Open) -> None:
    text = "\x1b[2J\x00</script>" + "é" * 1_000_000
    usage = {"prompt_tokens": -5, "completion_tokens": 10**30, "completion_tokens_details": {"reasoning_tokens": 7}}
    with serving(lambda _: choices(text, usage=usage)) as endpoint:
        (prediction,) = answers(opened(endpoint.url), some(1)).values()
    assert prediction.text == text
    assert (prediction.tokens, prediction.read, prediction.thought) == (0, 0, 0)


def test_concurrency_is_kept_to(opened: Open) -> None:
    with serving() as endpoint:
        endpoint.seconds = 0.01
        answers(opened(endpoint.url, concurrency=3), some(30))
        assert endpoint.most_in_flight == 3


def test_it_beats_while_it_waits(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BEAT_SECONDS", 0.01)
    beats: list[float] = []
    with serving() as endpoint:
        backend = opened(endpoint.url)
        monkeypatch.setattr(backend, "_beat", lambda: beats.append(time.monotonic()))
        endpoint.seconds = 0.3
        answers(backend, some(1))
    assert len(beats) > 10


def test_a_job_that_is_broken_off_leaves_nothing_on_its_way(opened: Open) -> None:
    with serving() as endpoint:
        backend = opened(endpoint.url, concurrency=2)
        endpoint.seconds = 0.02
        with closing(backend.answer(some(50))) as batches:  # type: ignore[type-var]  # a generator
            next(batches)
        assert len(endpoint.bodies) < 10
        assert len(answers(backend, some(3))) == 3


def test_a_job_that_nobody_waits_for_keeps_what_is_on_its_way(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "far@0" / "ask" / "shard.jsonl"
    with serving() as endpoint:
        backend = opened(endpoint.url, concurrency=4)
        backend.use_store(PartialStore(out))
        endpoint.more_seconds = {f"hello {n}": 0.3 for n in (1, 2)} | {"hello 3": 0.6}
        with closing(backend.answer(some(4))) as batches:  # type: ignore[type-var]  # a generator
            first = next(batches)
            assert len(first) < 4
            time.sleep(0.4)  # some come while nobody reads them, and one later
        (file,) = partial_files(out)
        assert len(first) + len(read_partial(file)) == endpoint.answered.total() == 4


def test_parts_of_answers_are_kept_and_not_asked_again(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "far@0" / "ask" / "shard.jsonl"
    requests = by_id([generate(f"hello {n}", temperature=1.0, samples=8) for n in range(3)])
    with serving(lambda body: choices(f"drawn with {body['seed']}", api="completions")) as endpoint:
        whole = answers(opened(endpoint.url, api="completions"), requests)
        endpoint.bodies.clear()
        endpoint.fault = lambda text, _: Fault("status", 401) if len(endpoint.bodies) > 13 else None
        backend = opened(endpoint.url, api="completions", concurrency=1)
        backend.use_store(PartialStore(out))
        found, _ = broken_off(backend, requests)
        assert len(found) < 3
        assert len(PartialStore(out).parts()) >= 13 - 8 * len(found)
        assert read_partial(*partial_files(out)) == []
        endpoint.fault = lambda *_: None
        left = {key: request for key, request in requests.items() if key not in {one.id for one in found}}
        backend = opened(endpoint.url, api="completions")
        backend.use_store(PartialStore(out))
        again = answers(backend, left)
        assert len(endpoint.bodies) == 24 + 1  # the one that was refused
    assert {one.id: one for one in found} | again == whole


def test_a_part_of_another_form_is_asked_again(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "far@0" / "ask" / "shard.jsonl"
    requests = by_id([generate("hello", temperature=1.0, samples=2)])
    (key,) = requests
    score = [[1, 1, None], "m", "", "", "", [-1.0, True]]
    parts = [Part(part=0, of=2, request=key, answer="?"), Part(part=1, of=2, request=key, answer=score)]
    parts += [Part(part=0, of=3, request=key, answer=[[1, 1, None], "m", "of three", "", "stop", None])]
    store = PartialStore(out)
    store.append(parts)
    assert store.parts() == parts
    with serving() as endpoint:
        backend = opened(endpoint.url, api="completions")
        backend.use_store(store)
        (prediction,) = answers(backend, requests).values()
        assert len(endpoint.bodies) == 2
    assert [output.text for output in prediction.samples] == ["re: hello"] * 2


def test_an_interrupt_keeps_what_has_arrived(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as endpoint:
        backend = opened(endpoint.url)
        take, taken = backends.Round.next, []

        async def interrupted(self: Any) -> list[Prediction]:
            if taken:
                while len(self.done) < 5:
                    await backends.asyncio.sleep(0.01)
                raise KeyboardInterrupt
            taken.append(await take(self))
            return taken[-1]

        monkeypatch.setattr(backends.Round, "next", interrupted)
        found, _ = broken_off(backend, some(500), KeyboardInterrupt)
    assert len(found) >= 6


@pytest.mark.slow
def test_with_faults_of_every_kind_nothing_is_lost_and_nothing_whole_is_asked_again(opened: Open) -> None:
    """Three in ten tries fail, each in a way of its own, at 64 at once, while answers take 1 to 10 seconds."""
    kinds = list(FAULTS.values())

    def fault(text: str, nth: int) -> Fault | None:
        drawn = random.Random(f"{text} {nth}")
        return drawn.choice(kinds) if drawn.random() < 0.3 else None

    requests = some(200)
    with serving(fault=fault) as endpoint:
        endpoint.more_seconds = {f"hello {n}": random.Random(n).uniform(1, 10) for n in range(200)}
        found = answers(opened(endpoint.url, timeout=12.0, concurrency=64), requests)
        assert set(endpoint.answered.values()) == {1}
        assert endpoint.most_in_flight >= 64  # those that are never answered stay
        assert sum(endpoint.asked.values()) > 230
    assert {key: found[key].text for key in requests} == {
        key: f"re: {request.messages[0].content}" for key, request in requests.items()
    }
