"""Requests keep their ids: predictions are found by them."""

import json
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asked import chat, choice, generate, rolling, said
from shardmark.files import json_line, sha256
from shardmark.records.base import Unreadable, decode, to_json
from shardmark.records.request import ChoiceRequest, Message, Request, RollingRequest
from shardmark.tasks import request_id
from shardmark.tasks.requests import request_line, shared_characters

DRAWN = {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "seed": 2**70, "samples": 5, "min_new_tokens": 2}
PINNED: dict[str, Request] = {
    "0d4d428c96a0019294a825228ccd68a4e24d27c0878935cfbe9f508c5f6b1c5a": generate("Q: 1+1?\nA:", 256),
    "80c5d7aa4d417f9f644dfb87b55edb64a513538afd4f1f927ac9d69dc2ec2327": generate("é\ud800", 8, ["\n", "é"], **DRAWN),
    "6c8ceeaa603e32d01ebccaaa21aab5653c0279382722a1dbe25f93040e0ac970": chat(("system", "s"), ("user", "😀"), new=1),
    "84daf1c987aaa177896275da08cd00b4eaa5cdfc91a437406d87add7c4379937": choice(
        ("a", " b"), ("", said(("user", "x"))), (said(("user", "y")), " c")
    ),
    "e30592393b88e84527cd8cac9395dfc3f4aecae25ebaa2c653256e470f628d26": rolling("a long\u2028text"),
}
"The ids that these questions had when requests were dictionaries."


@pytest.mark.parametrize("key", PINNED)
def test_a_request_has_the_id_that_it_always_had(key: str) -> None:
    assert request_id(PINNED[key]) == key


@pytest.mark.parametrize("key", PINNED)
def test_the_line_of_a_request_is_what_json_writes(key: str) -> None:
    assert request_line(key, PINNED[key]) == json_line({"id": key, **to_json(PINNED[key])}).encode()


@pytest.mark.parametrize("key", PINNED)
def test_a_request_is_read_as_it_was_written(key: str) -> None:
    back = decode(json.dumps(to_json(PINNED[key])), Request)  # type: ignore[arg-type]
    assert back == PINNED[key]
    assert request_id(back) == key


def test_what_equals_its_default_is_left_out_however_it_was_computed() -> None:
    given = generate("x", temperature=float("0"), top_p=float("1"), seed=int("0"))
    assert to_json(given) == {"kind": "generate", "max_new_tokens": 8, "stop": [], "prompt": "x"}
    assert request_id(given) == request_id(generate("x"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"kind": "generate", "prompt": "x", "max_new_tokens": 8, "stop": [], "temprature": 1.0}', "temprature"),
        ('{"kind": "generate", "prompt": "x", "stop": []}', "max_new_tokens"),
        ('{"kind": "generate", "max_new_tokens": 8, "stop": []}', "either a prompt or messages"),
        ('{"kind": "choice", "pairs": [["a"]]}', r"pairs\[0\]"),
        ('{"kind": "rolling", "text": 5}', "text"),
        ('{"kind": "other"}', "kind"),
    ],
)
def test_what_is_no_request_is_refused_by_its_key(text: str, key: str) -> None:
    with pytest.raises(Unreadable, match=key):
        decode(text, Request)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.text(st.characters()), st.text()), min_size=1, max_size=3))
def test_the_id_is_the_digest_of_the_canonical_json_however_it_is_computed(pairs: list[tuple[str, str]]) -> None:
    for request in (ChoiceRequest(pairs=pairs), RollingRequest(text=pairs[0][0])):
        assert request_id(request) == sha256(to_json(request))


@pytest.mark.parametrize("text", [chr(number) for number in range(160)] + ["\ud800", "\u2028", "é", "💚"])
def test_each_control_character_is_written_as_ever(text: str) -> None:
    request = ChoiceRequest(pairs=[(text, " a"), (f"{text}b", [Message(role="user", content=text)])])
    assert request_id(request) == sha256(to_json(request))


@given(st.lists(st.text(alphabet="ab💚", max_size=9), max_size=4))
def test_shared_characters_are_those_of_the_common_beginning(texts: list[str]) -> None:
    columns = zip(*texts, strict=False)
    assert shared_characters(texts) == sum(1 for _ in takewhile(lambda column: len({*column}) == 1, columns))
