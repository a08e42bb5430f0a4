"""Foreign text on the terminal: seen, not obeyed."""

import io
import logging

import pytest
from rich.console import Console

from shardmark.command import Redacting
from shardmark.errors import Problem, UserError
from shardmark.printable import printable, redacted
from shardmark.tools.catalogue import Catalogue, Entry, print_catalogue

HOSTILE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\u202eb",
    "\u2066x\u2069",
    "\x9b31m",
    "\ufeff",
    "\r over",
    "\b\b",
    "\ud800",
    "\x00",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_is_obeyed_wherever_it_stands(text: str) -> None:
    problem = Problem(text, text, text, text, text)
    entry = Entry("datasets", text, text, True, text, text, text)
    told = io.StringIO()
    found = Catalogue([entry, Entry("models", "m", "m", False, problems=[problem])], [problem])
    print_catalogue(found, Console(file=told, width=200))
    for shown in (printable(text), str(problem), str(UserError([problem, problem])), told.getvalue()):
        assert all(c.isprintable() or c == "\n" for c in shown), ascii(shown)
        shown.encode()


@pytest.mark.parametrize("text", ["plain", "日本語 、　全角", "naïve\tтекст\nnext", "🙂", "a\u00a0b"])
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_abcdefghijKL1234 is refused", "token hf_*** is refused"),
        ("proxy http://name:pa55word@proxy:3128/ fails", "proxy http://***@proxy:3128/ fails"),
        ("HTTPS://name@host", "HTTPS://***@host"),
        ("authorization: Bearer abcdef0123456789", "authorization: Bearer ***"),
        ("what the variable holds: s3cr3t-0f-mine", "what the variable holds: ***"),
        ("hf://datasets/org/d@main/test.jsonl, me@example.org", "hf://datasets/org/d@main/test.jsonl, me@example.org"),
        ("basic questions of hf_hub_download", "basic questions of hf_hub_download"),
    ],
)
def test_tokens_and_passwords_are_not_shown(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cr3t-0f-mine")
    assert redacted(text) == shown
    assert str(Problem("f", "", text)) == f"f: {redacted(text)}"


def test_a_log_shows_no_token_in_a_traceback_either() -> None:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(Redacting("%(message)s"))
    try:
        raise ValueError("http://name:pa55word@proxy refuses hf_abcdefghijKL1234")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "asked %s", ("hf_abcdefghijKL1234",), None)
        record.exc_info = type(error), error, error.__traceback__
        handler.emit(record)
    assert "asked hf_***" in told.getvalue()
    assert "http://***@proxy refuses hf_***" in told.getvalue()
    assert "pa55word" not in told.getvalue()
