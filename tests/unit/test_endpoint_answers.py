"""What an endpoint answers is read strictly, and its counts are believed only as far as they can be true."""

import json
import math
from typing import Any

import pytest

from fake_endpoint import choices
from shardmark.engine.endpoints.answers import Malformed, NoLogprobs, Reply, Unfit, read_answer
from shardmark.engine.endpoints.failures import Failure, failure_of
from shardmark.engine.endpoints.questions import Question
from shardmark.engine.tokens import ScoredRow


def question(**facts: Any) -> Question:
    usual: dict[str, Any] = {"request": "r", "part": 0, "body": {}, "read": 100, "write": 50}
    return Question(**(usual | facts))


def read(told: Any, api: str = "chat", **facts: Any) -> Any:
    content = told if isinstance(told, bytes) else json.dumps(told).encode()
    return read_answer(content, question(**facts), api)


def message(**values: Any) -> dict[str, Any]:
    return choices("") | {"choices": [{"message": values, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "filter"),
        ("sensitive", "filter"),
    ],
)
def test_it_says_how_a_text_ended(reason: str, end: str) -> None:
    assert read(choices("a", reason=reason)).end == end
    assert read(choices("a", reason=reason, api="completions"), api="completions").end == end


def test_an_end_that_nobody_knows_is_named() -> None:
    with pytest.raises(Unfit, match="'tool_calls'"):
        read(choices("a", reason="tool_calls"))


def test_a_refusal_is_an_answer_that_says_so() -> None:
    reply = read(message(content=None, refusal="I can't"))
    assert (reply.text, reply.end) == ("I can't", "refusal")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thoughts_stand_beside_the_answer(key: str) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 30}}
    body = message(content="7", **{key: "3 and 4"}) | {
        "usage": {"prompt_tokens": 5, "completion_tokens": 32, **details}
    }
    reply = read(body)
    assert (reply.text, reply.reasoning, reply.usage.thought, reply.usage.written) == ("7", "3 and 4", 30, 32)
    assert read(message(content=None, **{key: "cut"})).text == ""


def test_a_message_in_parts_is_put_together() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "7"}]
    reply = read(message(content=parts))
    assert (reply.text, reply.reasoning) == ("7", "hm")


def test_a_refusal_may_be_a_part() -> None:
    reply = read(message(content=[{"type": "refusal", "refusal": "I can't"}]))
    assert (reply.text, reply.end) == ("I can't", "refusal")
    with pytest.raises(Malformed, match="refusal is list"):
        read(message(content=None, refusal=["I can't"]))


@pytest.mark.parametrize("call", [{"tool_calls": [{"function": {"name": "f"}}]}, {"function_call": {"name": "f"}}])
@pytest.mark.parametrize("content", [None, "let me look"])
def test_a_call_of_a_tool_is_no_answer_whatever_it_says_that_ended_it(call: Any, content: Any) -> None:
    with pytest.raises(Unfit, match="calls a tool") as caught:
        read(message(content=content, **call))
    assert "extra_body" in caught.value.fix


def test_a_text_ends_before_its_first_stop_string() -> None:
    reply = read(choices("one\nQ: two\n", reason="length"), stop=("\n", "Q:"))
    assert (reply.text, reply.end) == ("one", "stop")


def test_a_stop_string_ends_a_text_however_few_tokens_it_has() -> None:
    answer = choices("a\nb\n") | {"usage": {"completion_tokens": 4}}
    for least in (3, 5):
        assert read(answer, stop=("\n",), least=least).text == "a"
    with pytest.raises(Unfit, match="ignores min_tokens"):
        read(answer, least=5)


def test_no_stop_string_counts_within_a_thought() -> None:
    body = choices("<think>a\nb</think>\nc\nd", reason="length")
    assert read(body, stop=("\nd", "\nb"), thinks=True).text == "<think>a\nb</think>\nc"
    assert read(body, stop=("\nb",)).text == "<think>a"
    cut = read(choices("a\nb", reason="length"), stop=("\n",), thinks=True, opened="<think>")
    assert (cut.text, cut.end) == ("a\nb", "length")


