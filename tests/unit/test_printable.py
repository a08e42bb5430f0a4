"""Foreign text on the terminal: seen, not obeyed."""

import io

import pytest
from rich.console import Console

from shardmark.errors import Problem, UserError
from shardmark.printable import printable
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
