"""Templates and patterns are stopped when they take too long, whatever they are made of."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asked import generate
from shardmark.filters import FILTERS as OURS
from shardmark.filters.base import Filter
from shardmark.filters.chain import filter_steps
from shardmark.records.dataset import TaskLine
from shardmark.records.prediction import Generated
from shardmark.scoring.lm_eval.filters import FILTERS
from shardmark.scoring.sample_scores import Judging, judge, measure
from shardmark.untrusted import limits
from shardmark.untrusted.limits import BoundError, bounded, bounded_steps
from shardmark.untrusted.templates import Expression, RenderError, Template

SLOW = "a" * 40 + "!"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def our(name: str, **settings: str) -> Filter:
    return OURS[name].model_validate({"name": name, **settings})


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.bounded_steps.__wrapped__, "__defaults__", (limits.MEMORY_BYTES, 0.1))


@pytest.fixture(autouse=True)
def _dropped_exceptions_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the signal raises in a finalizer is dropped by Python, and raised again at the next tick: no failure.

    pytest's own hook imports modules; the next tick may come in the midst of it, which pytest reports as an error.
    """
    report = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, limits.TooLong):
            report(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", hook)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", "(?=(a+)+$)", "(?:a?){40}a{41}b|(a|a)*$", "(.*a){25}b"]
)
def test_a_pattern_without_end_is_an_error_that_names_its_filter(pattern: str) -> None:
    with pytest.raises(BoundError, match=r"it took longer than 0.1 s") as raised:
        filter_steps([SLOW], [our("strip"), our("regex", pattern=pattern)], {})
    assert raised.value.key == "filters.1.pattern"


def test_a_template_filter_without_end_is_an_error() -> None:
    with pytest.raises(BoundError) as raised:
        filter_steps(["x"], [our("template", template=LOOPS)], {}, "chains.strict")
    assert raised.value.key == "chains.strict.0.template"


def task(sample: str) -> TaskLine:
    return TaskLine(sample=sample, request="r", target=["1"], row={})


def test_a_pattern_of_a_metric_names_the_sample() -> None:
    metric = {"name": "exact_match", "label": None, "chain": None, "ignore_patterns": ["(a+)+$"]}
    settings = Judging(kind="generate", filters=[], chains={}, metrics=[metric], cluster_by=None)
    answers = [Generated(id="r", text=text, tokens=1, end="stop", cut=0) for text in ("fine", SLOW)]
    judged = [judge(task(f"s{n}"), generate("?"), a, settings) for n, a in enumerate(answers)]
    with pytest.raises(BoundError) as raised:
        measure(settings, judged)
    assert (raised.value.place, raised.value.key) == ("sample s1", "metrics.exact_match.ignore_patterns")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("regex", {"regex_pattern": "(a+)+$"}),
        ("multi_choice_regex", {"regex_pattern": "(a+)+$"}),
        ("multi_choice_regex", {"regex_pattern": "x", "regexes_to_ignore": ["(a+)+$"]}),
    ],
)
def test_patterns_of_lm_eval_are_bounded(name: str, options: dict[str, object]) -> None:
    with pytest.raises(BoundError, match="took longer") as raised:
        FILTERS[name]([["fine"], [SLOW]], [{"choices": ["x"]}] * 2, **options)
    assert (raised.value.key, raised.value.item) == (list(options)[-1], 1)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ([1]|slice(100000000)|sum(start=[])) ~ '' }}",
        "{{ [1]|slice(100000000)|list|length }}",
        "{{ ('a\\t').expandtabs(10**9)|length }}",
        "{{ 'x' * 10**10 }}",
        "{{ 'x'.center(10**11) }}",
        "{{ 'x'.ljust(10**11) }}",
        "{{ 'x'|center(10**10) }}",
        "{{ '%3000000000d' % 1 }}",
        "{{ '{:>3000000000}'.format(1) }}",
        "{{ 'a'|indent(10**10) }}",
        "{{ ('a ' * 10**6)|wordwrap(1)|length }}",
        "{{ range(99999)|map('string')|join('x' * 10**6) }}",
        LOOPS,
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_no_template_takes_all_time_or_memory(source: str, lazily: bool) -> None:
    """Neither while it is compiled nor when it is rendered."""
    started = time.process_time()
    with pytest.raises((RenderError, BoundError)) as raised, bounded_steps() as step, step.at("d.yaml: row 3"):
        Template(("{{ x }}" if lazily else "") + source, "prompt")({"x": 1})
    assert raised.value.key == "prompt"
    assert "took" in str(raised.value)
    assert time.process_time() - started < 20


@pytest.mark.parametrize("source", ["(10**100)**100**2", "10**100 * 10**100 * (10**100)**99 * 10**9000 * 10**10000"])
def test_numbers_that_nothing_could_stop_are_refused(source: str) -> None:
    with pytest.raises(RenderError, match="OverflowError"):
        Expression(source)({})


@pytest.mark.parametrize("source", ["{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "9" * 6000 + " }}"])
def test_what_python_cannot_compile_is_no_valid_template(source: str) -> None:
    with pytest.raises(RenderError, match="not a valid template"):
        Template(source)


def test_who_drops_the_exception_gets_it_again_and_the_step_still_fails() -> None:
    def stubborn() -> None:
        for _ in range(3):
            try:
                while sum(range(10)):
                    pass
            except BaseException:
                continue

    with pytest.raises(BoundError), bounded_steps() as step, step:
        stubborn()


def test_a_step_that_was_stopped_does_not_stop_the_next() -> None:
    with bounded_steps() as step:
        for _ in range(2):
            with pytest.raises(RenderError), step:
                Template(LOOPS)({})
            with step:
                assert Template("{{ 1 }}")({}) == "1"


def test_a_step_within_a_step_is_part_of_it() -> None:
    def work() -> None:
        with bounded("inner"):
            pass
        while sum(range(10)):
            pass

    with pytest.raises(BoundError), bounded_steps() as step, step:
        work()


def test_time_that_others_take_does_not_count() -> None:
    with bounded_steps() as step, step:
        time.sleep(0.3)


def test_what_no_signal_interrupts_ends_the_process_with_a_message(tmp_path: Path) -> None:
    code = f"""
import logging, sys
sys.path[:0] = {sys.path}
from shardmark.untrusted import watcher
from shardmark.untrusted.limits import bounded_steps
from shardmark.untrusted.templates import Template
watcher.SECONDS = 1
logging.basicConfig(filename={str(tmp_path / "log")!r})
grow = "{{% set n = namespace(x=[1], y=[1]) %}}{{% for i in range(60) %}}"
grow += "{{% set n.x = [n.x, n.x] %}}{{% set n.y = [n.y, n.y] %}}{{% endfor %}}"
with bounded_steps(seconds=0.5) as step, step.at("d.yaml: row 3"):
    Template(grow + "{{{{ n.x == n.y }}}}", "prompt")({{}})
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert ended.returncode == -signal.SIGKILL
    for told in (ended.stderr, (tmp_path / "log").read_text()):
        assert told.startswith("d.yaml: row 3: prompt: it took longer than 1 s and could not be interrupted")