@pytest.mark.parametrize(
    ("choice", "end"),
    [
        ({"finish_reason": "content_filter", "message": {"role": "assistant"}}, "filter"),
        ({"finish_reason": "length", "message": None}, "length"),
        ({"finish_reason": "content_filter: PROHIBITED_CONTENT", "message": {"content": ""}}, "filter"),
        ({"finish_reason": "SAFETY", "message": {"role": "assistant"}}, "filter"),
        ({"finish_reason": "STOP", "message": {"content": ""}}, "stop"),
    ],
)
def test_an_answer_without_a_text_says_why(choice: dict[str, Any], end: str) -> None:
    reply = read({"choices": [choice]})
    assert (reply.text, reply.end) == ("", end)


def test_thoughts_beside_the_count_of_an_answer_are_added() -> None:
    usage = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 51}
    details = {"completion_tokens_details": {"reasoning_tokens": 10}}
    assert read(choices("a") | {"usage": usage | details}).usage == (32, 19, 10)
    within = usage | {"completion_tokens": 19, "total_tokens": 51}
    assert read(choices("a") | {"usage": within | details}).usage == (32, 19, 10)


@pytest.mark.parametrize(
    "count", [-1, 10**18, 10**400, 3.5, "3", True, None, [3], {"a": 1}, math.nan], ids=lambda value: str(value)[:5]
)
def test_a_count_that_cannot_be_is_none(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "completion_tokens_details": {"reasoning_tokens": 1}}
    assert read(choices("a") | {"usage": usage}).usage == (None, None, None)


@pytest.mark.parametrize(("text", "counts"), [("a", (0, 0)), ("word " * 2000, (0, 1))])
def test_a_count_of_fewer_tokens_than_there_are_is_none(text: str, counts: tuple[int, int]) -> None:
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
    assert read(choices(text) | {"usage": usage}).usage == (None, None, None)
    assert read(choices("") | {"usage": {"prompt_tokens": 7.0, "completion_tokens": 0}}).usage == (7, 0, None)


def test_a_number_of_thousands_of_digits_costs_no_answer() -> None:
    body = json.dumps(choices("a") | {"usage": {"prompt_tokens": 123}}).replace("123", "9" * 5000)
    assert read(body.encode()).usage.read is None


@pytest.mark.parametrize("usage", [None, [], "3", 3, {"completion_tokens_details": 3}])
def test_usage_of_another_form_is_none(usage: Any) -> None:
    assert read(choices("a") | {"usage": usage}).usage == (None, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"choices": [' + b"[" * 100_000,
        b"\xff\xfe{}",
        json.dumps(choices("a", "b")).encode(),
        json.dumps(choices()).encode(),
        json.dumps(choices("a", reason=None)).encode(),
        json.dumps(choices("a", reason="error")).encode(),
        json.dumps(choices("a") | {"choices": "a"}).encode(),
        json.dumps(message(content=3)).encode(),
        json.dumps(message()).encode(),
        json.dumps(message(content=[{"type": "image"}])).encode(),
    ],
    ids=range(13),
)
def test_what_is_no_whole_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(body)


def test_a_page_instead_of_an_answer_is_quoted() -> None:
    with pytest.raises(Malformed, match="begins with '<html> Bad gateway'"):
        read(b"<html>\n  Bad gateway")
    with pytest.raises(Malformed, match="insufficient balance"):
        read({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}})


def test_control_characters_and_half_emojis_do_not_break_it() -> None:
    text = "\x00\x1b[2J</script>\ud83d" + "x" * 2_000_000
    assert read(choices(text)).text == text.replace("\ud83d", "\ufffd")
    reply = read(choices("a", model="m\n" * 5000, system_fingerprint=["\x1b"]))
    assert reply.served.isprintable()
    assert len(reply.served) < 500


def test_it_tells_what_is_served() -> None:
    assert read(choices("a", model="gpt 9", system_fingerprint=None)).served == "gpt_9"
    assert read(choices("a")).served == "fake-1 fp_1"
    assert read(choices("a", provider="Deep Infra")).served == "fake-1 Deep_Infra fp_1"


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            {"error": {"message": "m", "code": "c", "param": "p", "type": "t"}},
            Failure("m", "c", "p"),
        ),
        ({"error": {"message": "m", "code": 429, "type": "t"}}, Failure("m", "t", "", 429)),
        ({"error": {"message": "m", "param": "body.stop.0"}}, Failure("m", "", "stop")),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, Failure("m")),
        ({"error": "m"}, Failure("m")),
        ({"error": {"message": "m", "code": "429"}}, Failure("m", "", "", 429)),
        ({"error": {"message": "m", "code": -1}}, Failure("m", "-1")),
        ({"detail": [{"loc": ["body", "seed"]}]}, Failure("[{'loc': ['body', 'seed']}]", "", "seed")),
        (
            {"detail": [{"loc": ["body", "top_k"], "msg": "stop it", "type": "x"}]},
            Failure("top_k: stop it", "x", "top_k"),
        ),
        ({"error": {"code": "rate_limit_exceeded"}}, Failure("{'code': 'rate_limit_exceeded'}", "", "", 429)),
        ({"object": "error", "message": "m", "code": 400}, Failure("m")),
        ([{"error": {"message": "m", "code": 429, "status": "EXHAUSTED"}}], Failure("m", "", "", 429)),
        ("m", Failure("m")),
    ],
)
def test_errors_are_read_in_all_forms(body: Any, failure: Failure) -> None:
    assert failure_of(json.dumps(body).encode()) == failure


