"""How far the answers of two models agree."""

import math

import pytest

from shardmark.records.prediction import Generated, Output, Sampled, Scored
from shardmark.scoring.agreement import agreement, apart


def scored(key: str, *logprobs: float, greedy: tuple[bool, ...] = (False, False)) -> Scored:
    return Scored(id=key, logprobs=list(logprobs), tokens=[1, 1], greedy=list(greedy), cut=0)


def written(key: str, text: str) -> Generated:
    return Generated(id=key, text=text, tokens=1, end="eos", cut=0)


def test_log_likelihoods_are_compared_choice_by_choice() -> None:
    one = {"a": scored("a", -1.0, -2.0), "b": scored("b", -3.0, -1.0, greedy=(False, True))}
    other = {"a": scored("a", -1.5, -2.0), "b": scored("b", -3.0, -4.0)}
    found = agreement(one, other)
    assert found.writing is None
    assert found.scoring is not None
    assert (found.scoring.requests, found.scoring.choices) == (2, 4)
    assert (found.scoring.largest, found.scoring.percentile) == (3.0, 3.0)
    assert found.scoring.mean == pytest.approx(3.5 / 4)
    assert (found.scoring.same_best, found.scoring.same_greedy) == (1, 3)
    assert not found.whole


def test_the_percentile_leaves_out_one_in_a_hundred() -> None:
    one = {str(n): scored(str(n), 0.0, 0.0) for n in range(100)}
    other = {str(n): scored(str(n), 0.0, -5.0 if n < 2 else -0.001 * n) for n in range(100)}
    found = agreement(one, other).scoring
    assert found is not None
    assert (found.largest, found.percentile) == (5.0, pytest.approx(0.099))


def test_texts_are_compared_by_the_first_token_that_differs() -> None:
    one = {"a": written("a", "1 2 3"), "b": written("b", "1 2"), "c": written("c", "x")}
    other = {"a": written("a", "1 2 4"), "b": written("b", "1 2 3"), "c": written("c", "x")}
    found = agreement(one, other, str.split).writing
    assert found is not None
    assert (found.requests, found.equal, found.first, found.median, found.unit) == (3, 1, 2, 2.0, "token")
    by_character = agreement(one, other).writing
    assert by_character is not None
    assert (by_character.first, by_character.unit) == (3, "character")


def test_every_sample_of_a_request_counts_and_so_do_special_tokens() -> None:
    def sampled(*texts: str) -> Sampled:
        return Sampled(id="a", samples=[Output(text=text, tokens=1, end="eos", cut=0) for text in texts])

    found = agreement({"a": sampled("x", "y")}, {"a": sampled("x", "z")}).writing
    assert found is not None
    assert (found.requests, found.equal) == (2, 1)
    marked = Generated(id="a", text="7", tokens=1, end="eos", cut=0, marks=[(0, "<think>")])
    found = agreement({"a": marked}, {"a": written("a", "7")}).writing
    assert found is not None
    assert found.equal == 0


def test_equal_answers_are_whole_and_have_no_difference() -> None:
    answers = {"a": scored("a", -1.0, -math.pi), "b": written("b", "x")}
    found = agreement(answers, answers)
    assert found.whole
    assert found.scoring is not None
    assert found.writing is not None
    assert (found.scoring.largest, found.writing.first, found.writing.median) == (0.0, None, None)


def test_answers_are_apart_by_their_log_likelihoods_or_not_the_same_text() -> None:
    assert apart(scored("a", -1.0, -2.0), scored("a", -1.25, -2.0)) == 0.25
    assert apart(scored("a", -1000.0, -2.0), scored("a", -1000.5, -2.0), relative=1e-3) == 0.0
    assert apart(scored("a", -math.inf, -2.0), scored("a", -math.inf, -2.0)) == 0.0
    assert apart(scored("a", -math.inf, -2.0), scored("a", -1.0, -2.0)) == math.inf
    assert apart(scored("a", math.nan, -2.0), scored("a", -1.0, -2.0)) == math.inf
    assert apart(written("a", "x"), written("a", "x")) == 0.0
    assert apart(written("a", "x"), written("a", "y")) == math.inf
    assert apart(written("a", "x"), scored("a", -1.0, -2.0)) == math.inf