def test_an_error_may_come_as_a_success() -> None:
    assert read({"object": "error", "message": "not loaded", "code": 503}).message == "not loaded"
    assert read({"detail": "nope"}) == Failure("nope")
    assert read({"error": {"message": "overloaded", "code": 502}}) == Failure("overloaded", "", "", 502)
    assert read({"error": {"message": "overloaded", "code": 502}, "choices": []}).status == 502


ROW = ScoredRow([5, 6, 7], [7, 8], 0)
"Tokens 7 and 8 are scored after 5 and 6."


def scored(**choice: Any) -> Any:
    told = choices("x", api="completions") | {"choices": [{"text": "x", "finish_reason": "length", **choice}]}
    return read(told, "completions", body={"prompt": [5, 6, 7, 8]}, row=ROW)


def echoed(values: list[Any], tops: list[Any]) -> dict[str, Any]:
    return {"logprobs": {"tokens": ["t"] * len(values), "token_logprobs": values, "top_logprobs": tops}}


def test_log_probabilities_of_an_echo_are_those_of_the_scored_tokens() -> None:
    tops = [None, {"f": -1.0}, {"g": -2.0}, {"h": -3.0}, {"i": -9.0}]
    reply = scored(**echoed([None, -1.0, -2.0, -3.0, -9.0], tops))
    assert isinstance(reply, Reply)
    assert reply.score == (-5.0, True)
    assert scored(**echoed([None, -1.0, -2.0, -3.0], tops[:4])).score == (-5.0, True)
    tops[2] = {"g": -2.0, "other": -1.5}
    assert scored(**echoed([None, -1.0, -2.0, -3.0, -9.0], tops)).score == (-5.0, False)


def test_prompt_logprobs_are_those_of_the_prompts_ids() -> None:
    def known(token: int, value: float, rank: int = 1) -> dict[str, Any]:
        return {str(token): {"logprob": value, "rank": rank}, "99": {"logprob": 0.0, "rank": 1}}

    found = [None, known(6, -1.0), known(7, -2.0), known(8, -3.0, rank=2)]
    assert scored(prompt_logprobs=found).score == (-5.0, False)
    with pytest.raises(NoLogprobs, match="token 8"):
        scored(prompt_logprobs=[*found[:3], known(9, -3.0)])
    with pytest.raises(NoLogprobs, match="no rank"):
        scored(prompt_logprobs=[*found[:3], {"8": {"logprob": -3.0}}])


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": {}},
        echoed([], []),
        echoed([-9.0], [{"i": -9.0}]),
        echoed([None, -1.0, -2.0], [None, {}, {}]),
        echoed([None, -1.0, -2.0, -3.0], [None]),
        echoed([None, -1.0, -2.0, -3.0], [None, None, None, None]),
        echoed([None, 0.0, 0, -0.0], [None, {"t": 0.0}, {"t": 0.0}, {"t": 0.0}]),
        {"prompt_logprobs": [None, None]},
    ],
)
def test_an_answer_without_the_prompts_log_probabilities_is_none(choice: dict[str, Any]) -> None:
    with pytest.raises(NoLogprobs):
        scored(**choice)


@pytest.mark.parametrize("value", [None, math.nan, -math.inf, -1e308, "-1", True, 0.5])
def test_a_log_probability_is_a_finite_number(value: Any) -> None:
    tops = [None, *[{"t": 0.0}] * 3]
    with pytest.raises(NoLogprobs, match="the log-probability of a token is"):
        scored(**echoed([None, -1.0, value, -3.0], tops))
